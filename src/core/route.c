/* SPDX-License-Identifier: Apache-2.0 */
/* Route state: from topk_idx to every row's place. */
#include "core/route.h"

#include "core/error.h"
#include "core/layout.h"
#include "core/memory.h"
#include "core/routing.h"

#include <inttypes.h>
#include <string.h>

/* Rows and tokens are counted in int64_t and tokens named in int32_t (moxie_row_source_t). */
#define TOKEN_COUNT_MAX INT32_MAX
#define ALIGNMENT_MAX   (1 << 20)

static moxie_status_t refuse(const char *name, int64_t value, int64_t low, int64_t high)
{
    error_set(MOXIE_ERR_ARGUMENT,
              "route option %s is %" PRId64 ", allowed are %" PRId64 " to %" PRId64, name, value,
              low, high);
    error_detail()->observed = value;
    return MOXIE_ERR_ARGUMENT;
}

moxie_status_t route_shape_check(const route_shape_t *shape)
{
    if (shape->layout != MOXIE_LAYOUT_RANK_MAJOR && shape->layout != MOXIE_LAYOUT_EXPERT_MAJOR) {
        return error_set(MOXIE_ERR_ARGUMENT, "route option layout %d is no layout", shape->layout);
    }
    if (shape->mode != MOXIE_MODE_STANDARD && shape->mode != MOXIE_MODE_LOW_LATENCY) {
        return error_set(MOXIE_ERR_ARGUMENT, "route option mode %d is no mode", shape->mode);
    }
    const struct {
        const char *name;
        int64_t value, low, high;
    } fields[] = {
        {"expert_count", shape->expert_count, 1, MOXIE_EXPERT_COUNT_MAX},
        {"topk", shape->topk, 1, MOXIE_TOPK_MAX},
        {"hidden", shape->hidden, 1, MOXIE_HIDDEN_MAX},
        {"token_count_max", shape->token_count_max, 0, TOKEN_COUNT_MAX},
        {"alignment", shape->alignment, 1,
         shape->mode == MOXIE_MODE_LOW_LATENCY ? 1 : ALIGNMENT_MAX},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i].value < fields[i].low || fields[i].value > fields[i].high) {
            return refuse(fields[i].name, fields[i].value, fields[i].low, fields[i].high);
        }
    }
    return MOXIE_OK;
}

moxie_status_t route_terms_compare(const route_terms_t *first, const route_terms_t *other,
                                   int32_t rank)
{
    const struct {
        const char *name;
        int64_t expected, observed;
    } fields[] = {
        {"expert_count", first->shape.expert_count, other->shape.expert_count},
        {"topk", first->shape.topk, other->shape.topk},
        {"layout", first->shape.layout, other->shape.layout},
        {"mode", first->shape.mode, other->shape.mode},
        {"hidden", first->shape.hidden, other->shape.hidden},
        {"token_count_max", first->shape.token_count_max, other->shape.token_count_max},
        {"alignment", first->shape.alignment, other->shape.alignment},
        {"the placement's digest", (int64_t)first->placement_digest,
         (int64_t)other->placement_digest},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i].expected == fields[i].observed) {
            continue;
        }
        error_set(MOXIE_ERR_MISMATCH, "%s is %" PRId64 " on rank %d and %" PRId64 " on rank 0",
                  fields[i].name, fields[i].observed, rank, fields[i].expected);
        moxie_error_t *detail = error_detail();
        detail->rank = 0;
        detail->peer = rank;
        detail->expected = fields[i].expected;
        detail->observed = fields[i].observed;
        return MOXIE_ERR_MISMATCH;
    }
    return MOXIE_OK;
}

/* Appends an array to the block and returns where it lies. */
static uint64_t append(uint64_t *bytes, uint64_t count, uint64_t element_bytes)
{
    const uint64_t offset = *bytes;
    *bytes = memory_round_up(offset + count * element_bytes, MEMORY_LINE_BYTES);
    return offset;
}

void route_state_plan(const route_shape_t *shape, route_state_t *out)
{
    const uint64_t ranks = (uint64_t)shape->rank_count;
    const uint64_t experts = (uint64_t)shape->expert_count;
    const uint64_t tokens = (uint64_t)shape->token_count_max;
    const uint64_t slots = tokens * (uint64_t)shape->topk;
    uint64_t bytes = memory_round_up(sizeof(route_state_t), MEMORY_LINE_BYTES);
    memset(out, 0, sizeof(*out));
    out->shape = *shape;
    out->row_count_offset = append(&bytes, ranks * ranks, sizeof(int64_t));
    out->expert_count_offset = append(&bytes, ranks * experts, sizeof(int64_t));
    out->recv_count_offset = append(&bytes, ranks, sizeof(int64_t));
    out->block_start_offset = append(&bytes, experts, sizeof(int64_t));
    out->scratch_offset = append(&bytes, experts + ranks, sizeof(int64_t));
    out->hop_start_offset = append(&bytes, tokens + 1, sizeof(int64_t));
    out->hop_offset = append(&bytes, slots, sizeof(route_hop_t));
    out->expert_offset = append(&bytes, slots, sizeof(int32_t));
    out->weight_offset = append(&bytes, slots, sizeof(float));
    out->bytes = bytes;
}

static void copy_weights(route_state_t *state, const moxie_routing_t *routing)
{
    const size_t slots = (size_t)routing->token_count * (size_t)state->shape.topk;
    float *weights = route_weights(state, 0);
    if (routing->topk_weights != NULL) {
        memcpy(weights, routing->topk_weights, slots * sizeof(float));
        return;
    }
    for (size_t i = 0; i < slots; i++) {
        weights[i] = 1.0f;
    }
}

/* Counts each token once a rank, however many of its experts are there. */
static void count_rows(route_state_t *state, const moxie_placement_t *placement,
                       int64_t *last_token)
{
    int64_t *row_count = route_row_count(state, state->shape.rank);
    int64_t *expert_count = route_expert_count(state, state->shape.rank);
    memset(row_count, 0, sizeof(int64_t) * (size_t)state->shape.rank_count);
    memset(expert_count, 0, sizeof(int64_t) * (size_t)state->shape.expert_count);
    for (int32_t rank = 0; rank < state->shape.rank_count; rank++) {
        last_token[rank] = -1;
    }
    for (int64_t token = 0; token < state->token_count; token++) {
        const int32_t *experts = route_experts(state, token);
        for (int32_t slot = 0; slot < state->shape.topk; slot++) {
            if (experts[slot] < 0) {
                continue;
            }
            const int32_t rank = placement->rank_of_expert[experts[slot]];
            expert_count[experts[slot]]++;
            row_count[rank] += last_token[rank] != token;
            last_token[rank] = token;
        }
    }
}

moxie_status_t route_state_count(route_state_t *state, const moxie_placement_t *placement,
                                 const moxie_routing_t *routing)
{
    int64_t *scratch = route_at(state, state->scratch_offset);
    const moxie_status_t status =
        routing_read(&state->shape, routing, route_experts(state, 0), scratch);
    if (status != MOXIE_OK) {
        return status;
    }
    state->token_count = routing->token_count;
    copy_weights(state, routing);
    count_rows(state, placement, scratch);
    return MOXIE_OK;
}

/* What an unused slot sorts as: behind all others. */
#define KEY_UNUSED INT32_MAX

/*
 * The used slots of a token by (rank, slot). A slot's place is the number of smaller keys: all
 * pairs are compared, without a branch, for which rank comes next cannot be predicted.
 */
static int32_t sort_slots(const route_state_t *state, const moxie_placement_t *placement,
                          int64_t token, route_hop_t *sorted)
{
    const int32_t *experts = route_experts(state, token);
    const int32_t topk = state->shape.topk;
    int32_t keys[MOXIE_TOPK_MAX];
    int32_t count = 0;
    for (int32_t slot = 0; slot < topk; slot++) {
        const int is_used = experts[slot] >= 0;
        keys[slot] =
            is_used ? placement->rank_of_expert[experts[slot]] * MOXIE_TOPK_MAX + slot : KEY_UNUSED;
        count += is_used;
    }
    for (int32_t slot = 0; slot < topk; slot++) {
        int32_t place = 0;
        for (int32_t other = 0; other < topk; other++) {
            place += keys[other] < keys[slot];
        }
        if (keys[slot] != KEY_UNUSED) {
            sorted[place] = (route_hop_t){.rank = keys[slot] / MOXIE_TOPK_MAX, .slot = slot};
        }
    }
    return count;
}

/* Keeps the first slot of each rank and gives it the rank's next row; again without a branch. */
static int64_t place_by_rank(const route_hop_t *sorted, int32_t count, int64_t *next_row,
                             route_hop_t *hops)
{
    int64_t hop_count = 0;
    int32_t previous = -1;
    for (int32_t i = 0; i < count; i++) {
        const int32_t rank = sorted[i].rank;
        const int is_first = rank != previous;
        next_row[rank] += is_first;
        hop_count += is_first;
        hops[hop_count - 1] = (route_hop_t){
            .row = next_row[rank] - 1,
            .rank = rank,
            .slot = is_first ? sorted[i].slot : hops[hop_count - 1].slot,
        };
        previous = rank;
    }
    return hop_count;
}

/* Gives every slot the next row of its expert. */
static int64_t place_by_expert(const route_hop_t *sorted, int32_t count, const int32_t *experts,
                               int64_t *next_row, route_hop_t *hops)
{
    for (int32_t i = 0; i < count; i++) {
        hops[i] = sorted[i];
        hops[i].row = next_row[experts[sorted[i].slot]]++;
    }
    return count;
}

static void derive_hops(route_state_t *state, const moxie_placement_t *placement, int by_rank)
{
    const route_shape_t *shape = &state->shape;
    int64_t *next_row = route_at(state, state->scratch_offset);
    for (int32_t i = 0; i < (by_rank ? shape->rank_count : shape->expert_count); i++) {
        next_row[i] = by_rank ? layout_source_start(state, shape->rank, i)
                              : layout_expert_source_start(state, shape->rank, i);
    }
    int64_t *hop_start = route_hop_start(state);
    route_hop_t *hops = route_hops(state);
    route_hop_t sorted[MOXIE_TOPK_MAX];
    hop_start[0] = 0;
    for (int64_t token = 0; token < state->token_count; token++) {
        const int32_t count = sort_slots(state, placement, token, sorted);
        route_hop_t *first = hops + hop_start[token];
        const int64_t hop_count =
            by_rank ? place_by_rank(sorted, count, next_row, first)
                    : place_by_expert(sorted, count, route_experts(state, token), next_row, first);
        hop_start[token + 1] = hop_start[token] + hop_count;
    }
}

void route_state_derive(route_state_t *state, const moxie_placement_t *placement)
{
    layout_derive(state, placement);
    const int32_t rank = state->shape.rank;
    state->recv_row_count = route_recv_count(state)[rank];
    state->logical_row_count = 0;
    for (int32_t source = 0; source < state->shape.rank_count; source++) {
        state->logical_row_count += route_row_count(state, source)[rank];
    }
    derive_hops(state, placement, state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR);
}

void route_state_derive_slots(route_state_t *state, const moxie_placement_t *placement)
{
    derive_hops(state, placement, 1);
}
