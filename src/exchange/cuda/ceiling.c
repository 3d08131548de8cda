/* SPDX-License-Identifier: Apache-2.0 */
/* The ceiling: all ranks write rows to all ranks at once, and do nothing else. */
#include "core/error.h"
#include "exchange/cuda/cuda.h"
#include "transport/shm/collective.h"

#include <string.h>

/* What each rank tells the others on the host. */
typedef struct ceiling_notice {
    int64_t rows_to_peer[CUDA_RANK_COUNT_MAX];
    int64_t destination_row_count;
    int64_t row_bytes;
    int64_t is_good;
} ceiling_notice_t;

static moxie_status_t check(const moxie_group_t *group, const moxie_ceiling_in_t *in,
                            const cuda_window_t *window)
{
    if (in->source == NULL || in->rows_to_peer == NULL || in->source_row_count < 1 ||
        in->row_bytes < 2 || in->row_bytes % 2 != 0 || in->destination_row_count < 1) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: the ceiling lacks rows to copy",
                         group->rank);
    }
    if (window == NULL) {
        return error_set(MOXIE_ERR_WINDOW, "rank %d: the ceiling's destination is in no window",
                         group->rank);
    }
    return MOXIE_OK;
}

/* Fills in where this rank's rows go at each peer: behind those of the ranks before it. */
static void plan_rows(const moxie_group_t *group, const ceiling_notice_t *notices,
                      cuda_ceiling_args_t *args)
{
    for (int32_t peer = 0; peer < group->rank_count; peer++) {
        args->rows_to_peer[peer] = notices[group->rank].rows_to_peer[peer];
        args->destination_row_count[peer] = notices[peer].destination_row_count;
        for (int32_t earlier = 0; earlier < group->rank; earlier++) {
            args->row_start[peer] += notices[earlier].rows_to_peer[peer];
        }
    }
}

static moxie_status_t run(const moxie_group_t *group, cuda_ceiling_args_t *args, uint64_t *time_ns)
{
    const cuda_exchange_t *exchange = cuda_of(group);
    const cuda_transport_t *transport = exchange->transport;
    const cuda_blocks_t blocks =
        cuda_share_blocks(exchange, group->knobs.value[CUDA_KNOB_SMS], 0, INT32_MAX, 1);
    args->channel.timeout_ns = cuda_timeout_ns(exchange);
    moxie_status_t status = cuda_device_enter(&transport->device);
    if (status != MOXIE_OK) {
        return status;
    }
    status = cuda_launch(exchange, CUDA_KERNEL_CEILING, blocks.total, CUDA_DISPATCH_THREADS,
                         exchange->bulk_bytes, args, transport->stream, CUDA_LAUNCH_BEHIND);
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuStreamSynchronize(transport->stream), "the ceiling");
    }
    cuda_device_leave();
    if (status == MOXIE_OK) {
        status = cuda_transport_check(exchange->transport, "ceiling");
        *time_ns = *(volatile uint64_t *)&transport->report->time_ns;
    }
    return status;
}

moxie_status_t cuda_ceiling(moxie_group_t *group, const moxie_ceiling_in_t *in, uint64_t *time_ns)
{
    const cuda_exchange_t *exchange = cuda_of(group);
    const cuda_window_t *window = cuda_window_find(exchange->transport, in->destination);
    moxie_status_t status = cuda_transport_check(exchange->transport, "ceiling");
    if (status != MOXIE_OK) {
        return status;
    }
    const moxie_status_t local = check(group, in, window);
    ceiling_notice_t notice = {.destination_row_count = in->destination_row_count,
                               .row_bytes = in->row_bytes,
                               .is_good = local == MOXIE_OK};
    ceiling_notice_t notices[CUDA_RANK_COUNT_MAX];
    if (local == MOXIE_OK) {
        memcpy(notice.rows_to_peer, in->rows_to_peer, sizeof(int64_t) * (size_t)group->rank_count);
    }
    const moxie_error_t error = *error_detail();
    status = shm_allgather(exchange->transport->host, &notice, sizeof(notice), notices);
    if (status != MOXIE_OK || local != MOXIE_OK) {
        return status != MOXIE_OK ? status : error_adopt(&error);
    }
    for (int32_t rank = 0; rank < group->rank_count; rank++) {
        if (!notices[rank].is_good || notices[rank].row_bytes != in->row_bytes) {
            return error_set(MOXIE_ERR_MISMATCH, "rank %d cannot take part in the ceiling", rank);
        }
    }
    cuda_ceiling_args_t args = {.channel = exchange->channel,
                                .source = in->source,
                                .source_row_count = in->source_row_count,
                                .row_bytes = in->row_bytes};
    const uint64_t offset = (uint64_t)((uintptr_t)in->destination - (uintptr_t)window->window.base);
    args.offer.fields[CUDA_OFFER_KIND] = CUDA_OP_CEILING;
    args.offer.fields[CUDA_OFFER_WINDOW] = window->slot;
    args.offer.fields[CUDA_OFFER_OFFSET_LOW] = (uint32_t)offset;
    args.offer.fields[CUDA_OFFER_OFFSET_HIGH] = (uint32_t)(offset >> 32);
    plan_rows(group, notices, &args);
    return run(group, &args, time_ns);
}
