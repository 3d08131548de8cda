/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch and the backward of combine: kernels from one template, other buffers. */
#include "core/error.h"
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

static moxie_status_t launch(moxie_route_t *route, cuda_kernel_t kernel, cuda_dispatch_args_t *args,
                             moxie_status_t local, moxie_stream_t stream, cuda_launch_order_t order)
{
    const cuda_exchange_t *exchange = cuda_of(route->group);
    const int64_t *knobs = route->group->knobs.value;
    const int is_rank_major = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    const cuda_blocks_t blocks = cuda_share_blocks(
        exchange, knobs[CUDA_KNOB_SMS], is_rank_major ? 0 : knobs[CUDA_KNOB_DUPLICATE_SMS],
        route->state->shape.token_count_max, CUDA_TOKENS_PER_BLOCK);
    args->send_blocks = blocks.send;
    cuda_offer_status(route, local, &args->offer);
    return cuda_call_end(route, stream, local,
                         cuda_launch(exchange, kernel, blocks.total, CUDA_DISPATCH_THREADS,
                                     exchange->bulk_bytes, args, stream, order));
}

/* Whether recv_scales may be NULL the kernel knows: it depends on how many rows come. */
static moxie_status_t read_rows(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                                const moxie_dispatch_out_t *out, dispatch_rows_t *rows)
{
    *rows = (dispatch_rows_t){0};
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

moxie_status_t cuda_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                             const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    const int is_rank_major = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    if (route->state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return cuda_slots_dispatch(route, in, out, stream);
    }
    moxie_status_t status = cuda_call_begin(route, "dispatch");
    if (status != MOXIE_OK) {
        return status;
    }
    dispatch_rows_t rows;
    status = read_rows(route, in, out, &rows);
    cuda_dispatch_args_t args = start(route, CUDA_OP_DISPATCH, in->dtype, rows.row_bytes);
    args.offer.fields[CUDA_OFFER_WIRE_DTYPE] = (uint32_t)rows.wire_dtype;
    args.source = in->x;
    args.destination = out->recv_x;
    args.recv_topk_idx = is_rank_major ? out->recv_topk_idx : NULL;
    args.recv_topk_weights = is_rank_major ? out->recv_topk_weights : NULL;
    args.row_weight = is_rank_major ? NULL : out->row_weight;
    args.row_source = is_rank_major ? NULL : (int32_t *)(void *)out->row_source;
    args.expert_count = out->expert_count;
    args.expert_start = is_rank_major ? NULL : out->expert_start;
    offer_capacity(out->row_capacity, &args.offer);
    if (status == MOXIE_OK) {
        status = cuda_offer_buffer(route, out->recv_x, "recv_x", &args.offer);
    }
    if (status == MOXIE_OK && rows.scale_words > 0) {
        fill_scales(in, out, &rows, &args);
        status = cuda_offer_scales(route, &rows, out, &args.offer);
    }
    cuda_route_t *own = cuda_route_of(route);
    const int follows_update = own->is_fresh && own->fresh_on == stream;
    own->is_fresh = 0;
    return launch(route, kernel_of(&rows), &args, status, stream,
                  follows_update ? CUDA_LAUNCH_AHEAD : CUDA_LAUNCH_BEHIND);
}

moxie_status_t cuda_combine_backward(moxie_route_t *route, const moxie_combine_backward_in_t *in,
                                     const moxie_combine_backward_out_t *out, moxie_stream_t stream)
{
    const int is_rank_major = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
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
    args.is_weighted = !is_rank_major && !in->unweighted;
    args.y = args.is_weighted ? in->y : NULL;
    args.d_topk_weights = args.is_weighted ? out->d_topk_weights : NULL;
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
    if (status == MOXIE_OK) {
        status = cuda_offer_buffer(route, out->d_y, "d_y", &args.offer);
    }
    return launch(route, CUDA_KERNEL_DISPATCH, &args, status, stream, CUDA_LAUNCH_BEHIND);
}
