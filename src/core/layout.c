/* SPDX-License-Identifier: Apache-2.0 */
/* Counts to offsets, and the check that they fit together. */
#include "core/layout.h"

#include "core/error.h"

#include <inttypes.h>
#include <string.h>

int64_t layout_align(int64_t row_count, int64_t alignment)
{
    return (row_count + alignment - 1) / alignment * alignment;
}

int64_t layout_expert_total(const route_state_t *state, int32_t expert)
{
    int64_t total = 0;
    for (int32_t source = 0; source < state->shape.rank_count; source++) {
        total += route_expert_count(state, source)[expert];
    }
    return total;
}

static int is_low_latency(const route_state_t *state)
{
    return state->shape.mode == MOXIE_MODE_LOW_LATENCY;
}

/* Rows of an expert's block, padding included; in low latency a slot for every row there can be. */
static int64_t block_rows(const route_state_t *state, int32_t expert)
{
    return is_low_latency(state)
               ? route_slot_count(&state->shape)
               : layout_align(layout_expert_total(state, expert), state->shape.alignment);
}

/* Block by block in local order; a rank's need is where its last block ends. */
static void derive_blocks(route_state_t *state, const moxie_placement_t *placement)
{
    int64_t *block_start = route_block_start(state);
    int64_t *recv_count = route_recv_count(state);
    for (int32_t rank = 0; rank < state->shape.rank_count; rank++) {
        int64_t next = 0;
        for (int32_t i = placement->expert_start[rank]; i < placement->expert_start[rank + 1];
             i++) {
            const int32_t expert = placement->expert_of_local[i];
            block_start[expert] = next;
            next += block_rows(state, expert);
        }
        recv_count[rank] = next;
    }
}

void layout_derive(route_state_t *state, const moxie_placement_t *placement)
{
    if (state->shape.layout == MOXIE_LAYOUT_EXPERT_MAJOR) {
        derive_blocks(state, placement);
        return;
    }
    for (int32_t rank = 0; rank < state->shape.rank_count; rank++) {
        route_recv_count(state)[rank] = layout_source_start(state, state->shape.rank_count, rank);
    }
}

int64_t layout_source_start(const route_state_t *state, int32_t source, int32_t destination)
{
    int64_t start = 0;
    if (is_low_latency(state)) {
        return source * state->shape.token_count_max;
    }
    for (int32_t earlier = 0; earlier < source; earlier++) {
        start += route_row_count(state, earlier)[destination];
    }
    return start;
}

int64_t layout_expert_source_start(const route_state_t *state, int32_t source, int32_t expert)
{
    int64_t start = route_block_start(state)[expert];
    for (int32_t earlier = 0; earlier < source; earlier++) {
        start += route_expert_count(state, earlier)[expert];
    }
    return start;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/*
 * rank_major: every token of every rank. expert_major: every token takes as many slots as there are
 * local experts for; each block that is not empty may need alignment - 1 rows of padding, and no
 * block holds more than every token once.
 */
int64_t layout_worst_case(const route_shape_t *shape, int32_t local_expert_count)
{
    const int64_t tokens = shape->rank_count * shape->token_count_max;
    if (local_expert_count == 0) {
        return 0;
    }
    if (shape->layout == MOXIE_LAYOUT_RANK_MAJOR) {
        return tokens;
    }
    if (shape->mode == MOXIE_MODE_LOW_LATENCY) {
        return local_expert_count * tokens;
    }
    const int64_t rows = tokens * smaller(shape->topk, local_expert_count);
    const int64_t blocks = smaller(local_expert_count, rows);
    return smaller(rows + blocks * (shape->alignment - 1),
                   local_expert_count * layout_align(tokens, shape->alignment));
}

static moxie_status_t broken(const char *what, int64_t index, int64_t expected, int64_t observed)
{
    error_set(MOXIE_ERR_INTERNAL, "layout: %s %" PRId64 " should be %" PRId64 " and is %" PRId64,
              what, index, expected, observed);
    error_detail()->expected = expected;
    error_detail()->observed = observed;
    return MOXIE_ERR_INTERNAL;
}

/* Rows that a rank's buffers keep for what `source` sends there; rank_major. */
static int64_t source_rows(const route_state_t *state, int32_t source, int32_t rank)
{
    return is_low_latency(state) ? state->shape.token_count_max
                                 : route_row_count(state, source)[rank];
}

/* Sent equals received: what all sources send to a rank is what its buffers were sized for. */
static moxie_status_t check_needs(const route_state_t *state, const moxie_placement_t *placement)
{
    for (int32_t rank = 0; rank < state->shape.rank_count; rank++) {
        int64_t need = 0;
        if (state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR) {
            for (int32_t source = 0; source < state->shape.rank_count; source++) {
                need += source_rows(state, source, rank);
            }
        } else {
            for (int32_t local = 0; local < moxie_placement_local_count(placement, rank); local++) {
                const int32_t expert = moxie_placement_expert(placement, rank, local);
                if (route_block_start(state)[expert] != need) {
                    return broken("block start of expert", expert, need,
                                  route_block_start(state)[expert]);
                }
                need += block_rows(state, expert);
            }
        }
        if (route_recv_count(state)[rank] != need) {
            return broken("rows needed by rank", rank, need, route_recv_count(state)[rank]);
        }
    }
    return MOXIE_OK;
}

/* What the route tells its caller. */
static moxie_status_t check_own_counts(const route_state_t *state)
{
    const int32_t rank = state->shape.rank;
    int64_t arriving = 0;
    for (int32_t source = 0; source < state->shape.rank_count; source++) {
        arriving += route_row_count(state, source)[rank];
    }
    if (state->logical_row_count != arriving) {
        return broken("logical rows of rank", rank, arriving, state->logical_row_count);
    }
    if (state->recv_row_count != route_recv_count(state)[rank]) {
        return broken("received rows of rank", rank, route_recv_count(state)[rank],
                      state->recv_row_count);
    }
    return MOXIE_OK;
}

/* Sums run in the order of the hops. */
static moxie_status_t check_order(const route_hop_t *hops, int64_t hop_count, int64_t token)
{
    for (int64_t i = 1; i < hop_count; i++) {
        if (hops[i].rank < hops[i - 1].rank ||
            (hops[i].rank == hops[i - 1].rank && hops[i].slot <= hops[i - 1].slot)) {
            return broken("rank of a hop out of order, token", token, hops[i - 1].rank,
                          hops[i].rank);
        }
    }
    return MOXIE_OK;
}

/* Hops of one token: ascending (rank, slot), each slot that is used served exactly once. */
static moxie_status_t check_token(const route_state_t *state, const moxie_placement_t *placement,
                                  int64_t token)
{
    const route_hop_t *hops = route_hops(state) + route_hop_start(state)[token];
    const int64_t hop_count = route_hop_start(state)[token + 1] - route_hop_start(state)[token];
    const int by_rank = state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    const int32_t *experts = route_experts(state, token);
    int64_t expected = 0;
    for (int32_t slot = 0; slot < state->shape.topk; slot++) {
        if (experts[slot] < 0) {
            continue;
        }
        const int32_t rank = placement->rank_of_expert[experts[slot]];
        int64_t served = 0;
        for (int64_t i = 0; i < hop_count; i++) {
            served += hops[i].rank == rank && (by_rank || hops[i].slot == slot);
        }
        if (served != 1) {
            return broken("times served, slot", slot, 1, served);
        }
        int first_of_rank = 1;
        for (int32_t other = 0; other < slot; other++) {
            first_of_rank &=
                experts[other] < 0 || placement->rank_of_expert[experts[other]] != rank;
        }
        expected += by_rank ? first_of_rank : 1;
    }
    if (hop_count != expected) {
        return broken("hops of token", token, expected, hop_count);
    }
    return check_order(hops, hop_count, token);
}

/* Every hop takes the next row of its range; ranges follow each other by source. */
static moxie_status_t check_rows(const route_state_t *state)
{
    const route_shape_t *shape = &state->shape;
    const int by_rank = shape->layout == MOXIE_LAYOUT_RANK_MAJOR;
    int64_t *next_row = route_at(state, state->scratch_offset);
    const int32_t range_count = by_rank ? shape->rank_count : shape->expert_count;
    for (int32_t i = 0; i < range_count; i++) {
        next_row[i] = by_rank ? layout_source_start(state, shape->rank, i)
                              : layout_expert_source_start(state, shape->rank, i);
    }
    for (int64_t token = 0; token < state->token_count; token++) {
        for (int64_t i = route_hop_start(state)[token]; i < route_hop_start(state)[token + 1];
             i++) {
            const route_hop_t *hop = &route_hops(state)[i];
            const int32_t range = by_rank ? hop->rank : route_experts(state, token)[hop->slot];
            if (hop->row != next_row[range]++) {
                return broken("row of hop", i, next_row[range] - 1, hop->row);
            }
        }
    }
    for (int32_t i = 0; i < range_count; i++) {
        const int64_t end = by_rank ? layout_source_start(state, shape->rank, i) +
                                          route_row_count(state, shape->rank)[i]
                                    : layout_expert_source_start(state, shape->rank + 1, i);
        if (next_row[i] != end) {
            return broken(by_rank ? "end of the rows to rank" : "end of the rows to expert", i, end,
                          next_row[i]);
        }
    }
    return MOXIE_OK;
}

moxie_status_t layout_check(const route_state_t *state, const moxie_placement_t *placement)
{
    moxie_status_t status = check_needs(state, placement);
    if (status == MOXIE_OK) {
        status = check_own_counts(state);
    }
    for (int64_t token = 0; token < state->token_count && status == MOXIE_OK; token++) {
        status = check_token(state, placement, token);
    }
    if (status == MOXIE_OK) {
        status = check_rows(state);
    }
    return status;
}
