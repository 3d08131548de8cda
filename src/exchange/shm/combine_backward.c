/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backward of combine: every rank sends its tokens' gradients along the hops that their rows came
 * by, weighted in expert_major, and multiplies them with those rows for the weights' gradient.
 */
#include "core/error.h"
#include "exchange/shm/offer.h"
#include "exchange/shm/push.h"

#include <string.h>

typedef struct gradient_push {
    const moxie_route_t *route;
    push_t rows;
    char **y;              /* [rank_count]; used where d_topk_weights is wanted */
    float *d_topk_weights; /* or NULL */
    int is_weighted;
    moxie_dtype_t dtype;
} gradient_push_t;

/* One hop's share of d_topk_weights. The row of the hop after it is fetched meanwhile. */
static void multiply(const gradient_push_t *push, int64_t hop_index, int64_t token,
                     const char *d_out)
{
    const route_state_t *state = push->route->state;
    const route_hop_t *hop = &route_hops(state)[hop_index];
    const size_t row_bytes = push->rows.row_bytes;
    const int is_last = hop_index + 1 == route_hop_start(state)[state->token_count];
    const void *next = is_last ? NULL : push->y[hop[1].rank] + (size_t)hop[1].row * row_bytes;
    push->d_topk_weights[token * state->shape.topk + hop->slot] =
        push->rows.shm->rows->dot(d_out, push->y[hop->rank] + (size_t)hop->row * row_bytes, next,
                                  push->dtype, (size_t)state->shape.hidden);
}

static void push_gradients(const gradient_push_t *push, const char *d_out)
{
    const route_state_t *state = push->route->state;
    if (push->d_topk_weights != NULL) {
        memset(push->d_topk_weights, 0,
               sizeof(float) * (size_t)(state->token_count * state->shape.topk));
    }
    const rows_modes_t modes = rows_enter_modes();
    for (int64_t token = 0; token < state->token_count; token++, d_out += push->rows.row_bytes) {
        if (token == state->token_count / 2) {
            signal_at_work(push->rows.shm->transport);
        }
        const float *weights = route_weights(state, token);
        for (int64_t h = route_hop_start(state)[token]; h < route_hop_start(state)[token + 1];
             h++) {
            const route_hop_t *hop = &route_hops(state)[h];
            if (push->is_weighted) {
                push_scaled_row(&push->rows, hop, d_out, weights[hop->slot], push->dtype);
            } else {
                push_row(&push->rows, hop, d_out);
            }
            if (push->d_topk_weights != NULL) {
                multiply(push, h, token, d_out);
            }
        }
    }
    rows_leave_modes(modes);
}

static void clear_padding(const moxie_route_t *route, char *d_y, size_t row_bytes)
{
    padding_t padding = padding_first(route);
    for (; padding_is_there(&padding); padding_next(&padding)) {
        memset(d_y + (size_t)padding.start * row_bytes, 0,
               (size_t)(padding.end - padding.start) * row_bytes);
    }
}

static int is_weighted(const moxie_route_t *route, const moxie_combine_backward_in_t *in)
{
    return route->state->shape.layout == MOXIE_LAYOUT_EXPERT_MAJOR && !in->unweighted;
}

static moxie_status_t make_offer(shm_exchange_op_t *op, const moxie_combine_backward_in_t *in,
                                 const moxie_combine_backward_out_t *out)
{
    const moxie_route_t *route = op->route;
    moxie_status_t status = offer_check(op, in->dtype, MOXIE_DTYPE_FP32);
    if (status == MOXIE_OK && in->d_out == NULL && route->state->token_count > 0) {
        status = error_set(MOXIE_ERR_ARGUMENT, "rank %d: d_out is NULL", route->group->rank);
    }
    if (status == MOXIE_OK && out->d_topk_weights != NULL && !is_weighted(route, in)) {
        status = error_set(MOXIE_ERR_ARGUMENT,
                           "rank %d: this combine has no weights, so there is no d_topk_weights",
                           route->group->rank);
    }
    if (status == MOXIE_OK) {
        status = offer_check_capacity(route, out->row_capacity);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    const int64_t row_bytes = route->state->shape.hidden * (int64_t)moxie_dtype_bytes(in->dtype);
    op->offer->unweighted = in->unweighted != 0;
    op->offer->wants_gradient = out->d_topk_weights != NULL;
    const offer_buffer_t buffers[] = {{.pointer = out->d_y, .row_bytes = row_bytes, .name = "d_y"},
                                      {.pointer = in->y, .row_bytes = row_bytes, .name = "y"}};
    return offer_name(op, buffers, 2);
}

moxie_status_t shm_combine_backward(moxie_route_t *route, const moxie_combine_backward_in_t *in,
                                    const moxie_combine_backward_out_t *out, moxie_stream_t stream)
{
    (void)stream; /* the processor has none */
    shm_exchange_op_t op;
    moxie_status_t status = offer_begin(route, SHM_OP_COMBINE_BACKWARD, &op);
    if (status != MOXIE_OK) {
        return status;
    }
    status = offer_meet(&op, make_offer(&op, in, out));
    char *bases[2][MOXIE_RANK_COUNT_MAX];
    for (int32_t i = 0; i < 2 && status == MOXIE_OK; i++) {
        status = offer_map(&op, i, bases[i], NULL);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    const gradient_push_t push = {.route = route,
                                  .rows = push_open(route, bases[0], (size_t)op.row_bytes[0]),
                                  .y = bases[1],
                                  .d_topk_weights = out->d_topk_weights,
                                  .is_weighted = is_weighted(route, in),
                                  .dtype = in->dtype};
    push_gradients(&push, in->d_out);
    clear_padding(route, out->d_y, (size_t)op.row_bytes[0]);
    push_close(&push.rows);
    return signal_finish(op.transport);
}
