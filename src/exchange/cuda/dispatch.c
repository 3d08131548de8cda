/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch, with and without the routing that it follows, and the backward of combine: kernels from
 * one template, other buffers. */
#include "core/error.h"
#include "core/routing.h"
#include "exchange/cuda/cuda.h"

static void offer_capacity(int64_t row_capacity, cuda_offer_t *offer)
{
    offer->fields[CUDA_OFFER_CAPACITY_LOW] = (uint32_t)row_capacity;
    offer->fields[CUDA_OFFER_CAPACITY_HIGH] = (uint32_t)((uint64_t)row_capacity >> 32);
}

/* What both directions have alike. */
static cuda_dispatch_args_t start(const moxie_route_t *route, cuda_op_kind_t kind,
                                  moxie_dtype_t dtype, int64_t row_bytes)
{
    cuda_route_t *own = cuda_route_of(route);
    cuda_dispatch_args_t args = {.channel = own->channel, .route = own->view};
    args.channel.timeout_ns = own->channel.timeout_ns = cuda_timeout_ns(cuda_of(route->group));
    args.offer.fields[CUDA_OFFER_KIND] = (uint32_t)kind;
    args.offer.fields[CUDA_OFFER_DTYPE] = (uint32_t)dtype;
    args.element_bytes = (int32_t)moxie_dtype_bytes(dtype);
    args.row_bytes = row_bytes;
    return args;
}

/* `args` have all but how many blocks send. */
static moxie_status_t launch(const moxie_route_t *route, cuda_kernel_t kernel,
                             cuda_dispatch_args_t *args, moxie_stream_t stream,
                             cuda_launch_order_t order)
{
    const cuda_exchange_t *exchange = cuda_of(route->group);
    const int64_t *knobs = route->group->knobs.value;
    const int is_rank_major = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    const cuda_blocks_t blocks = cuda_share_blocks(
        exchange, knobs[CUDA_KNOB_SMS], is_rank_major ? 0 : knobs[CUDA_KNOB_DUPLICATE_SMS],
        route->state->shape.token_count_max, CUDA_TOKENS_PER_BLOCK);
    args->send_blocks = blocks.send;
    return cuda_launch(exchange, kernel, blocks.total, CUDA_DISPATCH_THREADS, exchange->bulk_bytes,
                       args, stream, order);
}

/* Whether recv_scales may be NULL the kernel knows: it depends on how many rows come. */
static moxie_status_t read_rows(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                                const moxie_dispatch_out_t *out, dispatch_rows_t *rows)
{
    moxie_status_t status = cuda_check_routing(route);
    if (status == MOXIE_OK) {
        status = dispatch_rows_read(in, &route->state->shape, rows);
    }
    if (status == MOXIE_OK) {
        status = cuda_check_home(route, in->x, "x");
    }
    if (status == MOXIE_OK) {
        status = dispatch_rows_check_scales(rows, route->group->rank, in->x_scales,
                                            cuda_route_of(route)->token_count, out->recv_scales, 0);
    }
    return status;
}

static void fill_scales(const moxie_dispatch_in_t *in, const moxie_dispatch_out_t *out,
                        const dispatch_rows_t *rows, cuda_dispatch_args_t *args)
{
    args->source_scales = in->x_scales;
    args->recv_scales = out->recv_scales;
    args->scale_type = (int32_t)rows->scale_type;
    args->scale_words = (int32_t)rows->scale_words;
    args->has_column_scales = rows->has_column_scales;
    args->row_capacity = out->row_capacity;
    args->offer.fields[CUDA_OFFER_SCALE_TYPE] = (uint32_t)rows->scale_type;
    args->offer.fields[CUDA_OFFER_SCALE_LAYOUT] = (uint32_t)in->scale_layout;
}

static cuda_kernel_t kernel_of(const dispatch_rows_t *rows)
{
    if (rows->scale_words == 0) {
        return CUDA_KERNEL_DISPATCH;
    }
    return rows->is_quantised ? CUDA_KERNEL_DISPATCH_QUANTISED : CUDA_KERNEL_DISPATCH_FP8;
}

/* Fills in the arguments of a dispatch. Returns `local`, the status of what was checked before, or
 * that of these arguments; they are filled in as far as they are good. */
static moxie_status_t prepare(const moxie_route_t *route, cuda_op_kind_t kind,
                              const moxie_dispatch_in_t *in, const moxie_dispatch_out_t *out,
                              moxie_status_t local, cuda_dispatch_args_t *args,
                              dispatch_rows_t *rows)
{
    const int is_rank_major = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    *rows = (dispatch_rows_t){0};
    moxie_status_t status = local == MOXIE_OK ? read_rows(route, in, out, rows) : local;
    *args = start(route, kind, in->dtype, rows->row_bytes);
    args->offer.fields[CUDA_OFFER_WIRE_DTYPE] = (uint32_t)rows->wire_dtype;
    args->source = in->x;
    args->destination = out->recv_x;
    args->recv_topk_idx = is_rank_major ? out->recv_topk_idx : NULL;
    args->recv_topk_weights = is_rank_major ? out->recv_topk_weights : NULL;
    args->row_weight = is_rank_major ? NULL : out->row_weight;
    args->row_source = is_rank_major ? NULL : (int32_t *)(void *)out->row_source;
    args->expert_count = out->expert_count;
    args->expert_start = is_rank_major ? NULL : out->expert_start;
    offer_capacity(out->row_capacity, &args->offer);
    if (status == MOXIE_OK) {
        status = cuda_offer_buffer(route, out->recv_x, "recv_x", &args->offer);
    }
    if (status == MOXIE_OK && rows->scale_words > 0) {
        fill_scales(in, out, rows, args);
        status = cuda_offer_scales(route, rows, out, &args->offer);
    }
    return status;
}

/* Launches a dispatch, overlapping the update that it follows. */
static moxie_status_t launch_dispatch(const moxie_route_t *route, const dispatch_rows_t *rows,
                                      cuda_dispatch_args_t *args, moxie_stream_t stream)
{
    cuda_route_t *own = cuda_route_of(route);
    const int follows_update = own->is_fresh && own->fresh_on == stream;
    own->is_fresh = 0;
    return launch(route, kernel_of(rows), args, stream,
                  follows_update ? CUDA_LAUNCH_AHEAD : CUDA_LAUNCH_BEHIND);
}

moxie_status_t cuda_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                             const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    if (route->state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return cuda_slots_dispatch(route, in, out, stream);
    }
    moxie_status_t status = cuda_call_begin(route, "dispatch");
    if (status != MOXIE_OK) {
        return status;
    }
    dispatch_rows_t rows;
    cuda_dispatch_args_t args;
    status = prepare(route, CUDA_OP_DISPATCH, in, out, MOXIE_OK, &args, &rows);
    cuda_offer_status(route, status, &args.offer);
    return cuda_call_end(route, stream, status, launch_dispatch(route, &rows, &args, stream));
}

/* rank_major: one kernel. `routable` is the status of the routing. */
static moxie_status_t dispatch_as_one(moxie_route_t *route, const moxie_routing_t *routing,
                                      moxie_status_t routable, const moxie_dispatch_in_t *in,
                                      const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    static const cuda_kernel_t kernels[] = {
        [CUDA_KERNEL_DISPATCH] = CUDA_KERNEL_DISPATCH_ROUTING,
        [CUDA_KERNEL_DISPATCH_FP8] = CUDA_KERNEL_DISPATCH_ROUTING_FP8,
        [CUDA_KERNEL_DISPATCH_QUANTISED] = CUDA_KERNEL_DISPATCH_ROUTING_QUANTISED,
    };
    const cuda_exchange_t *exchange = cuda_of(route->group);
    cuda_route_t *own = cuda_route_of(route);
    cuda_dispatch_routing_args_t args = {0};
    dispatch_rows_t rows;
    if (routable == MOXIE_OK) {
        args.topk_idx = routing->topk_idx;
        args.topk_weights = routing->topk_weights;
        args.token_count = routing->token_count;
        args.is_int64 = routing->index_type == MOXIE_INDEX_INT64;
    }
    own->token_count = args.token_count;
    own->is_fresh = 0;
    const moxie_status_t local =
        prepare(route, CUDA_OP_DISPATCH_ROUTING, in, out, routable, &args.call, &rows);
    cuda_offer_status(route, local, &args.call.offer);
    cuda_offer_route_capacity(route, &args.call.offer);
    args.call.offer.fields[CUDA_OFFER_HAS_ROUTING] = routable == MOXIE_OK;
    return cuda_call_end(route, stream, local,
                         cuda_launch(exchange, kernels[kernel_of(&rows)], own->routing_block_count,
                                     CUDA_DISPATCH_THREADS, exchange->bulk_bytes, &args, stream,
                                     CUDA_LAUNCH_BEHIND));
}

/* expert_major: an update, and a dispatch behind it, which is left out on all ranks if that is
 * refused. */
static moxie_status_t dispatch_as_two(moxie_route_t *route, const moxie_routing_t *routing,
                                      moxie_status_t routable, const moxie_dispatch_in_t *in,
                                      const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    cuda_dispatch_args_t args;
    dispatch_rows_t rows;
    moxie_status_t launched = cuda_update_launch(route, routing, routable, stream);
    if (launched != MOXIE_OK || routable != MOXIE_OK) {
        return cuda_call_end(route, stream, routable, launched);
    }
    const moxie_status_t local = prepare(route, CUDA_OP_DISPATCH, in, out, MOXIE_OK, &args, &rows);
    args.comes_with_update = 1;
    cuda_offer_status(route, local, &args.offer);
    launched = launch_dispatch(route, &rows, &args, stream);
    return cuda_call_end(route, stream, local, launched);
}

moxie_status_t cuda_dispatch_routing(moxie_route_t *route, const moxie_routing_t *routing,
                                     const moxie_dispatch_in_t *in, const moxie_dispatch_out_t *out,
                                     moxie_stream_t stream)
{
    const cuda_route_t *own = cuda_route_of(route);
    const moxie_status_t status = cuda_call_begin(route, "dispatch_routing");
    if (status != MOXIE_OK) {
        return status;
    }
    if (own->mismatch.status != MOXIE_OK) { /* known to all ranks since they made the route */
        cuda_device_leave();
        return error_adopt(&own->mismatch);
    }
    const moxie_status_t routable = routing_check(&route->state->shape, routing);
    route->has_routing = routable == MOXIE_OK;
    return route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR
               ? dispatch_as_one(route, routing, routable, in, out, stream)
               : dispatch_as_two(route, routing, routable, in, out, stream);
}

moxie_status_t cuda_combine_backward(moxie_route_t *route, const moxie_combine_backward_in_t *in,
                                     const moxie_combine_backward_out_t *out, moxie_stream_t stream)
{
    const int is_weighted =
        route->state->shape.layout == MOXIE_LAYOUT_EXPERT_MAJOR && !in->unweighted;
    moxie_status_t status = cuda_call_begin(route, "combine_backward");
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_dispatch_args_t args =
        start(route, CUDA_OP_COMBINE_BACKWARD, in->dtype,
              route->state->shape.hidden * (int64_t)moxie_dtype_bytes(in->dtype));
    args.is_backward = 1;
    args.source = in->d_out;
    args.destination = out->d_y;
    args.y = is_weighted ? in->y : NULL;
    args.d_topk_weights = is_weighted ? out->d_topk_weights : NULL;
    args.offer.fields[CUDA_OFFER_UNWEIGHTED] = in->unweighted != 0;
    args.offer.fields[CUDA_OFFER_WANTS_GRADIENT] = args.d_topk_weights != NULL;
    args.offer.fields[CUDA_OFFER_PRESENT] = args.y != NULL ? 2u : 0;
    offer_capacity(out->row_capacity, &args.offer);
    status = cuda_check_routing(route);
    if (status == MOXIE_OK) {
        status = cuda_check_dtype(route, in->dtype);
    }
    if (status == MOXIE_OK) {
        status = cuda_check_home(route, in->d_out, "d_out");
    }
    if (status == MOXIE_OK && out->d_topk_weights != NULL && !is_weighted) {
        status = error_set(MOXIE_ERR_ARGUMENT,
                           "rank %d: this combine has no weights, so there is no d_topk_weights",
                           route->group->rank);
    }
    if (status == MOXIE_OK) {
        status = cuda_offer_buffer(route, out->d_y, "d_y", &args.offer);
    }
    cuda_offer_status(route, status, &args.offer);
    return cuda_call_end(route, stream, status,
                         launch(route,
                                is_weighted ? CUDA_KERNEL_DISPATCH_WEIGHTED : CUDA_KERNEL_DISPATCH,
                                &args, stream, CUDA_LAUNCH_BEHIND));
}
