/* SPDX-License-Identifier: Apache-2.0 */
/* Counts in messages and outputs. */
#include "exchange/shm/counts.h"

#include "core/error.h"
#include "core/layout.h"

#include <inttypes.h>
#include <string.h>

size_t counts_bytes(const route_shape_t *shape)
{
    return sizeof(int64_t) * (size_t)(shape->rank_count + shape->expert_count);
}

void counts_write(const route_state_t *state, int64_t *counts)
{
    const size_t rank_count = (size_t)state->shape.rank_count;
    memcpy(counts, route_row_count(state, state->shape.rank), sizeof(int64_t) * rank_count);
    memcpy(counts + rank_count, route_expert_count(state, state->shape.rank),
           sizeof(int64_t) * (size_t)state->shape.expert_count);
}

static moxie_status_t check_counts(const route_state_t *state, int32_t rank, const int64_t *counts,
                                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (counts[i] < 0 || counts[i] > state->shape.token_count_max) {
            error_set(MOXIE_ERR_PROTOCOL, "rank %d says it sends %" PRId64 " rows", rank,
                      counts[i]);
            error_detail()->peer = rank;
            return MOXIE_ERR_PROTOCOL;
        }
    }
    return MOXIE_OK;
}

moxie_status_t counts_read(const route_state_t *state, int32_t rank, const int64_t *counts)
{
    const size_t rank_count = (size_t)state->shape.rank_count;
    const size_t expert_count = (size_t)state->shape.expert_count;
    memcpy(route_row_count(state, rank), counts, sizeof(int64_t) * rank_count);
    memcpy(route_expert_count(state, rank), counts + rank_count, sizeof(int64_t) * expert_count);
    const moxie_status_t status =
        check_counts(state, rank, route_row_count(state, rank), rank_count);
    return status != MOXIE_OK
               ? status
               : check_counts(state, rank, route_expert_count(state, rank), expert_count);
}

void counts_deliver(const moxie_route_t *route, const moxie_dispatch_out_t *out)
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
    for (int32_t source = 0; out->source_count != NULL && source < state->shape.rank_count;
         source++) {
        out->source_count[source] = route_row_count(state, source)[rank];
    }
}
