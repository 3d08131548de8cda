/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the library that a rank makes, on inputs that anyone can make again. */
#include "bench/session.h"

#include "bench/random.h"

const char *session_slot_name(const session_t *session, slot_t slot)
{
    static const char *const names[SLOT_COUNT][2] = {
        [SLOT_DISPATCH] = {"dispatch", "dispatch backward"},
        [SLOT_COMBINE] = {"combine", "combine backward"},
    };
    return names[slot][session->plan->is_backward];
}

int32_t session_side_count(const session_t *session)
{
    return session->plan->options->baseline == BASELINE_NONE ? 1 : SIDE_COUNT;
}

int32_t session_home_set(const session_t *session, int64_t turn)
{
    return (int32_t)(turn % session->plan->home_set_count);
}

int32_t session_expert_set(const session_t *session, int64_t turn)
{
    return (int32_t)(turn % session->plan->expert_set_count);
}

payload_t session_home_payload(const session_t *session, int32_t set)
{
    return (payload_t){session->plan->seed, RANDOM_FOR_HOME_ROWS,
                       session->buffers.home_input_set[set]};
}

payload_t session_expert_payload(const session_t *session, int32_t set)
{
    return (payload_t){session->plan->seed, RANDOM_FOR_EXPERT_ROWS,
                       session->buffers.expert_input_set[set]};
}

payload_t session_scales_payload(const session_t *session, int32_t set)
{
    return (payload_t){session->plan->seed, RANDOM_FOR_SCALES,
                       session->buffers.home_input_set[set]};
}

payload_t session_weights_payload(const session_t *session)
{
    return (payload_t){session->plan->seed, RANDOM_FOR_WEIGHTS, session->buffers.weights_input_set};
}

/* Rows are made where the device takes them from, a piece at a time. */
static void fill_rows(const session_t *session, const payload_t *payload, int64_t row_count,
                      uint16_t *rows)
{
    device_t *device = session->device;
    int64_t hidden = session->plan->hidden;
    size_t row_bytes = (size_t)plan_row_bytes(session->plan);
    for (int64_t first = 0; first < row_count;) {
        int64_t count = device_piece_rows(device, row_bytes, row_count - first);
        uint16_t *to = rows + first * hidden;
        uint16_t *piece = device->ops->write_begin(device, to);
        for (int64_t row = 0; row < count; row++) {
            payload_row_bf16(payload, session->rank, first + row, 0, hidden, piece + row * hidden);
            link_alive(session->link);
        }
        device->ops->write_end(device, to, (size_t)count * row_bytes);
        first += count;
    }
}

/* Rows of fp8, and their scales: whatever bits, for they are copied. */
static void fill_fp8_rows(const session_t *session, int32_t set, int64_t row_count)
{
    device_t *device = session->device;
    payload_t payload = session_home_payload(session, set);
    int64_t hidden = session->plan->hidden;
    uint8_t *rows = buffers_home(&session->buffers, set);
    for (int64_t first = 0; first < row_count;) {
        int64_t count = device_piece_rows(device, (size_t)hidden, row_count - first);
        uint8_t *to = rows + first * hidden;
        uint8_t *piece = device->ops->write_begin(device, to);
        for (int64_t row = 0; row < count; row++) {
            payload_row_fp8(&payload, session->rank, first + row, 0, hidden, piece + row * hidden);
            link_alive(session->link);
        }
        device->ops->write_end(device, to, (size_t)(count * hidden));
        first += count;
    }
}

static void fill_fp32_rows(const session_t *session, const payload_t *payload, int64_t row_count,
                           int64_t width, float *rows)
{
    device_t *device = session->device;
    size_t row_bytes = (size_t)width * sizeof(float);
    for (int64_t first = 0; first < row_count;) {
        int64_t count = device_piece_rows(device, row_bytes, row_count - first);
        float *to = rows + first * width;
        float *piece = device->ops->write_begin(device, to);
        for (int64_t row = 0; row < count; row++)
            payload_row_fp32(payload, session->rank, first + row, width, piece + row * width);
        device->ops->write_end(device, to, (size_t)count * row_bytes);
        first += count;
    }
}

static void fill_weights(const session_t *session)
{
    const plan_t *plan = session->plan;
    payload_t payload = session_weights_payload(session);
    int64_t width = plan->layout == MOXIE_LAYOUT_RANK_MAJOR ? plan->topk : 1;
    fill_fp32_rows(session, &payload, session->buffers.row_capacity, width,
                   buffers_d_recv_weights(&session->buffers));
}

static void fill_home(const session_t *session, int32_t set)
{
    const plan_t *plan = session->plan;
    int64_t row_count = routing_token_count(&plan->routing, session->rank);
    if (!plan->has_fp8 || plan->is_quantized) {
        payload_t payload = session_home_payload(session, set);
        fill_rows(session, &payload, row_count, buffers_home(&session->buffers, set));
        return;
    }
    payload_t scales = session_scales_payload(session, set);
    fill_fp8_rows(session, set, row_count);
    fill_fp32_rows(session, &scales, row_count, plan_scale_count(plan),
                   buffers_home_scales(&session->buffers, set));
}

void session_refill(session_t *session, int32_t set)
{
    const plan_t *plan = session->plan;
    buffers_t *buffers = &session->buffers;
    uint64_t input_set = session->next_input_set++;
    if (set < plan->home_set_count) {
        buffers->home_input_set[set] = input_set;
        fill_home(session, set);
    }
    if (set < plan->expert_set_count) {
        buffers->expert_input_set[set] = input_set;
        payload_t payload = session_expert_payload(session, set);
        fill_rows(session, &payload, buffers->row_capacity, buffers_expert(buffers, set));
    }
    if (plan->is_backward && set == 0) {
        buffers->weights_input_set = input_set;
        fill_weights(session);
    }
}

moxie_status_t session_update_route(const session_t *session)
{
    moxie_routing_t routing = buffers_routing(&session->buffers);
    return moxie_route_update(session->route, &routing, session->device->stream);
}

moxie_status_t session_status(const session_t *session)
{
    return device_has_stream(session->device) ? moxie_route_status(session->route) : MOXIE_OK;
}

moxie_dispatch_in_t session_dispatch_in(const session_t *session)
{
    const plan_t *plan = session->plan;
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    if (plan->has_fp8 && !plan->is_quantized)
        in.dtype = MOXIE_DTYPE_FP8_E4M3;
    if (plan->is_quantized)
        in.wire_dtype = MOXIE_DTYPE_FP8_E4M3;
    return in;
}

moxie_dispatch_out_t session_dispatch_out(const session_t *session)
{
    moxie_dispatch_out_t out = buffers_dispatch_out(&session->buffers);
    moxie_dispatch_out_t slots = MOXIE_DISPATCH_OUT_INIT;
    if (!session->plan->is_low_latency || session->plan->layout != MOXIE_LAYOUT_RANK_MAJOR ||
        moxie_route_slots(session->route, &slots) != MOXIE_OK)
        return out;
    slots.expert_count = out.expert_count;
    return slots;
}

static moxie_status_t call_dispatch(const session_t *session, int32_t home_set)
{
    moxie_routing_t routing = buffers_routing(&session->buffers);
    moxie_dispatch_in_t in = session_dispatch_in(session);
    moxie_dispatch_out_t out = session_dispatch_out(session);
    moxie_stream_t stream = session->device->stream;
    in.x = buffers_home(&session->buffers, home_set);
    if (in.dtype == MOXIE_DTYPE_FP8_E4M3)
        in.x_scales = buffers_home_scales(&session->buffers, home_set);
    return session->plan->is_fresh
               ? moxie_dispatch_routing(session->route, &routing, &in, &out, stream)
               : moxie_dispatch(session->route, &in, &out, stream);
}

static moxie_status_t call_combine(const session_t *session, int32_t expert_set)
{
    moxie_combine_in_t in = MOXIE_COMBINE_IN_INIT;
    moxie_combine_out_t out = MOXIE_COMBINE_OUT_INIT;
    in.y = buffers_expert(&session->buffers, expert_set);
    out.out = buffers_out(&session->buffers);
    return moxie_combine(session->route, &in, &out, session->device->stream);
}

static moxie_status_t call_dispatch_backward(const session_t *session, int32_t expert_set)
{
    moxie_dispatch_backward_in_t in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    moxie_dispatch_backward_out_t out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    in.d_recv_x = buffers_expert(&session->buffers, expert_set);
    in.d_recv_weights = buffers_d_recv_weights(&session->buffers);
    out.d_x = buffers_out(&session->buffers);
    out.d_topk_weights = buffers_d_topk_weights(&session->buffers);
    return moxie_dispatch_backward(session->route, &in, &out, session->device->stream);
}

static moxie_status_t call_combine_backward(const session_t *session, int32_t home_set,
                                            int32_t expert_set)
{
    moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    moxie_combine_backward_out_t out = buffers_combine_backward_out(&session->buffers);
    in.d_out = buffers_home(&session->buffers, home_set);
    if (session->plan->layout == MOXIE_LAYOUT_EXPERT_MAJOR)
        in.y = buffers_expert(&session->buffers, expert_set);
    return moxie_combine_backward(session->route, &in, &out, session->device->stream);
}

moxie_status_t session_call(const session_t *session, slot_t slot, int64_t turn)
{
    int32_t home_set = session_home_set(session, turn);
    int32_t expert_set = session_expert_set(session, turn);
    if (session->plan->is_backward)
        return slot == SLOT_DISPATCH ? call_dispatch_backward(session, expert_set)
                                     : call_combine_backward(session, home_set, expert_set);
    return slot == SLOT_DISPATCH ? call_dispatch(session, home_set)
                                 : call_combine(session, expert_set);
}
