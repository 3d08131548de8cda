/* SPDX-License-Identifier: Apache-2.0 */
/* Measures and allocates the memory of a rank. Sizes and offsets come from one function. */
#include "bench/buffers.h"

#include <string.h>

/* Every part begins on a page of its own, as an allocator would place a tensor of its size. */
enum { PART_ALIGNMENT = 4096 };

/* A NaN in bf16 and fp32, a negative number as an id: no exchange writes it. */
enum { POISON = 0xFF };

/* Reserves a part and returns where it begins. */
static size_t reserve(size_t *end, int64_t count, size_t element_bytes)
{
    size_t start = *end;
    size_t bytes = (size_t)count * element_bytes;
    *end = start + (bytes + PART_ALIGNMENT - 1) / PART_ALIGNMENT * PART_ALIGNMENT;
    return start;
}

buffer_layout_t buffers_measure(const plan_t *plan, int32_t rank)
{
    buffer_layout_t layout = {0};
    size_t *window = &layout.window_bytes;
    size_t *private = &layout.private_bytes;
    size_t row_bytes = (size_t)plan_row_bytes(plan);
    bool rank_major = plan->layout == MOXIE_LAYOUT_RANK_MAJOR;
    int64_t rows = plan_row_capacity(plan, rank);
    int64_t tokens = routing_token_count(&plan->routing, rank);
    int64_t local_experts = moxie_placement_local_count(plan->placement, rank);
    int64_t routed = plan->place.is_cuda ? tokens * plan->topk : 0;
    int64_t forward = plan->is_backward ? 0 : 1;
    int64_t rank_rows = rank_major ? rows * plan->topk * forward : 0;
    int64_t expert_rows = rank_major ? 0 : rows * forward;
    int64_t weight_rows = plan->is_backward ? rows * (rank_major ? plan->topk : 1) : 0;

    layout.received = reserve(window, rows, (size_t)plan_recv_row_bytes(plan));
    layout.recv_scales = reserve(window, rows * plan_scale_count(plan), sizeof(float));
    layout.expert = reserve(window, rows * plan->expert_set_count, row_bytes);
    layout.recv_idx = reserve(window, rank_rows, sizeof(int32_t));
    layout.recv_weights = reserve(window, rank_rows, sizeof(float));
    layout.row_weight = reserve(window, expert_rows, sizeof(float));
    layout.row_source = reserve(window, expert_rows, sizeof(moxie_row_source_t));
    layout.d_recv_weights = reserve(window, weight_rows, sizeof(float));
    if (*window == 0) /* a rank that receives nothing: its empty parts need an address too */
        *window = PART_ALIGNMENT;

    layout.home =
        reserve(private, tokens * plan->home_set_count, (size_t)plan_home_row_bytes(plan));
    layout.home_scales = reserve(
        private, plan->is_quantized ? 0 : tokens * plan->home_set_count * plan_scale_count(plan),
        sizeof(float));
    layout.topk_idx = reserve(private, routed, sizeof(int32_t));
    layout.topk_weights = reserve(private, routed, sizeof(float));
    layout.out = reserve(private, tokens, row_bytes);
    layout.d_topk_weights =
        reserve(private, plan->is_backward ? tokens * plan->topk : 0, sizeof(float));
    layout.expert_count = reserve(private, local_experts, sizeof(int64_t));
    layout.expert_start = reserve(private, local_experts + 1, sizeof(int64_t));
    return layout;
}

/* A GPU reads the routing from its own memory. */
static void upload(const buffers_t *buffers, size_t offset, const void *from, size_t bytes)
{
    device_t *device = buffers->device;
    for (size_t done = 0; done < bytes;) {
        size_t left = bytes - done;
        size_t count = left < device->piece_bytes ? left : device->piece_bytes;
        char *to = buffers->private_base + offset + done;
        memcpy(device->ops->write_begin(device, to), (const char *)from + done, count);
        device->ops->write_end(device, to, count);
        done += count;
    }
}

static void upload_routing(const buffers_t *buffers)
{
    moxie_routing_t routing = routing_of_rank(&buffers->plan->routing, buffers->rank);
    size_t slots = (size_t)routing.token_count * (size_t)buffers->plan->topk;
    upload(buffers, buffers->layout.topk_idx, routing.topk_idx, slots * sizeof(int32_t));
    upload(buffers, buffers->layout.topk_weights, routing.topk_weights, slots * sizeof(float));
}

bool buffers_init(buffers_t *buffers, const plan_t *plan, moxie_group_t *group, device_t *device,
                  failure_t *failure)
{
    *buffers = (buffers_t){.plan = plan, .device = device, .rank = device->rank};
    buffers->row_capacity = plan_row_capacity(plan, device->rank);
    buffers->layout = buffers_measure(plan, device->rank);
    buffers->private_base = device->ops->allocate(device, buffers->layout.private_bytes);
    if (buffers->private_base == NULL)
        return device_check(device, failure);
    if (plan->place.is_cuda)
        upload_routing(buffers);
    if (moxie_window_allocate(group, buffers->layout.window_bytes, &buffers->window) != MOXIE_OK)
        return failure_from_library(failure, device->rank, "window allocation");
    buffers->window_base = moxie_window_base(buffers->window);
    return true;
}

void buffers_release(buffers_t *buffers)
{
    moxie_window_free(buffers->window);
    if (buffers->private_base != NULL)
        buffers->device->ops->release(buffers->device, buffers->private_base);
    *buffers = (buffers_t){0};
}

moxie_routing_t buffers_routing(const buffers_t *buffers)
{
    moxie_routing_t routing = routing_of_rank(&buffers->plan->routing, buffers->rank);
    if (buffers->plan->place.is_cuda) {
        routing.topk_idx = buffers->private_base + buffers->layout.topk_idx;
        routing.topk_weights = (void *)(buffers->private_base + buffers->layout.topk_weights);
    }
    return routing;
}

void *buffers_home(const buffers_t *buffers, int32_t set)
{
    size_t rows = (size_t)routing_token_count(&buffers->plan->routing, buffers->rank);
    size_t set_bytes = rows * (size_t)plan_home_row_bytes(buffers->plan);
    return buffers->private_base + buffers->layout.home + (size_t)set * set_bytes;
}

float *buffers_home_scales(const buffers_t *buffers, int32_t set)
{
    size_t rows = (size_t)routing_token_count(&buffers->plan->routing, buffers->rank);
    size_t set_bytes = rows * (size_t)plan_scale_count(buffers->plan) * sizeof(float);
    return (void *)(buffers->private_base + buffers->layout.home_scales + (size_t)set * set_bytes);
}

uint16_t *buffers_expert(const buffers_t *buffers, int32_t set)
{
    size_t set_bytes = (size_t)buffers->row_capacity * (size_t)plan_row_bytes(buffers->plan);
    return (void *)(buffers->window_base + buffers->layout.expert + (size_t)set * set_bytes);
}

moxie_dispatch_out_t buffers_dispatch_out(const buffers_t *buffers)
{
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    const buffer_layout_t *layout = &buffers->layout;
    out.row_capacity = buffers->row_capacity;
    out.recv_x = buffers->window_base + layout->received;
    if (buffers->plan->has_fp8)
        out.recv_scales = buffers->window_base + layout->recv_scales;
    out.expert_count = (void *)(buffers->private_base + layout->expert_count);
    if (buffers->plan->layout == MOXIE_LAYOUT_RANK_MAJOR) {
        out.recv_topk_idx = (void *)(buffers->window_base + layout->recv_idx);
        out.recv_topk_weights = (void *)(buffers->window_base + layout->recv_weights);
    } else {
        out.row_weight = (void *)(buffers->window_base + layout->row_weight);
        out.row_source = (void *)(buffers->window_base + layout->row_source);
        out.expert_start = (void *)(buffers->private_base + layout->expert_start);
    }
    return out;
}

moxie_combine_backward_out_t buffers_combine_backward_out(const buffers_t *buffers)
{
    moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    out.row_capacity = buffers->row_capacity;
    out.d_y = buffers->window_base + buffers->layout.received;
    if (buffers->plan->layout == MOXIE_LAYOUT_EXPERT_MAJOR)
        out.d_topk_weights = buffers_d_topk_weights(buffers);
    return out;
}

void *buffers_out(const buffers_t *buffers)
{
    return buffers->private_base + buffers->layout.out;
}

float *buffers_d_topk_weights(const buffers_t *buffers)
{
    return (void *)(buffers->private_base + buffers->layout.d_topk_weights);
}

float *buffers_d_recv_weights(const buffers_t *buffers)
{
    return (void *)(buffers->window_base + buffers->layout.d_recv_weights);
}

void buffers_poison(const buffers_t *buffers)
{
    const buffer_layout_t *layout = &buffers->layout;
    device_t *device = buffers->device;
    device->ops->fill(device, buffers->window_base + layout->received, POISON,
                      layout->expert - layout->received);
    device->ops->fill(device, buffers->window_base + layout->recv_idx, POISON,
                      layout->d_recv_weights - layout->recv_idx);
    device->ops->fill(device, buffers->private_base + layout->out, POISON,
                      layout->private_bytes - layout->out);
}
