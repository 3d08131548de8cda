/* SPDX-License-Identifier: Apache-2.0 */
/* A route's memory on the device: what its peers reach, and its own tables. */
#include "core/error.h"
#include "core/layout.h"
#include "exchange/cuda/cuda.h"
#include "transport/fault.h"
#include "transport/shm/collective.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

/* Blocks of an update at most, the knob's limit. */
#define UPDATE_BLOCKS_MAX 32

/* Partials are written in lines of this. */
#define STAGING_BYTES 128u

/* Where everything lies in a route's memory: shared parts first, at the same place on all ranks. */
typedef struct route_plan {
    cuda_channel_t channel;
    uint64_t counters;
    uint64_t staging_row_bytes;
    uint64_t staging;
    uint64_t gradient;
    uint64_t arrivals, details, progress, chunks;
    uint64_t place_of_expert, expert_start, expert_of_local;
    uint64_t experts, weights, slot_rows, first_rows;
    uint64_t row_counts, expert_counts, needs, block_starts, local_counts, block_counts;
    uint64_t expert_sums;
    uint64_t token_count, has_routing;
    cuda_slots_t slots;
    uint64_t bytes;
} route_plan_t;

static uint64_t append(uint64_t *end, uint64_t count, uint64_t element_bytes)
{
    const uint64_t offset = *end;
    *end = memory_round_up(offset + count * element_bytes, STAGING_BYTES);
    return offset;
}

static route_plan_t plan_route(const route_shape_t *shape)
{
    const uint64_t ranks = (uint64_t)shape->rank_count;
    const uint64_t experts = (uint64_t)shape->expert_count;
    const uint64_t tokens = (uint64_t)shape->token_count_max;
    const uint64_t slots = tokens * (uint64_t)shape->topk;
    const int is_low_latency = shape->mode == MOXIE_MODE_LOW_LATENCY;
    const uint64_t standard = is_low_latency ? 0 : 1;
    const int is_rank_major = shape->layout == MOXIE_LAYOUT_RANK_MAJOR;
    const uint64_t detail_bytes = is_rank_major ? sizeof(cuda_slot_t) : sizeof(cuda_link_t);
    const uint64_t chunks =
        is_rank_major ? standard * 2 * ranks * CUDA_BLOCK_COUNT_MAX : 0; /* of two banks */
    route_plan_t plan;
    memset(&plan, 0, sizeof(plan));
    const uint64_t count_words = ranks + experts + (is_low_latency ? CUDA_BAD_WORDS : 0);
    plan.counters = cuda_channel_counters(0, shape->rank_count, count_words);
    uint64_t end = cuda_channel_plan(0, shape->rank_count, count_words, &plan.channel);
    plan.staging_row_bytes = memory_round_up((uint64_t)shape->hidden * 2, STAGING_BYTES);
    plan.staging = append(&end, standard * tokens * ranks, plan.staging_row_bytes);
    plan.gradient = append(&end, standard * slots, sizeof(float));
    plan.arrivals = append(&end, standard * ranks * tokens, sizeof(cuda_arrival_t));
    plan.details = append(&end, standard * ranks * slots, detail_bytes);
    plan.progress = append(&end, standard * ranks * tokens, sizeof(uint32_t));
    plan.chunks = append(&end, chunks, sizeof(uint64_t) * CUDA_CHUNK_WORDS(ranks));
    plan.place_of_expert = append(&end, experts, sizeof(uint32_t));
    plan.expert_start = append(&end, ranks + 1, sizeof(int32_t));
    plan.expert_of_local = append(&end, experts, sizeof(int32_t));
    plan.experts = append(&end, standard * slots, sizeof(int32_t));
    plan.weights = append(&end, standard * slots, sizeof(float));
    plan.slot_rows = append(&end, standard * slots, sizeof(int32_t));
    plan.first_rows = append(&end, tokens * ranks, sizeof(int32_t));
    plan.row_counts = append(&end, ranks * ranks, sizeof(int32_t));
    plan.expert_counts = append(&end, ranks * experts, sizeof(int32_t));
    plan.needs = append(&end, ranks, sizeof(int64_t));
    plan.block_starts = append(&end, experts + 1, sizeof(int64_t));
    plan.local_counts = append(&end, experts, sizeof(int64_t));
    plan.block_counts =
        append(&end, standard * UPDATE_BLOCKS_MAX * (ranks + experts), sizeof(uint32_t));
    plan.expert_sums = append(&end, standard * experts, sizeof(uint32_t));
    plan.token_count = append(&end, 1, sizeof(int64_t));
    plan.has_routing = append(&end, 1, sizeof(int32_t));
    if (is_low_latency) {
        cuda_slots_plan(shape, &plan.slots, &end);
    }
    plan.bytes = end;
    return plan;
}

void cuda_route_quote(const route_shape_t *shape, memory_account_t *out)
{
    out->host_bytes +=
        memory_charge(sizeof(cuda_route_t)) + memory_charge(sizeof(cuda_route_pinned_t));
    out->device_bytes += memory_round_up(plan_route(shape).bytes, CUDA_PAGE_BYTES);
}

/* What ranks tell each other of a route on the host. */
typedef struct route_notice {
    route_terms_t terms;
    uint32_t block_count; /* that a rank's GPU has room for, of kernels with as many on all ranks */
    int32_t is_tagged;    /* low latency: its knob allows tagged pieces */
} route_notice_t;

/* Low latency: a block for each token, and one more. Else of a dispatch with its routing. */
static uint32_t common_block_count(const cuda_exchange_t *exchange, const moxie_route_t *route)
{
    const int64_t tokens = route->state->shape.token_count_max;
    if (route->state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return 1 + cuda_share_blocks(exchange, CUDA_SLOTS_BLOCK_COUNT - 1, 1, tokens, 1).send;
    }
    return cuda_share_blocks(exchange, route->group->knobs.value[CUDA_KNOB_SMS], 0, tokens,
                             CUDA_TOKENS_PER_BLOCK)
        .total;
}

static int32_t allows_tagged(const moxie_route_t *route)
{
    const int64_t bytes = cuda_slots_tagged_bytes(&route->state->shape);
    return route->state->shape.mode == MOXIE_MODE_LOW_LATENCY && bytes > 0 &&
           bytes <= route->group->knobs.value[CUDA_KNOB_TAGGED_BYTES];
}

/* All ranks must mean the same exchange; if not, every update will say so, as on the CPU. */
static void compare(cuda_route_t *route, const route_notice_t *notices, int32_t rank_count)
{
    const moxie_error_t before = *error_detail();
    uint32_t block_count = notices[0].block_count;
    int is_tagged = notices[0].is_tagged;
    for (int32_t rank = 1; rank < rank_count; rank++) {
        const uint32_t count = notices[rank].block_count;
        block_count = count < block_count ? count : block_count;
        is_tagged = is_tagged && notices[rank].is_tagged;
    }
    route->low_latency.is_tagged = is_tagged;
    route->low_latency.block_count = block_count;
    route->routing_block_count = block_count;
    for (int32_t rank = 1; rank < rank_count; rank++) {
        if (route_terms_compare(&notices[0].terms, &notices[rank].terms, rank) != MOXIE_OK) {
            route->mismatch = *error_detail();
            *error_detail() = before; /* it is not this call's */
            return;
        }
    }
}

static char *own_memory(const cuda_route_t *route)
{
    return route->memory.parts[route->memory.rank].base;
}

static void point_view(const moxie_route_t *route, const route_plan_t *plan)
{
    const route_shape_t *shape = &route->state->shape;
    cuda_route_t *own = cuda_route_of(route);
    cuda_route_view_t *view = &own->view;
    char *base = own_memory(own);
    view->layout = shape->layout;
    view->expert_count = shape->expert_count;
    view->local_expert_count = moxie_placement_local_count(route->placement, shape->rank);
    view->topk = shape->topk;
    view->hidden = shape->hidden;
    view->alignment = shape->alignment;
    view->token_count_max = shape->token_count_max;
    view->staging_offset = plan->staging;
    view->staging_row_bytes = plan->staging_row_bytes;
    view->gradient_offset = plan->gradient;
    view->arrival_offset = plan->arrivals;
    view->detail_offset = plan->details;
    view->progress_offset = plan->progress;
    view->chunk_offset = plan->chunks;
    view->place_of_expert = (void *)(base + plan->place_of_expert);
    view->expert_start = (void *)(base + plan->expert_start);
    view->expert_of_local = (void *)(base + plan->expert_of_local);
    view->experts = (void *)(base + plan->experts);
    view->weights = (void *)(base + plan->weights);
    view->rows = (void *)(base + plan->slot_rows);
    view->first_rows = (void *)(base + plan->first_rows);
    view->row_counts = (void *)(base + plan->row_counts);
    view->expert_counts = (void *)(base + plan->expert_counts);
    view->needs = (void *)(base + plan->needs);
    view->block_starts = (void *)(base + plan->block_starts);
    view->local_counts = (void *)(base + plan->local_counts);
    view->block_counts = (void *)(base + plan->block_counts);
    view->expert_sums = (void *)(base + plan->expert_sums);
    view->token_count = (void *)(base + plan->token_count);
    view->has_routing = (void *)(base + plan->has_routing);
    view->report = &own->pinned->report;
    own->low_latency.slots = plan->slots;
    cuda_slots_point(&own->low_latency.slots, base);
}

static void point_channel(const cuda_exchange_t *exchange, cuda_route_t *route,
                          const route_plan_t *plan)
{
    route->channel = plan->channel;
    cuda_channel_open(exchange, &route->memory, &route->channel);
    route->channel.counters = (void *)(own_memory(route) + plan->counters);
}

static moxie_status_t upload(const cuda_transport_t *transport, const void *to, const void *from,
                             size_t bytes)
{
    return cuda_check(cuda()->cuMemcpyAsync((CUdeviceptr)(uintptr_t)to,
                                            (CUdeviceptr)(uintptr_t)from, bytes, transport->stream),
                      "a route's tables");
}

/* Rank and local index of every expert in one word. */
static moxie_status_t upload_places(const moxie_route_t *route)
{
    const cuda_transport_t *transport = cuda_of(route->group)->transport;
    const moxie_placement_t *placement = route->placement;
    const uint64_t bytes = sizeof(uint32_t) * (uint64_t)placement->expert_count;
    void *memory;
    moxie_status_t status =
        memory_allocate(&route->group->account, bytes, "a route's experts", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    uint32_t *places = memory;
    for (int32_t expert = 0; expert < placement->expert_count; expert++) {
        places[expert] = (uint32_t)placement->rank_of_expert[expert] << 16 |
                         (uint32_t)placement->local_of_expert[expert];
    }
    status = upload(transport, cuda_route_of(route)->view.place_of_expert, places, bytes);
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuStreamSynchronize(transport->stream), "a route's tables");
    }
    memory_release(&route->group->account, places, bytes);
    return status;
}

/* The placement, and a channel in which nothing was said yet. */
static moxie_status_t fill_memory(const moxie_route_t *route)
{
    const cuda_transport_t *transport = cuda_of(route->group)->transport;
    const moxie_placement_t *placement = route->placement;
    const cuda_route_t *own = cuda_route_of(route);
    const cuda_counters_t counters = {.bad_slot = ~UINT64_C(0)};
    moxie_status_t status = upload_places(route);
    if (status == MOXIE_OK) {
        status = upload(transport, own->view.expert_start, placement->expert_start,
                        sizeof(int32_t) * ((size_t)placement->rank_count + 1));
    }
    if (status == MOXIE_OK) {
        status = upload(transport, own->view.expert_of_local, placement->expert_of_local,
                        sizeof(int32_t) * (size_t)placement->expert_count);
    }
    if (status == MOXIE_OK) {
        status = upload(transport, own->channel.counters, &counters, sizeof(counters));
    }
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuStreamSynchronize(transport->stream), "a route's tables");
    }
    return status;
}

/* Kernels count rows of this backend in 32 bits. */
static moxie_status_t check_size(const moxie_route_t *route)
{
    const route_shape_t *shape = &route->state->shape;
    const int64_t worst = layout_worst_case(shape, shape->expert_count);
    if (worst <= INT32_MAX) {
        return MOXIE_OK;
    }
    return error_set(MOXIE_ERR_UNSUPPORTED,
                     "backend cuda counts rows in 32 bits and this route may have %" PRId64, worst);
}

static moxie_status_t open_local(moxie_route_t *route, cuda_route_t **out)
{
    void *memory = NULL;
    moxie_status_t status =
        memory_allocate(&route->group->account, sizeof(cuda_route_t), "a route", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_route_t *own = memory;
    own->exchange = cuda_of(route->group);
    route->implementation = own;
    *out = own;
    status = check_size(route);
    if (status == MOXIE_OK) {
        status = cuda_pinned_allocate(&route->group->account, sizeof(cuda_route_pinned_t), &memory);
    }
    if (status == MOXIE_OK) {
        own->pinned = memory;
        own->pinned->report.update.refusal = CUDA_REFUSED_NO_ROUTING;
        status =
            cuda_check(cuda()->cuEventCreate(&own->called, CU_EVENT_DISABLE_TIMING), "an event");
    }
    return status;
}

moxie_status_t cuda_route_open(moxie_route_t *route)
{
    cuda_exchange_t *exchange = cuda_of(route->group);
    cuda_transport_t *transport = exchange->transport;
    const int32_t rank_count = route->group->rank_count;
    const route_plan_t plan = plan_route(&route->state->shape);
    const cuda_sharing_call_t call = cuda_transport_call(transport, "route_create");
    const route_notice_t notice = {
        .terms = {.shape = route->state->shape,
                  .placement_digest = placement_digest(route->placement)},
        .block_count = common_block_count(exchange, route),
        .is_tagged = allows_tagged(route)};
    route_notice_t notices[CUDA_RANK_COUNT_MAX];
    cuda_route_t *own = NULL;
    cuda_sharing_t none;
    moxie_status_t status = open_local(route, &own);
    status = cuda_sharing_allocate(&call, plan.bytes, status, own != NULL ? &own->memory : &none);
    if (status == MOXIE_OK) {
        status = shm_allgather(transport->host, &notice, sizeof(notice), notices);
    }
    const int is_shared = status == MOXIE_OK;
    if (status == MOXIE_OK) {
        compare(own, notices, rank_count);
        point_view(route, &plan);
        point_channel(exchange, own, &plan);
        status = fill_memory(route);
    }
    if (status == MOXIE_OK && route->state->shape.mode == MOXIE_MODE_LOW_LATENCY &&
        own->mismatch.status != MOXIE_OK) { /* its update is local and could not tell */
        status = error_adopt(&own->mismatch);
    }
    if (is_shared) { /* no peer writes before the memory is filled */
        status = shm_agree(transport->host, status);
    }
    if (status != MOXIE_OK) {
        const moxie_error_t error = *error_detail();
        cuda_route_close(route);
        return error_adopt(&error);
    }
    own->next = exchange->routes;
    exchange->routes = own;
    return MOXIE_OK;
}

static void unlink_route(cuda_exchange_t *exchange, const cuda_route_t *route)
{
    for (cuda_route_t **link = &exchange->routes; *link != NULL; link = &(*link)->next) {
        if (*link == route) {
            *link = route->next;
            return;
        }
    }
}

void cuda_route_close(moxie_route_t *route)
{
    cuda_route_t *own = cuda_route_of(route);
    cuda_exchange_t *exchange = cuda_of(route->group);
    if (own == NULL) {
        return;
    }
    const cuda_sharing_call_t call = cuda_transport_call(exchange->transport, "route_destroy");
    unlink_route(exchange, own);
    if (cuda_device_enter(&exchange->transport->device) == MOXIE_OK) {
        if (own->called != NULL) { /* kernels of this rank are bounded by their deadlines */
            cuda()->cuEventSynchronize(own->called);
            cuda()->cuEventDestroy(own->called);
            cuda_tally_add(exchange, &own->channel, &exchange->retired);
        }
        cuda_sharing_close(&call, &own->memory);
        cuda_pinned_release(&route->group->account, own->pinned, sizeof(*own->pinned));
        cuda_device_leave();
    }
    memory_release(&route->group->account, own, sizeof(*own));
    route->implementation = NULL;
}

moxie_status_t cuda_route_read(CUstream stream, const void *from, void *to, size_t bytes)
{
    moxie_status_t status =
        cuda_check(cuda()->cuMemcpyAsync((CUdeviceptr)(uintptr_t)to, (CUdeviceptr)(uintptr_t)from,
                                         bytes, stream),
                   "reading a route's tables");
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuStreamSynchronize(stream), "reading a route's tables");
    }
    return status;
}

moxie_status_t cuda_route_read_counts(CUstream stream, const int32_t *from, int64_t *to,
                                      size_t count)
{
    int32_t *narrow = (int32_t *)(void *)(to + count) - count;
    const moxie_status_t status = cuda_route_read(stream, from, narrow, count * sizeof(*narrow));
    for (size_t i = 0; i < count; i++) {
        int32_t number;
        memcpy(&number, narrow + i, sizeof(number));
        to[i] = number;
    }
    return status;
}

/* The hops of one token, by (rank, slot), from the rows that the device gave its slots. */
static int64_t write_hops(const route_state_t *state, const moxie_placement_t *placement,
                          int64_t token, const int32_t *rows, route_hop_t *hops)
{
    const int32_t *experts = route_experts(state, token);
    int64_t count = 0;
    for (int32_t rank = 0; rank < state->shape.rank_count; rank++) {
        for (int32_t slot = 0; slot < state->shape.topk; slot++) {
            if (experts[slot] < 0 || placement->rank_of_expert[experts[slot]] != rank) {
                continue;
            }
            hops[count++] = (route_hop_t){.row = rows[slot], .rank = rank, .slot = slot};
            if (state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR) {
                break;
            }
        }
    }
    return count;
}

moxie_status_t cuda_route_download(moxie_route_t *route)
{
    const cuda_transport_t *transport = cuda_of(route->group)->transport;
    const cuda_route_view_t *view = &cuda_route_of(route)->view;
    route_state_t *state = route->state;
    const size_t ranks = (size_t)state->shape.rank_count;
    const size_t experts = (size_t)state->shape.expert_count;
    const size_t slots = (size_t)state->token_count * (size_t)state->shape.topk;
    if (state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return cuda_slots_download(route);
    }
    void *memory = NULL;
    moxie_status_t status =
        memory_allocate(&route->group->account, slots * sizeof(int32_t), "a route's rows", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    int32_t *rows = memory;
    status = cuda_device_enter(&transport->device);
    if (status == MOXIE_OK) {
        status = cuda_route_read(transport->stream, view->rows, rows, slots * sizeof(int32_t));
        if (status == MOXIE_OK) {
            status = cuda_route_read(transport->stream, view->experts, route_experts(state, 0),
                                     slots * sizeof(int32_t));
        }
        if (status == MOXIE_OK) {
            status = cuda_route_read_counts(transport->stream, view->row_counts,
                                            route_row_count(state, 0), ranks * ranks);
        }
        if (status == MOXIE_OK) {
            status = cuda_route_read_counts(transport->stream, view->expert_counts,
                                            route_expert_count(state, 0), ranks * experts);
        }
        if (status == MOXIE_OK) {
            layout_derive(state, route->placement); /* block starts of all ranks */
            status = cuda_route_read(transport->stream, view->needs, route_recv_count(state),
                                     ranks * sizeof(int64_t));
        }
        cuda_device_leave();
    }
    int64_t *hop_start = route_hop_start(state);
    hop_start[0] = 0;
    for (int64_t token = 0; token < state->token_count && status == MOXIE_OK; token++) {
        hop_start[token + 1] = hop_start[token] + write_hops(state, route->placement, token,
                                                             rows + token * state->shape.topk,
                                                             route_hops(state) + hop_start[token]);
    }
    memory_release(&route->group->account, rows, slots * sizeof(int32_t));
    return status;
}
