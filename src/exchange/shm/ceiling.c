/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ceiling: rows copied to all peers at once, through the same windows and with the same two
 * waits as an exchange, but with no routing, no metadata and no sums.
 */
#include "core/error.h"
#include "exchange/shm/shm.h"
#include "transport/deadline.h"
#include "transport/shm/signal.h"
#include "transport/shm/window.h"

#include <inttypes.h>
#include <string.h>

typedef struct ceiling_body {
    shm_buffer_t destination;
    int64_t row_count; /* that the destination holds */
    int64_t row_bytes;
    int32_t streaming;
    int32_t reserved;
    int64_t rows_to_peer[]; /* [rank_count] */
} ceiling_body_t;

static moxie_status_t check(const moxie_group_t *group, const moxie_ceiling_in_t *in)
{
    int64_t total = 0;
    for (int32_t rank = 0; in->rows_to_peer != NULL && rank < group->rank_count; rank++) {
        total += in->rows_to_peer[rank] > 0 ? in->rows_to_peer[rank] : 0;
    }
    if (in->rows_to_peer == NULL || in->row_bytes < 1 || in->destination_row_count < 0 ||
        (total > 0 && (in->source == NULL || in->source_row_count < 1))) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: ceiling: rows are missing", group->rank);
    }
    return MOXIE_OK;
}

static moxie_status_t write_body(const moxie_group_t *group, const moxie_ceiling_in_t *in,
                                 shm_message_t *message)
{
    ceiling_body_t *body = (ceiling_body_t *)message->body;
    moxie_status_t status = check(group, in);
    if (status != MOXIE_OK) {
        return status;
    }
    message->body_bytes = (uint32_t)(sizeof(*body) + sizeof(int64_t) * (size_t)group->rank_count);
    body->row_count = in->destination_row_count;
    body->row_bytes = in->row_bytes;
    body->streaming = in->streaming;
    memcpy(body->rows_to_peer, in->rows_to_peer, sizeof(int64_t) * (size_t)group->rank_count);
    return shm_buffer_name(shm_of(group)->transport, in->destination,
                           (uint64_t)(in->destination_row_count * in->row_bytes), "destination",
                           &body->destination);
}

static const ceiling_body_t *body_of(const shm_transport_t *transport, int32_t rank)
{
    return (const ceiling_body_t *)signal_message(transport, rank)->body;
}

/* Rows that go to a rank need a buffer there: the same verdict on every rank. */
static moxie_status_t check_destinations(const moxie_group_t *group)
{
    const shm_transport_t *transport = shm_of(group)->transport;
    for (int32_t peer = 0; peer < group->rank_count; peer++) {
        int has_rows = 0;
        for (int32_t rank = 0; rank < group->rank_count; rank++) {
            const int64_t rows = body_of(transport, rank)->rows_to_peer[peer];
            if (rows < 0) {
                error_set(MOXIE_ERR_ARGUMENT, "rank %d sends %" PRId64 " rows to rank %d", rank,
                          rows, peer);
                error_detail()->rank = rank;
                error_detail()->peer = rank;
                return MOXIE_ERR_ARGUMENT;
            }
            has_rows |= rows > 0;
        }
        if (has_rows && !body_of(transport, peer)->destination.present) {
            error_set(MOXIE_ERR_ARGUMENT, "rank %d gave no destination for the rows it is sent",
                      peer);
            error_detail()->rank = peer;
            error_detail()->peer = peer;
            return MOXIE_ERR_ARGUMENT;
        }
    }
    return MOXIE_OK;
}

/* One peer's buffer, and the next row of it that this rank writes. */
typedef struct ceiling_peer {
    char *base;
    uint64_t row_count;
    uint64_t next_row; /* begins behind the rows of the ranks before this one; modulo row_count */
} ceiling_peer_t;

static moxie_status_t open_peers(const moxie_group_t *group, const moxie_ceiling_in_t *in,
                                 ceiling_peer_t *peers)
{
    shm_transport_t *transport = shm_of(group)->transport;
    for (int32_t peer = 0; peer < group->rank_count; peer++) {
        const ceiling_body_t *body = body_of(transport, peer);
        const int64_t row_count = body->row_count;
        uint64_t bytes;
        void *base;
        if (row_count < 0 || (row_count == 0 && in->rows_to_peer[peer] > 0) ||
            __builtin_mul_overflow(row_count, in->row_bytes, &bytes)) {
            error_set(MOXIE_ERR_PROTOCOL, "rank %d says it has room for %" PRId64 " rows", peer,
                      row_count);
            error_detail()->peer = peer;
            return MOXIE_ERR_PROTOCOL;
        }
        const moxie_status_t status =
            shm_buffer_map(transport, peer, &body->destination, bytes, &base);
        if (status != MOXIE_OK) {
            return status;
        }
        peers[peer] = (ceiling_peer_t){.base = base, .row_count = (uint64_t)row_count};
        for (int32_t rank = 0; rank < group->rank; rank++) {
            peers[peer].next_row += (uint64_t)body_of(transport, rank)->rows_to_peer[peer];
        }
    }
    return MOXIE_OK;
}

/* Row by row, each read once and written to every peer that it goes to: an exchange that read rows
 * again for each peer would be no ceiling. */
static void copy_rows(const moxie_group_t *group, const moxie_ceiling_in_t *in,
                      ceiling_peer_t *peers)
{
    const rows_kernels_t *rows = shm_of(group)->rows;
    const size_t row_bytes = (size_t)in->row_bytes;
    int is_left = 1;
    for (int64_t i = 0; is_left; i++) {
        is_left = 0;
        for (int32_t k = 0; k < group->rank_count; k++) {
            const int32_t peer = (group->rank + k) % group->rank_count;
            ceiling_peer_t *to = &peers[peer];
            if (i >= in->rows_to_peer[peer]) {
                continue;
            }
            const char *from =
                (const char *)in->source + (size_t)(i % in->source_row_count) * row_bytes;
            char *place = to->base + (size_t)(to->next_row++ % to->row_count) * row_bytes;
            if (in->streaming) {
                rows->copy_stream(place, from, row_bytes);
            } else {
                memcpy(place, from, row_bytes);
            }
            is_left = 1;
        }
    }
}

moxie_status_t shm_ceiling(moxie_group_t *group, const moxie_ceiling_in_t *in, uint64_t *time_ns)
{
    shm_transport_t *transport = shm_of(group)->transport;
    shm_message_t *message;
    moxie_status_t status = signal_begin(&transport->group_channel, SHM_OP_CEILING, 0, &message);
    if (status != MOXIE_OK) {
        return status;
    }
    status = signal_meet(transport, write_body(group, in, message));
    if (status == MOXIE_OK) {
        status = signal_check_bodies(transport, sizeof(ceiling_body_t) +
                                                    sizeof(int64_t) * (size_t)group->rank_count);
    }
    if (status == MOXIE_OK) {
        status = check_destinations(group);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    const uint64_t start_ns = clock_now_ns();
    ceiling_peer_t peers[MOXIE_RANK_COUNT_MAX];
    if (open_peers(group, in, peers) != MOXIE_OK) {
        return signal_revoke(transport);
    }
    copy_rows(group, in, peers);
    rows_fence();
    status = signal_finish(transport);
    *time_ns = clock_now_ns() - start_ns;
    return status;
}
