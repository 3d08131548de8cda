/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch: every rank writes its tokens' rows straight into their final place in the receivers'
 * memory. A row is read once and written to each of its places while it is in the cache.
 */
#include "core/dispatch_rows.h"
#include "core/error.h"
#include "core/layout.h"
#include "core/segment.h"
#include "exchange/shm/offer.h"
#include "exchange/shm/push.h"

#include <string.h>

/* The receivers' buffers, by rank, and what goes into them. */
typedef struct dispatch_push {
    const moxie_route_t *route;
    push_t rows;
    dispatch_rows_t kind;
    char **weights; /* rank_major: float [N, K]; expert_major: float [M]; entries may be NULL */
    char **labels;  /* rank_major: int32_t [N, K]; expert_major: moxie_row_source_t [M] */
    char **scales;  /* of fp8 rows */
    const int64_t *scale_strides; /* [rank_count] rows of a column of scales */
} dispatch_push_t;

/* Columns quantised at a time, in a buffer that stays in the first-level cache: whole words. */
#define QUANTISE_COLUMNS 4096

/* Where the slots of one token are served; rank -1 for an unused slot. */
typedef struct token_slots {
    int32_t ranks[MOXIE_TOPK_MAX];
    int32_t locals[MOXIE_TOPK_MAX];
    uint32_t weights[MOXIE_TOPK_MAX]; /* bits of the floats */
} token_slots_t;

static void find_slots(const moxie_route_t *route, int64_t token, token_slots_t *slots)
{
    const moxie_placement_t *placement = route->placement;
    const int32_t topk = route->state->shape.topk;
    const int32_t *experts = route_experts(route->state, token);
    memcpy(slots->weights, route_weights(route->state, token), sizeof(float) * (size_t)topk);
    for (int32_t slot = 0; slot < topk; slot++) {
        const int32_t expert = experts[slot];
        slots->ranks[slot] = expert < 0 ? -1 : placement->rank_of_expert[expert];
        slots->locals[slot] = expert < 0 ? -1 : placement->local_of_expert[expert];
    }
}

/* rank_major: the slots of a token that are served on one rank. Masks and no branches: which slots
 * those are cannot be predicted. */
static void push_slots(const dispatch_push_t *push, const route_hop_t *hop,
                       const token_slots_t *slots)
{
    const int32_t topk = push->route->state->shape.topk;
    char *idx = push->labels[hop->rank];
    char *weights = push->weights[hop->rank];
    const size_t row_bytes = (size_t)topk * sizeof(int32_t);
    int32_t idx_row[MOXIE_TOPK_MAX];
    uint32_t weight_row[MOXIE_TOPK_MAX];
    for (int32_t slot = 0; slot < topk; slot++) {
        const int32_t is_here = -(slots->ranks[slot] == hop->rank);
        idx_row[slot] = (slots->locals[slot] & is_here) | ~is_here;
        weight_row[slot] = slots->weights[slot] & (uint32_t)is_here;
    }
    if (idx != NULL) {
        memcpy(idx + (size_t)hop->row * row_bytes, idx_row, row_bytes);
    }
    if (weights != NULL) {
        memcpy(weights + (size_t)hop->row * row_bytes, weight_row, row_bytes);
    }
}

/* expert_major: the one slot a row is for. */
static void push_source(const dispatch_push_t *push, const source_segment_t *segment,
                        const route_hop_t *hop, int64_t token)
{
    moxie_row_source_t *sources = (moxie_row_source_t *)push->labels[hop->rank];
    float *weights = (float *)push->weights[hop->rank];
    if (sources != NULL) {
        sources[hop->row] = (moxie_row_source_t){
            .rank = segment->source_rank, .token = (int32_t)token, .slot = hop->slot};
    }
    if (weights != NULL) {
        weights[hop->row] = route_weights(push->route->state, token)[hop->slot];
    }
}

/* The words of a row's scales from `first` on. */
static void push_scales(const dispatch_push_t *push, const route_hop_t *hop, int64_t first,
                        int64_t count, const void *words)
{
    const dispatch_rows_t *kind = &push->kind;
    const int64_t stride = push->scale_strides[hop->rank];
    char *scales = push->scales[hop->rank];
    if (!kind->has_column_scales) {
        memcpy(scales + dispatch_rows_scale_offset(kind, stride, hop->row, first), words,
               (size_t)count * sizeof(uint32_t));
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        memcpy(scales + dispatch_rows_scale_offset(kind, stride, hop->row, first + i),
               (const uint32_t *)words + i, sizeof(uint32_t));
    }
}

/* Quantises a token's row a piece at a time, and sends each piece along all of the token's hops. */
static void push_quantised(const dispatch_push_t *push, int64_t token, const char *row)
{
    const route_state_t *state = push->route->state;
    const int64_t hidden = state->shape.hidden;
    _Alignas(64) uint8_t fp8[QUANTISE_COLUMNS];
    uint32_t words[QUANTISE_COLUMNS / MOXIE_SCALE_COLUMNS];
    for (int64_t column = 0; column < hidden; column += QUANTISE_COLUMNS) {
        const int64_t left = hidden - column;
        const int64_t count = left < QUANTISE_COLUMNS ? left : QUANTISE_COLUMNS;
        const moxie_scale_type_t type = push->kind.scale_type;
        push->rows.shm->rows->quantise(row + column * (int64_t)sizeof(uint16_t), (size_t)count,
                                       type, fp8, words);
        for (int64_t h = route_hop_start(state)[token]; h < route_hop_start(state)[token + 1];
             h++) {
            const route_hop_t *hop = &route_hops(state)[h];
            push_part(&push->rows, hop, (size_t)column, fp8, (size_t)count);
            push_scales(push, hop, moxie_scale_words(type, column), moxie_scale_words(type, count),
                        words);
        }
    }
}

/* A token's row as it is, and its scales where it has some. */
static void push_copied(const dispatch_push_t *push, const source_segment_t *segment, int64_t index)
{
    const route_state_t *state = push->route->state;
    const int64_t token = segment->token_start + index;
    const char *row = (const char *)segment->rows + (size_t)index * push->rows.row_bytes;
    for (int64_t h = route_hop_start(state)[token]; h < route_hop_start(state)[token + 1]; h++) {
        const route_hop_t *hop = &route_hops(state)[h];
        push_row(&push->rows, hop, row);
        if (push->kind.scale_words > 0) {
            push_scales(push, hop, 0, push->kind.scale_words,
                        (const char *)segment->scales + index * push->kind.scale_row_bytes);
        }
    }
}

static void push_segment(const dispatch_push_t *push, const source_segment_t *segment)
{
    const route_state_t *state = push->route->state;
    const int by_rank = state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    const int64_t *hop_start = route_hop_start(state);
    const route_hop_t *hops = route_hops(state);
    for (int64_t i = 0; i < segment->token_count; i++) {
        if (i == segment->token_count / 2) {
            signal_at_work(push->rows.shm->transport);
        }
        const int64_t token = segment->token_start + i;
        token_slots_t slots;
        if (push->kind.is_quantised) {
            push_quantised(push, token,
                           (const char *)segment->rows + i * push->kind.home_row_bytes);
        } else {
            push_copied(push, segment, i);
        }
        if (by_rank) {
            find_slots(push->route, token, &slots);
        }
        for (int64_t h = hop_start[token]; h < hop_start[token + 1]; h++) {
            if (by_rank) {
                push_slots(push, &hops[h], &slots);
            } else {
                push_source(push, segment, &hops[h], token);
            }
        }
    }
}

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

/* What a receiver knows of its experts without being told. */
static void write_counts(const moxie_route_t *route, const moxie_dispatch_out_t *out)
{
    const route_state_t *state = route->state;
    const int32_t rank = state->shape.rank;
    const int32_t count = moxie_placement_local_count(route->placement, rank);
    for (int32_t local = 0; local < count; local++) {
        const int32_t expert = moxie_placement_expert(route->placement, rank, local);
        if (out->expert_count != NULL) {
            out->expert_count[local] = layout_expert_total(state, expert);
        }
        if (out->expert_start != NULL) {
            out->expert_start[local] = route_block_start(state)[expert];
        }
    }
    if (out->expert_start != NULL) {
        out->expert_start[count] = state->recv_row_count;
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
    (void)stream; /* the processor has none */
    shm_exchange_op_t op;
    dispatch_rows_t kind;
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
                                  .weights = bases[1],
                                  .labels = bases[2],
                                  .scales = bases[3],
                                  .scale_strides = row_counts[3]};
    const source_segment_t segment = {.source_rank = route->group->rank,
                                      .token_count = route->state->token_count,
                                      .rows = in->x,
                                      .scales = in->x_scales};
    const rows_modes_t modes = rows_enter_modes();
    push_segment(&push, &segment);
    rows_leave_modes(modes);
    clear_padding(route, out, &kind);
    write_counts(route, out);
    push_close(&push.rows);
    return signal_finish(op.transport);
}
