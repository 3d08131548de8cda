/* SPDX-License-Identifier: Apache-2.0 */
/* Calls in low latency: an update, which only remembers the routing, and dispatch and combine in
 * one kernel or in two halves. */
#include "core/error.h"
#include "core/routing.h"
#include "exchange/cuda/cuda.h"

#include <string.h>

/* A block has a thread for each piece of a row, up to a limit, and for what else it does; the first
 * of a dispatch also counts the routing. */
#define COMBINE_THREADS_MIN  128
#define DISPATCH_THREADS_MIN 384

static cuda_slots_calls_t *calls_of(const moxie_route_t *route)
{
    return &cuda_route_of(route)->low_latency;
}

moxie_status_t cuda_slots_update(moxie_route_t *route, const moxie_routing_t *routing,
                                 moxie_stream_t stream)
{
    cuda_route_t *own = cuda_route_of(route);
    cuda_slots_calls_t *calls = calls_of(route);
    moxie_status_t status = cuda_call_begin(route, "route_update");
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_device_leave();
    status = low_latency_check_half(route, calls->half, HALF_NONE);
    if (status != MOXIE_OK) {
        return status;
    }
    memset(&calls->routing_error, 0, sizeof(calls->routing_error));
    calls->routing = *routing;
    calls->has_dispatched = 0;
    own->is_fresh = 1;
    own->fresh_on = stream;
    if (routing_check(&route->state->shape, routing) != MOXIE_OK) {
        calls->routing_error = *error_detail(); /* the dispatch tells it, to all ranks */
        calls->routing.token_count = 0;
    }
    own->token_count = route->state->token_count = calls->routing.token_count;
    return MOXIE_OK;
}

/* What all kernels of a route are given. */
static cuda_slots_call_t start(const moxie_route_t *route, cuda_op_kind_t kind, uint32_t halves)
{
    cuda_route_t *own = cuda_route_of(route);
    cuda_slots_call_t call = {.channel = own->channel,
                              .route = own->view,
                              .slots = own->low_latency.slots,
                              .halves = halves};
    call.channel.timeout_ns = own->channel.timeout_ns = cuda_timeout_ns(cuda_of(route->group));
    call.offer.fields[CUDA_OFFER_KIND] = (uint32_t)kind;
    call.offer.fields[CUDA_OFFER_BAD_SLOT_LOW] = ~0u; /* none is known yet */
    call.offer.fields[CUDA_OFFER_BAD_SLOT_HIGH] = ~0u;
    return call;
}

/* A call's first half, which the device is to begin with a clean report. */
static void open_call(cuda_route_t *own, cuda_slots_call_t *call)
{
    call->is_new = own->is_fresh || own->was_told;
    own->was_told = 0;
}

static uint32_t thread_count(int64_t row_bytes, int64_t piece_bytes, int64_t least)
{
    const int64_t pieces = (row_bytes + piece_bytes - 1) / piece_bytes;
    const int64_t rounds = (pieces + CUDA_SLOTS_THREADS - 1) / CUDA_SLOTS_THREADS;
    const int64_t threads = (pieces + 32 * rounds - 1) / (32 * rounds) * 32;
    return (uint32_t)(threads > least ? threads : least);
}

/* What slots_dispatch.cuh keeps in dynamic shared memory. */
static uint32_t dispatch_scratch_bytes(const moxie_route_t *route)
{
    const route_shape_t *shape = &route->state->shape;
    const int64_t table = (shape->expert_count + 3) / 4 * 4;
    const int64_t scales = moxie_scale_words(MOXIE_SCALE_FP32, shape->hidden);
    const int64_t counts[] = {shape->rank_count + 2 * shape->expert_count + CUDA_BAD_WORDS,
                              shape->rank_count * shape->topk, scales};
    int64_t most = 0;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        most = counts[i] > most ? counts[i] : most;
    }
    return (uint32_t)(table + most) * (uint32_t)sizeof(uint32_t);
}

static int is_expert_major(const moxie_route_t *route)
{
    return route->state->shape.layout == MOXIE_LAYOUT_EXPERT_MAJOR;
}

static cuda_kernel_t dispatch_kernel(const moxie_route_t *route)
{
    return is_expert_major(route) ? CUDA_KERNEL_SLOTS_DISPATCH_EXPERT_MAJOR
                                  : CUDA_KERNEL_SLOTS_DISPATCH;
}

static cuda_kernel_t combine_kernel(const moxie_route_t *route)
{
    if (is_expert_major(route)) {
        return CUDA_KERNEL_SLOTS_COMBINE_EXPERT_MAJOR;
    }
    return calls_of(route)->is_tagged ? CUDA_KERNEL_SLOTS_COMBINE_TAGGED
                                      : CUDA_KERNEL_SLOTS_COMBINE;
}

/* Launches a kernel. An error of the arguments a second half cannot tell the peers any more: then
 * this rank alone gets it. */
static moxie_status_t finish(moxie_route_t *route, cuda_kernel_t kernel, uint32_t threads,
                             uint32_t scratch_bytes, const void *args, uint32_t halves,
                             moxie_status_t local, moxie_stream_t stream)
{
    const cuda_exchange_t *exchange = cuda_of(route->group);
    const moxie_error_t mine = *error_detail();
    const int is_whole = halves == (CUDA_HALF_SEND | CUDA_HALF_RECEIVE);
    /* Blocks that came ahead would take their places from ranks that share the GPU. */
    const cuda_launch_order_t order =
        exchange->transport->ranks_on_device == 1 ? CUDA_LAUNCH_AHEAD : CUDA_LAUNCH_BEHIND;
    const moxie_status_t launched = cuda_launch(exchange, kernel, calls_of(route)->block_count,
                                                threads, scratch_bytes, args, stream, order);
    const moxie_status_t status =
        cuda_call_end(route, stream, is_whole ? local : MOXIE_OK, launched);
    return status == MOXIE_OK && local != MOXIE_OK && halves == CUDA_HALF_RECEIVE
               ? error_adopt(&mine)
               : status;
}

static moxie_status_t check_input(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                                  dispatch_rows_t *kind)
{
    const moxie_error_t *error = &calls_of(route)->routing_error;
    return route->has_routing && error->status != MOXIE_OK
               ? error_adopt(error)
               : low_latency_check_input(route, in, kind);
}

static void give_input(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                       cuda_slots_dispatch_args_t *args)
{
    const moxie_routing_t *routing = &calls_of(route)->routing;
    args->topk_idx = routing->topk_idx;
    args->topk_weights = routing->topk_weights;
    args->token_count = routing->token_count;
    args->is_int64 = routing->index_type == MOXIE_INDEX_INT64;
    args->source = in->x;
    args->source_scales = in->x_scales;
}

static void give_kind(const dispatch_rows_t *kind, cuda_slots_dispatch_args_t *args)
{
    uint32_t *fields = args->call.offer.fields;
    fields[CUDA_OFFER_DTYPE] = (uint32_t)kind->dtype;
    fields[CUDA_OFFER_WIRE_DTYPE] = (uint32_t)kind->wire_dtype;
    if (kind->scale_words > 0) {
        fields[CUDA_OFFER_SCALE_TYPE] = (uint32_t)kind->scale_type;
        fields[CUDA_OFFER_SCALE_LAYOUT] =
            (uint32_t)(kind->has_column_scales ? MOXIE_SCALES_COLUMN_MAJOR
                                               : MOXIE_SCALES_ROW_MAJOR);
    }
    args->is_quantised = kind->is_quantised;
    args->source_row_bytes = kind->home_row_bytes;
    args->row_bytes = kind->row_bytes;
    args->scale_type = (int32_t)kind->scale_type;
    args->has_column_scales = kind->has_column_scales;
    args->scale_words = (int32_t)kind->scale_words;
}

static void give_output(const moxie_route_t *route, const moxie_dispatch_out_t *out,
                        cuda_slots_dispatch_args_t *args)
{
    if (route->state->shape.layout == MOXIE_LAYOUT_EXPERT_MAJOR) {
        args->destination = out->recv_x;
        args->scales = out->recv_scales;
        args->row_weight = out->row_weight;
        args->row_source = (int32_t *)(void *)out->row_source;
        args->expert_start = out->expert_start;
    } else {
        args->source_count = out->source_count;
    }
    args->expert_count = out->expert_count;
}

/* `in` is NULL in a second half, `out` in a first. */
static moxie_status_t dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                               const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    cuda_route_t *own = cuda_route_of(route);
    cuda_slots_calls_t *calls = calls_of(route);
    const uint32_t halves =
        (in != NULL ? CUDA_HALF_SEND : 0) | (out != NULL ? CUDA_HALF_RECEIVE : 0);
    moxie_status_t status =
        low_latency_check_half(route, calls->half, in != NULL ? HALF_NONE : HALF_DISPATCH);
    if (status == MOXIE_OK) {
        status = cuda_call_begin(route, "dispatch");
    }
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_slots_dispatch_args_t args = {.call = start(route, CUDA_OP_SLOTS_DISPATCH, halves)};
    if (in != NULL) {
        memset(&calls->kind, 0, sizeof(calls->kind));
        status = check_input(route, in, &calls->kind);
        give_input(route, in, &args);
        open_call(own, &args.call);
    }
    if (out != NULL && status == MOXIE_OK) {
        status = low_latency_check_outputs(route, &calls->kind, out);
    }
    if (out != NULL && status == MOXIE_OK) {
        give_output(route, out, &args);
    }
    give_kind(&calls->kind, &args);
    if (in != NULL) {
        cuda_offer_status(route, status, &args.call.offer);
        own->is_fresh = 0;
        calls->has_dispatched = 1;
    }
    calls->half = out != NULL ? HALF_NONE : HALF_DISPATCH;
    return finish(route, dispatch_kernel(route),
                  thread_count(calls->kind.home_row_bytes, 16, DISPATCH_THREADS_MIN),
                  dispatch_scratch_bytes(route), &args, halves, status, stream);
}

moxie_status_t cuda_slots_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                   const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    return dispatch(route, in, out, stream);
}

moxie_status_t cuda_slots_dispatch_send(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                        moxie_stream_t stream)
{
    return dispatch(route, in, NULL, stream);
}

moxie_status_t cuda_slots_dispatch_receive(moxie_route_t *route, const moxie_dispatch_out_t *out,
                                           moxie_stream_t stream)
{
    return dispatch(route, NULL, out, stream);
}

/* y has a row for every slot, in a window, and not in the slots themselves. */
static moxie_status_t check_y(const moxie_route_t *route, const moxie_combine_in_t *in)
{
    const cuda_route_t *own = cuda_route_of(route);
    const cuda_slots_t *slots = &own->low_latency.slots;
    const char *part = own->memory.parts[own->memory.rank].base;
    const int32_t rank = route->group->rank;
    cuda_offer_t where = {.error = NULL};
    if (in->y == NULL) {
        return route->row_capacity == 0 ? MOXIE_OK
                                        : error_set(MOXIE_ERR_ARGUMENT, "rank %d: y is NULL", rank);
    }
    moxie_status_t status = low_latency_check_y(route, in->y, part + slots->rows_offset,
                                                slots->partials_offset - slots->rows_offset);
    if (status == MOXIE_OK) {
        status = cuda_offer_buffer(route, in->y, "y", &where);
    }
    const uint64_t room =
        (uint64_t)where.fields[CUDA_OFFER_ROOM_HIGH] << 32 | where.fields[CUDA_OFFER_ROOM_LOW];
    const uint64_t row_bytes =
        (uint64_t)route->state->shape.hidden * (uint64_t)moxie_dtype_bytes(in->dtype);
    if (status == MOXIE_OK && room / row_bytes < (uint64_t)route->row_capacity) {
        return error_set(MOXIE_ERR_WINDOW, "rank %d: y does not fit into its window", rank);
    }
    return status;
}

static moxie_status_t check_partials(const moxie_route_t *route, const moxie_combine_in_t *in)
{
    moxie_status_t status = cuda_check_routing(route);
    if (status == MOXIE_OK && !calls_of(route)->has_dispatched) {
        status = low_latency_no_dispatch(route->group->rank);
    }
    if (status == MOXIE_OK) {
        status = cuda_check_dtype(route, in->dtype);
    }
    if (status == MOXIE_OK) {
        status = cuda_check_dtype(route, in->wire_dtype);
    }
    return status != MOXIE_OK ? status : check_y(route, in);
}

static moxie_status_t check_out(const moxie_route_t *route, const moxie_combine_out_t *out)
{
    const moxie_status_t status = cuda_check_dtype(route, out->dtype);
    return status != MOXIE_OK ? status : cuda_check_home(route, out->out, "out");
}

/* As of dispatch(). The sums read partials of the type that was sent. */
static moxie_status_t combine(moxie_route_t *route, const moxie_combine_in_t *in,
                              const moxie_combine_out_t *out, moxie_stream_t stream)
{
    cuda_route_t *own = cuda_route_of(route);
    cuda_slots_calls_t *calls = calls_of(route);
    const uint32_t halves =
        (in != NULL ? CUDA_HALF_SEND : 0) | (out != NULL ? CUDA_HALF_RECEIVE : 0);
    moxie_status_t status =
        low_latency_check_half(route, calls->half, in != NULL ? HALF_NONE : HALF_COMBINE);
    if (status == MOXIE_OK) {
        status = cuda_call_begin(route, "combine");
    }
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_slots_combine_args_t args = {.call = start(route, CUDA_OP_SLOTS_COMBINE, halves)};
    if (in != NULL) {
        uint32_t *fields = args.call.offer.fields;
        status = check_partials(route, in);
        calls->wire_dtype = in->wire_dtype;
        fields[CUDA_OFFER_DTYPE] = (uint32_t)in->dtype;
        fields[CUDA_OFFER_WIRE_DTYPE] = (uint32_t)in->wire_dtype;
        fields[CUDA_OFFER_UNWEIGHTED] = in->unweighted != 0;
        args.source = in->y;
        args.source_is_bf16 = in->dtype == MOXIE_DTYPE_BF16;
        args.unweighted = in->unweighted != 0;
        open_call(own, &args.call);
    }
    if (out != NULL && status == MOXIE_OK) {
        status = check_out(route, out);
    }
    if (out != NULL && status == MOXIE_OK) {
        args.out = out->out;
        args.out_is_bf16 = out->dtype == MOXIE_DTYPE_BF16;
    }
    args.wire_is_bf16 = calls->wire_dtype == MOXIE_DTYPE_BF16;
    if (in != NULL) {
        cuda_offer_status(route, status, &args.call.offer);
    }
    calls->half = out != NULL ? HALF_NONE : HALF_COMBINE;
    return finish(route, combine_kernel(route),
                  thread_count(route->state->shape.hidden * 2, calls->is_tagged ? 12 : 16,
                               COMBINE_THREADS_MIN),
                  0, &args, halves, status, stream);
}

moxie_status_t cuda_slots_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                                  const moxie_combine_out_t *out, moxie_stream_t stream)
{
    return combine(route, in, out, stream);
}

moxie_status_t cuda_slots_combine_send(moxie_route_t *route, const moxie_combine_in_t *in,
                                       moxie_stream_t stream)
{
    return combine(route, in, NULL, stream);
}

moxie_status_t cuda_slots_combine_receive(moxie_route_t *route, const moxie_combine_out_t *out,
                                          moxie_stream_t stream)
{
    return combine(route, NULL, out, stream);
}
