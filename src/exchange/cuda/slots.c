/* SPDX-License-Identifier: Apache-2.0 */
/* Low latency: a route's slots in device memory, and what the host learns of its calls. */
#include "core/error.h"
#include "exchange/cuda/cuda.h"

#include <string.h>

/* Arrays begin at multiples of it, and partials: a line of the GPU's L2 cache. */
#define LINE_BYTES 128u

static uint64_t append(uint64_t *end, uint64_t count, uint64_t element_bytes)
{
    const uint64_t offset = *end;
    *end = memory_round_up(offset + count * element_bytes, LINE_BYTES);
    return offset;
}

int64_t cuda_slots_tagged_bytes(const route_shape_t *shape)
{
    const int64_t bytes = shape->token_count_max * shape->hidden * 2;
    return shape->layout == MOXIE_LAYOUT_RANK_MAJOR && bytes <= CUDA_TAGGED_BYTES_MAX ? bytes : 0;
}

/* Of a partial: 16 bytes with 12 of payload, which is fp32 at worst. */
static uint64_t tagged_pieces(const route_shape_t *shape)
{
    return cuda_slots_tagged_bytes(shape) > 0 ? ((uint64_t)shape->hidden + 2) / 3 : 0;
}

void cuda_slots_plan(const route_shape_t *shape, cuda_slots_t *out, uint64_t *end)
{
    const uint64_t slots = (uint64_t)route_slot_count(shape);
    const uint64_t topk = (uint64_t)shape->topk;
    const uint64_t hidden = (uint64_t)shape->hidden;
    const uint64_t expert_major = shape->layout == MOXIE_LAYOUT_EXPERT_MAJOR;
    const uint64_t words = (uint64_t)moxie_scale_words(MOXIE_SCALE_FP32, shape->hidden);
    out->rows_offset = append(end, slots, hidden * 2);
    out->scales_offset = append(end, slots, words * sizeof(uint32_t));
    out->idx_offset = append(end, slots, topk * sizeof(int32_t));
    out->weights_offset = append(end, slots, topk * sizeof(float));
    out->tokens_offset = append(end, expert_major * slots, sizeof(int32_t));
    out->places_offset = append(end, expert_major * slots, topk * sizeof(int32_t));
    out->arrived_offset = append(end, slots, sizeof(uint64_t));
    out->partial_bytes = memory_round_up(hidden * sizeof(float), LINE_BYTES);
    out->partials_offset = append(end, slots, out->partial_bytes);
    out->returned_offset = append(end, slots, sizeof(uint32_t));
    out->tagged_pieces = tagged_pieces(shape);
    out->tagged_offset = append(end, 2 * slots, out->tagged_pieces * 16);
    out->rows = (void *)(uintptr_t)append(end, expert_major * slots, topk * sizeof(int32_t));
    out->blocks =
        (void *)(uintptr_t)append(end, CUDA_SLOTS_BLOCK_COUNT, sizeof(cuda_slots_block_t));
    out->report = (void *)(uintptr_t)append(end, 1, sizeof(cuda_slots_report_t));
}

void cuda_slots_point(cuda_slots_t *slots, char *base)
{
    slots->rows = (void *)(base + (uintptr_t)slots->rows);
    slots->blocks = (void *)(base + (uintptr_t)slots->blocks);
    slots->report = (void *)(base + (uintptr_t)slots->report);
}

void cuda_slots_find(const moxie_route_t *route, moxie_dispatch_out_t *out)
{
    const cuda_route_t *own = cuda_route_of(route);
    const cuda_slots_t *slots = &own->low_latency.slots;
    char *part = own->memory.parts[own->memory.rank].base;
    out->recv_x = part + slots->rows_offset;
    out->recv_scales = part + slots->scales_offset;
    out->recv_topk_idx = (void *)(part + slots->idx_offset);
    out->recv_topk_weights = (void *)(part + slots->weights_offset);
}

/* Counts the routing at hand, which lies where the caller has it; the peers' counts become 0. */
static moxie_status_t count_routing(moxie_route_t *route)
{
    const cuda_route_t *own = cuda_route_of(route);
    const moxie_routing_t *given = &own->low_latency.routing;
    route_state_t *state = route->state;
    const size_t ranks = (size_t)state->shape.rank_count;
    const size_t slots = (size_t)given->token_count * (size_t)state->shape.topk;
    const size_t bytes = slots * (given->index_type == MOXIE_INDEX_INT64 ? 8 : 4);
    void *ids = NULL;
    moxie_status_t status = memory_allocate(&route->group->account, bytes, "a routing", &ids);
    if (status != MOXIE_OK) {
        return status;
    }
    if (bytes > 0) {
        status = cuda_route_read(own->fresh_on, given->topk_idx, ids, bytes);
    }
    if (status == MOXIE_OK) {
        moxie_routing_t routing = *given;
        routing.topk_idx = ids;
        routing.topk_weights = NULL;
        memset(route_row_count(state, 0), 0, sizeof(int64_t) * ranks * ranks);
        memset(route_expert_count(state, 0), 0,
               sizeof(int64_t) * ranks * (size_t)state->shape.expert_count);
        status = route_state_count(state, route->placement, &routing);
    }
    memory_release(&route->group->account, ids, bytes);
    return status;
}

/* What this rank received, once a dispatch has told. */
static moxie_status_t read_row_counts(moxie_route_t *route)
{
    const size_t ranks = (size_t)route->group->rank_count;
    return cuda_route_read_counts(cuda_of(route->group)->transport->stream,
                                  cuda_route_of(route)->view.row_counts,
                                  route_row_count(route->state, 0), ranks * ranks);
}

static moxie_status_t read_report(const moxie_route_t *route, cuda_slots_report_t *out)
{
    return cuda_route_read(cuda_of(route->group)->transport->stream,
                           cuda_route_of(route)->low_latency.slots.report, out, sizeof(*out));
}

/* The extent: a routing that no dispatch was called with has counts of this rank alone. */
static moxie_status_t read_extent(moxie_route_t *route)
{
    const cuda_route_t *own = cuda_route_of(route);
    route_state_t *state = route->state;
    const int32_t rank = state->shape.rank;
    /* All slots, in expert_major for each local expert. */
    state->recv_row_count = state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR
                                ? route_slot_count(&state->shape)
                                : route->row_capacity;
    state->logical_row_count = 0;
    if (own->low_latency.routing_error.status != MOXIE_OK || cuda_is_capturing(own->fresh_on)) {
        return MOXIE_OK; /* nothing can be known yet */
    }
    const moxie_status_t status = own->is_fresh ? count_routing(route) : read_row_counts(route);
    for (int32_t source = 0; source < state->shape.rank_count && status == MOXIE_OK; source++) {
        state->logical_row_count += route_row_count(state, source)[rank];
    }
    /* What is wrong with a routing every rank is told by the dispatch. */
    return status == MOXIE_ERR_ROUTING ? MOXIE_OK : status;
}

moxie_status_t cuda_slots_settle(moxie_route_t *route)
{
    cuda_route_t *own = cuda_route_of(route);
    cuda_slots_report_t report = {.verdict.refusal = CUDA_REFUSED_NOT};
    if (!route->has_routing && !own->low_latency.has_dispatched) {
        return error_set(MOXIE_ERR_ARGUMENT, "the route has no routing yet");
    }
    moxie_status_t status = cuda_device_enter(&cuda_of(route->group)->transport->device);
    if (status != MOXIE_OK) {
        return status;
    }
    status = read_report(route, &report);
    if (status == MOXIE_OK) {
        status = read_extent(route);
    }
    cuda_device_leave();
    if (status != MOXIE_OK || own->is_fresh || own->was_told) {
        return status;
    }
    own->pinned->report.call = report.verdict;
    return cuda_verdict_error(route, &report.verdict);
}

moxie_status_t cuda_slots_download(moxie_route_t *route)
{
    const cuda_route_t *own = cuda_route_of(route);
    route_state_t *state = route->state;
    CUstream stream = cuda_of(route->group)->transport->stream;
    moxie_status_t status = cuda_device_enter(&cuda_of(route->group)->transport->device);
    if (status != MOXIE_OK) {
        return status;
    }
    status = count_routing(route);
    if (status == MOXIE_OK && !own->is_fresh) {
        status = read_row_counts(route);
        if (status == MOXIE_OK) {
            status = cuda_route_read_counts(
                stream, own->view.expert_counts, route_expert_count(state, 0),
                (size_t)state->shape.rank_count * (size_t)state->shape.expert_count);
        }
    }
    cuda_device_leave();
    if (status == MOXIE_OK) {
        route_state_derive(state, route->placement);
    }
    return status;
}
