/* SPDX-License-Identifier: Apache-2.0 */
/* The window of a low-latency route. */
#include "exchange/shm/slots.h"

#include "core/error.h"
#include "transport/shm/collective.h"

#include <string.h>

/* The struct and its two arrays by rank. */
static uint64_t struct_bytes(int32_t rank_count)
{
    return sizeof(shm_slots_t) + (sizeof(char *) + sizeof(shm_line_t *)) * (uint64_t)rank_count;
}

static uint64_t append(uint64_t *bytes, uint64_t count, uint64_t element_bytes)
{
    const uint64_t offset = *bytes;
    *bytes = memory_round_up(offset + count * element_bytes, MEMORY_LINE_BYTES);
    return offset;
}

/* The line comes first. */
static slots_layout_t plan(const route_shape_t *shape)
{
    const uint64_t slots = (uint64_t)route_slot_count(shape);
    const uint64_t topk = (uint64_t)shape->topk;
    const uint64_t row_bytes =
        (uint64_t)shape->hidden * (uint64_t)moxie_dtype_bytes(MOXIE_DTYPE_BF16);
    const uint64_t words = (uint64_t)moxie_scale_words(MOXIE_SCALE_FP32, shape->hidden);
    slots_layout_t layout = {.bytes = memory_round_up(sizeof(shm_line_t), MEMORY_LINE_BYTES)};
    layout.rows_offset = append(&layout.bytes, slots, row_bytes);
    layout.scales_offset = append(&layout.bytes, slots, words * sizeof(uint32_t));
    layout.idx_offset = append(&layout.bytes, slots, topk * sizeof(int32_t));
    layout.weights_offset = append(&layout.bytes, slots, topk * sizeof(float));
    layout.tokens_offset = append(&layout.bytes, slots, sizeof(int32_t));
    return layout;
}

void slots_quote(const route_shape_t *shape, memory_account_t *out)
{
    if (shape->mode == MOXIE_MODE_LOW_LATENCY) {
        out->host_bytes += memory_charge(struct_bytes(shape->rank_count));
        shm_window_quote(shape->rank_count, plan(shape).bytes, out);
    }
}

/* Ranks that mean different shapes would write beyond each other's slots. */
static moxie_status_t compare_terms(const moxie_route_t *route)
{
    const int32_t rank_count = route->group->rank_count;
    shm_transport_t *transport = shm_of(route->group)->transport;
    const route_terms_t mine = {.shape = route->state->shape,
                                .placement_digest = placement_digest(route->placement)};
    route_terms_t all[MOXIE_RANK_COUNT_MAX];
    moxie_status_t status = shm_allgather(transport, &mine, sizeof(mine), all);
    for (int32_t rank = 1; rank < rank_count && status == MOXIE_OK; rank++) {
        status = route_terms_compare(&all[0], &all[rank], rank);
    }
    return status;
}

moxie_status_t slots_open(moxie_route_t *route)
{
    const int32_t rank_count = route->group->rank_count;
    shm_transport_t *transport = shm_of(route->group)->transport;
    void *memory;
    if (route->state->shape.mode != MOXIE_MODE_LOW_LATENCY) {
        return MOXIE_OK;
    }
    moxie_status_t status = memory_allocate(&route->group->account, struct_bytes(rank_count),
                                            "a route's slots", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    shm_slots_t *slots = memory;
    slots->layout = plan(&route->state->shape);
    slots->parts = (void *)(slots + 1);
    slots->channel =
        (shm_channel_t){.transport = transport, .lines = (void *)(slots->parts + rank_count)};
    route->implementation = slots;
    status = shm_window_allocate(transport, slots->layout.bytes, &slots->window);
    if (status == MOXIE_OK) {
        status = compare_terms(route);
    }
    if (status != MOXIE_OK) {
        slots_close(route);
        return status;
    }
    shm_window_t *window = (shm_window_t *)slots->window;
    window->has_line = 1;
    for (int32_t rank = 0; rank < rank_count; rank++) {
        slots->parts[rank] = window->parts[rank].base;
        slots->channel.lines[rank] = (void *)slots->parts[rank];
    }
    return MOXIE_OK;
}

void slots_close(moxie_route_t *route)
{
    shm_slots_t *slots = slots_of(route);
    if (slots == NULL) {
        return;
    }
    shm_transport_t *transport = shm_of(route->group)->transport;
    if (transport->channel == &slots->channel) {
        transport->channel = &transport->group_channel;
    }
    shm_window_free(slots->window);
    memory_release(&route->group->account, slots, struct_bytes(route->group->rank_count));
    route->implementation = NULL;
}

void slots_find(const moxie_route_t *route, moxie_dispatch_out_t *out)
{
    const shm_slots_t *slots = slots_of(route);
    char *part = slots->parts[route->group->rank];
    out->recv_x = part + slots->layout.rows_offset;
    out->recv_scales = part + slots->layout.scales_offset;
    out->recv_topk_idx = (void *)(part + slots->layout.idx_offset);
    out->recv_topk_weights = (void *)(part + slots->layout.weights_offset);
}
