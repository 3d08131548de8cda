/* SPDX-License-Identifier: Apache-2.0 */
/* Rows on their way to the experts. */
#include "exchange/shm/dispatch_push.h"

#include "transport/shm/signal.h"

#include <string.h>

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

/* By rank: the slots of a token that are served on one rank. Masks and no branches: which slots
 * those are cannot be predicted. */
static void push_slots(const dispatch_push_t *push, const route_hop_t *hop,
                       const token_slots_t *slots, int64_t token)
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
    if (push->tokens != NULL) {
        ((int32_t *)push->tokens[hop->rank])[hop->row] = (int32_t)token;
    }
}

/* By expert: the one slot a row is for. */
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

void dispatch_push_segment(const dispatch_push_t *push, const source_segment_t *segment)
{
    const route_state_t *state = push->route->state;
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
        if (push->by_rank) {
            find_slots(push->route, token, &slots);
        }
        for (int64_t h = hop_start[token]; h < hop_start[token + 1]; h++) {
            if (push->by_rank) {
                push_slots(push, &hops[h], &slots, token);
            } else {
                push_source(push, segment, &hops[h], token);
            }
        }
    }
}
