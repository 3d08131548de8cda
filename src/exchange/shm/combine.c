/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine, and backward of dispatch, which is the same sum: every rank reads its tokens' rows out
 * of the experts' ranks and sums them at home. On one machine the rows need not travel first: a
 * partial is rounded to the wire type where it is summed, with the same bits.
 */
#include "core/dtype.h"
#include "core/error.h"
#include "exchange/shm/low_latency.h"
#include "exchange/shm/offer.h"

#include <string.h>

typedef struct pull {
    const moxie_route_t *route;
    const rows_kernels_t *kernels;
    char **bases; /* [rank_count] rows at the experts' ranks */
    size_t row_bytes;
    rows_types_t types;
    int is_weighted;
} pull_t;

/* What kind of sum a combine is: types, and what follows from them and from the volume. */
static rows_types_t sum_types(const moxie_route_t *route, moxie_dtype_t in, moxie_dtype_t wire,
                              moxie_dtype_t out)
{
    const route_state_t *state = route->state;
    const int64_t out_bytes =
        state->token_count * state->shape.hidden * (int64_t)moxie_dtype_bytes(out);
    return (rows_types_t){
        .in = in,
        .wire = wire,
        .out = out,
        /* One row a rank, and exact on the wire: neither weight nor rounding changes it. */
        .is_plain = state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR &&
                    (in == MOXIE_DTYPE_BF16 || wire == MOXIE_DTYPE_FP32),
        .is_streamed = out_bytes >= shm_of(route->group)->stream_min_bytes};
}

/* The rows of one token, ascending by (rank, slot). */
static void collect_terms(const pull_t *pull, int64_t token, rows_sum_t *terms)
{
    const route_state_t *state = pull->route->state;
    const route_hop_t *hops = route_hops(state) + route_hop_start(state)[token];
    const float *weights = route_weights(state, token);
    terms->count = (int32_t)(route_hop_start(state)[token + 1] - route_hop_start(state)[token]);
    for (int32_t i = 0; i < terms->count; i++) {
        terms->rows[i] = pull->bases[hops[i].rank] + (size_t)hops[i].row * pull->row_bytes;
        terms->weights[i] = pull->is_weighted ? weights[hops[i].slot] : 1.0f;
        terms->ends_partial[i] = i + 1 == terms->count || hops[i + 1].rank != hops[i].rank;
    }
}

static void pull_rows(const pull_t *pull, void *out)
{
    const route_state_t *state = pull->route->state;
    const size_t out_row_bytes = (size_t)state->shape.hidden * moxie_dtype_bytes(pull->types.out);
    const rows_modes_t modes = rows_enter_modes();
    rows_sum_t terms[2]; /* of a token, and of the one after it */
    terms[0].count = terms[1].count = 0;
    if (state->token_count > 0) {
        collect_terms(pull, 0, &terms[0]);
    }
    for (int64_t token = 0; token < state->token_count; token++) {
        if (token == state->token_count / 2) {
            signal_at_work(shm_of(pull->route->group)->transport);
        }
        rows_sum_t *next = &terms[(token + 1) % 2];
        next->count = 0;
        if (token + 1 < state->token_count) {
            collect_terms(pull, token + 1, next);
        }
        pull->kernels->sum(&terms[token % 2], next, &pull->types,
                           (char *)out + (size_t)token * out_row_bytes,
                           (size_t)state->shape.hidden);
    }
    rows_leave_modes(modes);
    rows_fence();
}

static moxie_status_t check_out(const moxie_route_t *route, const void *out, const char *name,
                                moxie_dtype_t dtype)
{
    if (out == NULL && route->state->token_count > 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: %s is NULL", route->group->rank, name);
    }
    if (!dtype_is_summable(dtype)) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: %s cannot be of type %d (%s)",
                         route->group->rank, name, (int)dtype, moxie_dtype_name(dtype));
    }
    return MOXIE_OK;
}

static int64_t row_bytes_of(const moxie_route_t *route, moxie_dtype_t dtype)
{
    return route->state->shape.hidden * (int64_t)moxie_dtype_bytes(dtype);
}

/* Low latency: experts have run on what a dispatch brought, and y outlives the next one. */
static moxie_status_t check_slots(const moxie_route_t *route, const void *y)
{
    const shm_slots_t *slots = slots_of(route);
    return slots->has_dispatched ? low_latency_check_y(route, y, moxie_window_base(slots->window),
                                                       slots->layout.bytes)
                                 : low_latency_no_dispatch(route->group->rank);
}

/* Names this rank's y. */
static moxie_status_t offer_y(shm_exchange_op_t *op, const moxie_combine_in_t *in)
{
    const offer_buffer_t y = {
        .pointer = in->y, .row_bytes = row_bytes_of(op->route, in->dtype), .name = "y"};
    moxie_status_t status = offer_check(op, in->dtype, in->wire_dtype);
    if (status == MOXIE_OK && slots_of(op->route) != NULL) {
        status = check_slots(op->route, in->y);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    op->offer->unweighted = in->unweighted != 0;
    return offer_name(op, &y, 1);
}

/* All have met, with `status`: sums, and waits until all have. */
static moxie_status_t sum_rows(const shm_exchange_op_t *op, const moxie_combine_in_t *in,
                               const moxie_combine_out_t *out, moxie_status_t status)
{
    const moxie_route_t *route = op->route;
    char *bases[MOXIE_RANK_COUNT_MAX];
    if (status == MOXIE_OK) {
        status = offer_map(op, 0, bases, NULL);
    }
    if (status != MOXIE_OK) {
        if (slots_of(route) != NULL) {
            signal_say_finished(op->transport); /* a rank that called a dispatch waits for it */
        }
        return status;
    }
    const pull_t pull = {.route = route,
                         .kernels = shm_of(route->group)->rows,
                         .bases = bases,
                         .row_bytes = (size_t)op->row_bytes[0],
                         .types = sum_types(route, in->dtype, in->wire_dtype, out->dtype),
                         .is_weighted = route->state->shape.layout == MOXIE_LAYOUT_EXPERT_MAJOR &&
                                        !in->unweighted};
    pull_rows(&pull, out->out);
    return signal_finish(op->transport);
}

moxie_status_t shm_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                           const moxie_combine_out_t *out, moxie_stream_t stream)
{
    (void)stream; /* the processor has none */
    const int is_low_latency = route->state->shape.mode == MOXIE_MODE_LOW_LATENCY;
    shm_exchange_op_t op;
    moxie_status_t status =
        is_low_latency ? low_latency_check_half(route, slots_of(route)->half, HALF_NONE) : MOXIE_OK;
    if (status == MOXIE_OK) {
        status =
            offer_begin(route, is_low_latency ? SHM_OP_LOW_LATENCY_COMBINE : SHM_OP_COMBINE, &op);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    status = offer_y(&op, in);
    if (status == MOXIE_OK) {
        status = check_out(route, out->out, "out", out->dtype);
    }
    return sum_rows(&op, in, out, offer_meet(&op, status));
}

moxie_status_t shm_combine_send(moxie_route_t *route, const moxie_combine_in_t *in,
                                moxie_stream_t stream)
{
    (void)stream; /* the processor has none */
    shm_slots_t *slots = slots_of(route);
    moxie_status_t status = low_latency_check_half(route, slots_of(route)->half, HALF_NONE);
    if (status == MOXIE_OK) {
        status = offer_begin(route, SHM_OP_LOW_LATENCY_COMBINE, &slots->op);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    signal_post(slots->op.transport, offer_y(&slots->op, in));
    slots->combine_in = *in;
    slots->half = HALF_COMBINE;
    return MOXIE_OK;
}

moxie_status_t shm_combine_receive(moxie_route_t *route, const moxie_combine_out_t *out,
                                   moxie_stream_t stream)
{
    (void)stream; /* the processor has none */
    shm_slots_t *slots = slots_of(route);
    moxie_status_t status = low_latency_check_half(route, slots_of(route)->half, HALF_COMBINE);
    if (status == MOXIE_OK) {
        status = signal_resume(&slots->channel, SHM_OP_LOW_LATENCY_COMBINE, route->id);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    slots->half = HALF_NONE;
    const moxie_status_t local = check_out(route, out->out, "out", out->dtype);
    const moxie_error_t mine = *error_detail();
    status = offer_await(&slots->op);
    if (status != MOXIE_OK || local == MOXIE_OK) {
        return sum_rows(&slots->op, &slots->combine_in, out, status);
    }
    status = signal_finish(slots->op.transport); /* the others read y and wait for this rank */
    return status != MOXIE_OK ? status : error_adopt(&mine);
}

/* d_topk_weights: every slot's gradient comes from the row that served it. */
static void pull_weights(const moxie_route_t *route, char **bases, float *d_topk_weights)
{
    const route_state_t *state = route->state;
    const int32_t topk = state->shape.topk;
    const int by_rank = state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    memset(d_topk_weights, 0, sizeof(float) * (size_t)(state->token_count * topk));
    for (int64_t token = 0; token < state->token_count; token++) {
        const int32_t *experts = route_experts(state, token);
        float *mine = d_topk_weights + token * topk;
        for (int64_t h = route_hop_start(state)[token]; h < route_hop_start(state)[token + 1];
             h++) {
            const route_hop_t *hop = &route_hops(state)[h];
            const float *theirs = (const float *)bases[hop->rank];
            if (!by_rank) {
                mine[hop->slot] = theirs[hop->row];
                continue;
            }
            for (int32_t slot = 0; slot < topk; slot++) {
                if (experts[slot] >= 0 &&
                    route->placement->rank_of_expert[experts[slot]] == hop->rank) {
                    mine[slot] = theirs[hop->row * topk + slot];
                }
            }
        }
    }
}

static moxie_status_t offer_gradients(shm_exchange_op_t *op, const moxie_dispatch_backward_in_t *in,
                                      const moxie_dispatch_backward_out_t *out)
{
    moxie_status_t status = offer_check(op, in->dtype, in->wire_dtype);
    if (status == MOXIE_OK) {
        status = check_out(op->route, out->d_x, "d_x", out->dtype);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    const route_shape_t *shape = &op->route->state->shape;
    const int64_t weight_count = shape->layout == MOXIE_LAYOUT_RANK_MAJOR ? shape->topk : 1;
    const offer_buffer_t buffers[] = {{.pointer = in->d_recv_x,
                                       .row_bytes = row_bytes_of(op->route, in->dtype),
                                       .name = "d_recv_x"},
                                      {.pointer = in->d_recv_weights,
                                       .row_bytes = weight_count * (int64_t)sizeof(float),
                                       .name = "d_recv_weights"}};
    op->offer->wants_gradient = out->d_topk_weights != NULL;
    return offer_name(op, buffers, 2);
}

moxie_status_t shm_dispatch_backward(moxie_route_t *route, const moxie_dispatch_backward_in_t *in,
                                     const moxie_dispatch_backward_out_t *out,
                                     moxie_stream_t stream)
{
    (void)stream; /* the processor has none */
    shm_exchange_op_t op;
    moxie_status_t status = offer_begin(route, SHM_OP_DISPATCH_BACKWARD, &op);
    if (status != MOXIE_OK) {
        return status;
    }
    status = offer_meet(&op, offer_gradients(&op, in, out));
    char *bases[2][MOXIE_RANK_COUNT_MAX];
    for (int32_t i = 0; i < 2 && status == MOXIE_OK; i++) {
        status = offer_map(&op, i, bases[i], NULL);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    const pull_t pull = {.route = route,
                         .kernels = shm_of(route->group)->rows,
                         .bases = bases[0],
                         .row_bytes = (size_t)op.row_bytes[0],
                         .types = sum_types(route, in->dtype, in->wire_dtype, out->dtype)};
    pull_rows(&pull, out->d_x);
    if (out->d_topk_weights != NULL) {
        pull_weights(route, bases[1], out->d_topk_weights);
    }
    return signal_finish(op.transport);
}
