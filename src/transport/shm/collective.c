/* SPDX-License-Identifier: Apache-2.0 */
/* Small collectives through messages alone. */
#include "transport/shm/collective.h"

#include "core/error.h"
#include "transport/deadline.h"
#include "transport/fault.h"
#include "transport/shm/signal.h"

#include <string.h>

moxie_status_t shm_agree(shm_transport_t *transport, moxie_status_t local)
{
    shm_message_t *message;
    const moxie_error_t error = *error_detail();
    const moxie_status_t status =
        signal_begin(&transport->group_channel, SHM_OP_BARRIER, 0, &message);
    if (status == MOXIE_OK && local != MOXIE_OK) {
        error_adopt(&error);
    }
    return status != MOXIE_OK ? status : signal_meet(transport, local);
}

moxie_status_t shm_barrier(shm_transport_t *transport)
{
    return shm_agree(transport, MOXIE_OK);
}

/* One message of an allgather: `bytes` of the whole, which all ranks must agree on. */
typedef struct allgather_body {
    uint64_t total_bytes;
    unsigned char data[];
} allgather_body_t;

static moxie_status_t gather_piece(shm_transport_t *transport, const char *in, size_t total_bytes,
                                   size_t done, size_t bytes, char *out)
{
    shm_message_t *message;
    moxie_status_t status = signal_begin(&transport->group_channel, SHM_OP_ALLGATHER, 0, &message);
    if (status != MOXIE_OK) {
        return status;
    }
    allgather_body_t *body = (allgather_body_t *)message->body;
    message->body_bytes = (uint32_t)(sizeof(*body) + bytes);
    body->total_bytes = total_bytes;
    memcpy(body->data, in + done, bytes);
    status = signal_meet(transport, MOXIE_OK);
    if (status == MOXIE_OK) {
        status = signal_check_bodies(transport, sizeof(*body));
    }
    for (int32_t rank = 0; rank < transport->rank_count && status == MOXIE_OK; rank++) {
        const allgather_body_t *theirs =
            (const allgather_body_t *)signal_message(transport, rank)->body;
        const allgather_body_t *first =
            (const allgather_body_t *)signal_message(transport, 0)->body;
        if (theirs->total_bytes != first->total_bytes) {
            error_set(MOXIE_ERR_MISMATCH, "allgather: rank %d gives %llu bytes and rank 0 %llu",
                      rank, (unsigned long long)theirs->total_bytes,
                      (unsigned long long)first->total_bytes);
            error_detail()->rank = 0;
            error_detail()->peer = rank;
            return MOXIE_ERR_MISMATCH;
        }
        memcpy(out + (size_t)rank * total_bytes + done, theirs->data, bytes);
    }
    return status;
}

moxie_status_t shm_allgather(shm_transport_t *transport, const void *in, size_t bytes, void *out)
{
    const size_t piece_bytes = SHM_BODY_BYTES - sizeof(allgather_body_t);
    moxie_status_t status = MOXIE_OK;
    size_t done = 0;
    do {
        const size_t left = bytes - done;
        const size_t piece = left < piece_bytes ? left : piece_bytes;
        status = gather_piece(transport, in, bytes, done, piece, out);
        done += piece;
    } while (status == MOXIE_OK && done < bytes);
    return status;
}

moxie_status_t shm_rounds_begin(shm_transport_t *transport, const char *op_name)
{
    const int64_t first = transport->first_timeout_us;
    transport->channel = &transport->group_channel;
    transport->op_name = op_name;
    recorder_begin(&transport->recorder, op_name, 0);
    transport->deadline_ns = deadline_after_us(first > 0 ? first : transport->timeout_us);
    fault_point(transport->rank, NULL, "window");
    return signal_check(transport, op_name);
}

moxie_status_t shm_round(shm_transport_t *transport, const char *phase, const char *what,
                         const void *data, uint32_t bytes, int fd, moxie_status_t local)
{
    bootstrap_part_t mine = {.bytes = bytes, .fds = {fd, -1}};
    memcpy(mine.data, data, bytes);
    moxie_error_t failure = *error_detail();
    failure.rank = failure.rank < 0 ? transport->rank : failure.rank;
    const moxie_status_t status =
        bootstrap_allgather(transport->bootstrap, &mine, local == MOXIE_OK ? NULL : &failure,
                            transport->deadline_ns, transport->parts);
    if (status != MOXIE_OK) {
        error_default_phase(transport->op_name, phase);
        /* Out of step: no rank can go on. A refusal is the same error for all, who go on. */
        return bootstrap_is_broken(transport->bootstrap) ? signal_fail(transport) : status;
    }
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        if (transport->parts[rank].bytes != bytes) {
            bootstrap_close_fds(transport->parts, transport->rank_count);
            error_set(MOXIE_ERR_PROTOCOL, "rank %d described its %s wrongly", rank, what);
            error_detail()->peer = rank;
            return MOXIE_ERR_PROTOCOL;
        }
    }
    return MOXIE_OK;
}
