/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch: every rank writes its tokens' rows straight into their final place in the receivers'
 * memory. A row is read once and written to each of its places while it is in the cache.
 */
#include "core/error.h"
#include "exchange/shm/counts.h"
#include "exchange/shm/dispatch_push.h"
#include "exchange/shm/low_latency.h"
#include "exchange/shm/offer.h"

#include <string.h>

static void clear_scales(const dispatch_rows_t *kind, const moxie_dispatch_out_t *out,
                         const padding_t *padding)
{
    for (int64_t row = padding->start; row < padding->end; row++) {
        for (int64_t word = 0; word < kind->scale_words; word++) {
            memset((char *)out->recv_scales +
                       dispatch_rows_scale_offset(kind, out->row_capacity, row, word),
                   0, sizeof(uint32_t));
        }
    }
}

/* This rank's own padding rows: zero rows of weight +0 that come from nowhere. */
static void clear_padding(const moxie_route_t *route, const moxie_dispatch_out_t *out,
                          const dispatch_rows_t *kind)
{
    const size_t row_bytes = (size_t)kind->row_bytes;
    padding_t padding = padding_first(route);
    for (; padding_is_there(&padding); padding_next(&padding)) {
        const int64_t row_count = padding.end - padding.start;
        memset((char *)out->recv_x + (size_t)padding.start * row_bytes, 0,
               (size_t)row_count * row_bytes);
        clear_scales(kind, out, &padding);
        for (int64_t row = padding.start; row < padding.end; row++) {
            if (out->row_weight != NULL) {
                out->row_weight[row] = 0.0f;
            }
            if (out->row_source != NULL) {
                out->row_source[row] = (moxie_row_source_t){-1, -1, -1};
            }
        }
    }
}

/* Metadata that the layout does not have is a mistake, not something to ignore. */
static moxie_status_t check_outputs(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                                    const moxie_dispatch_out_t *out)
{
    const int by_rank = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    const int32_t rank = route->group->rank;
    if (in->x == NULL && route->state->token_count > 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: x is NULL", rank);
    }
    if (by_rank &&
        (out->row_weight != NULL || out->row_source != NULL || out->expert_start != NULL)) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "rank %d: row_weight, row_source and expert_start are of expert_major, "
                         "the route is rank_major",
                         rank);
    }
    if (!by_rank && (out->recv_topk_idx != NULL || out->recv_topk_weights != NULL)) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "rank %d: recv_topk_idx and recv_topk_weights are of rank_major, the "
                         "route is expert_major",
                         rank);
    }
    if (out->source_count != NULL) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "rank %d: source_count is of low latency, the route is not", rank);
    }
    return offer_check_capacity(route, out->row_capacity);
}

static moxie_status_t check_call(const shm_exchange_op_t *op, const moxie_dispatch_in_t *in,
                                 const moxie_dispatch_out_t *out, dispatch_rows_t *kind)
{
    const route_state_t *state = op->route->state;
    moxie_status_t status = offer_check_routing(op);
    if (status == MOXIE_OK) {
        status = dispatch_rows_read(in, &state->shape, kind);
    }
    if (status == MOXIE_OK) {
        status = check_outputs(op->route, in, out);
    }
    if (status == MOXIE_OK) {
        status =
            dispatch_rows_check_scales(kind, state->shape.rank, in->x_scales, state->token_count,
                                       out->recv_scales, state->recv_row_count);
    }
    return status;
}

static moxie_status_t make_offer(shm_exchange_op_t *op, const moxie_dispatch_in_t *in,
                                 const moxie_dispatch_out_t *out, dispatch_rows_t *kind)
{
    const moxie_status_t status = check_call(op, in, out, kind);
    if (status != MOXIE_OK) {
        return status;
    }
    op->offer->dtype = (int32_t)kind->dtype;
    op->offer->wire_dtype = (int32_t)kind->wire_dtype;
    op->offer->scale_type = (int32_t)kind->scale_type;
    op->offer->scale_layout = kind->scale_words > 0 ? (int32_t)in->scale_layout : 0;
    const route_shape_t *shape = &op->route->state->shape;
    const int64_t slots_bytes = shape->topk * (int64_t)sizeof(float);
    const int is_rank_major = shape->layout == MOXIE_LAYOUT_RANK_MAJOR;
    const offer_buffer_t rank_major[] = {
        {.pointer = out->recv_topk_weights, .row_bytes = slots_bytes, .name = "recv_topk_weights"},
        {.pointer = out->recv_topk_idx, .row_bytes = slots_bytes, .name = "recv_topk_idx"}};
    const offer_buffer_t expert_major[] = {
        {.pointer = out->row_weight, .row_bytes = sizeof(float), .name = "row_weight"},
        {.pointer = out->row_source,
         .row_bytes = sizeof(moxie_row_source_t),
         .name = "row_source"}};
    const offer_buffer_t *labels = is_rank_major ? rank_major : expert_major;
    const offer_buffer_t buffers[] = {
        {.pointer = out->recv_x, .row_bytes = kind->row_bytes, .name = "recv_x"},
        labels[0],
        labels[1],
        {.pointer = out->recv_scales,
         .row_bytes = kind->scale_row_bytes,
         .name = "recv_scales",
         .row_count = kind->has_column_scales ? out->row_capacity : 0,
         .is_needed = kind->scale_words > 0}};
    return offer_name(op, buffers, OFFER_BUFFER_COUNT);
}

moxie_status_t shm_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                            const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    shm_exchange_op_t op;
    dispatch_rows_t kind;
    if (route->state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return low_latency_dispatch(route, in, out);
    }
    (void)stream; /* the processor has none */
    moxie_status_t status = offer_begin(route, SHM_OP_DISPATCH, &op);
    if (status != MOXIE_OK) {
        return status;
    }
    status = offer_meet(&op, make_offer(&op, in, out, &kind));
    if (status != MOXIE_OK) {
        return status;
    }
    char *bases[OFFER_BUFFER_COUNT][MOXIE_RANK_COUNT_MAX];
    int64_t row_counts[OFFER_BUFFER_COUNT][MOXIE_RANK_COUNT_MAX];
    for (int32_t i = 0; i < OFFER_BUFFER_COUNT && status == MOXIE_OK; i++) {
        status = offer_map(&op, i, bases[i], row_counts[i]);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    const dispatch_push_t push = {.route = route,
                                  .rows = push_open(route, bases[0], (size_t)kind.row_bytes),
                                  .kind = kind,
                                  .by_rank = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR,
                                  .weights = bases[1],
                                  .labels = bases[2],
                                  .scales = bases[3],
                                  .scale_strides = row_counts[3]};
    const source_segment_t segment = {.source_rank = route->group->rank,
                                      .token_count = route->state->token_count,
                                      .rows = in->x,
                                      .scales = in->x_scales};
    const rows_modes_t modes = rows_enter_modes();
    dispatch_push_segment(&push, &segment);
    rows_leave_modes(modes);
    clear_padding(route, out, &kind);
    counts_deliver(route, out);
    push_close(&push.rows);
    return signal_finish(op.transport);
}
