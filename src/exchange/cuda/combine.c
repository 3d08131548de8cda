/* SPDX-License-Identifier: Apache-2.0 */
/* Combine and the backward of dispatch: one kernel, other buffers. */
#include "core/error.h"
#include "exchange/cuda/cuda.h"

/* Columns of a pass are a multiple of this: the numbers that a lane handles at a time. */
#define PASS_UNIT 8

/* The two calls in common terms. */
typedef struct rows_home {
    cuda_op_kind_t kind;
    const void *source;
    const char *source_name;
    moxie_dtype_t dtype;
    moxie_dtype_t wire_dtype;
    void *out;
    const char *out_name;
    moxie_dtype_t out_dtype;
    int unweighted;
    const float *d_recv_weights;
    float *d_topk_weights;
} rows_home_t;

static moxie_status_t check(const moxie_route_t *route, const rows_home_t *call)
{
    moxie_status_t status = cuda_check_routing(route);
    if (status == MOXIE_OK) {
        status = cuda_check_dtype(route, call->dtype);
    }
    if (status == MOXIE_OK) {
        status = cuda_check_dtype(route, call->wire_dtype);
    }
    if (status == MOXIE_OK) {
        status = cuda_check_dtype(route, call->out_dtype);
    }
    return status != MOXIE_OK ? status : cuda_check_home(route, call->out, call->out_name);
}

/* The staging memory holds a row of bf16; of fp32 half a row. */
static int64_t pass_columns(int64_t hidden, moxie_dtype_t wire_dtype)
{
    if (wire_dtype == MOXIE_DTYPE_BF16) {
        return hidden;
    }
    const int64_t half = (hidden + 1) / 2;
    return (half + PASS_UNIT - 1) / PASS_UNIT * PASS_UNIT;
}

/* Rows that are sent as they are take few SMs; to sum several before takes more. Measured: lab.md.
 */
static cuda_blocks_t choose_blocks(const moxie_route_t *route)
{
    const int64_t *knobs = route->group->knobs.value;
    const int is_rank_major = route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    const int64_t sms = knobs[CUDA_KNOB_COMBINE_SMS] > 0 ? knobs[CUDA_KNOB_COMBINE_SMS]
                        : is_rank_major                  ? 40
                                                         : 48;
    int64_t push_sms = knobs[CUDA_KNOB_PUSH_SMS] > 0 ? knobs[CUDA_KNOB_PUSH_SMS]
                                                     : sms * (is_rank_major ? 8 : 11) / 20;
    push_sms = push_sms < sms ? push_sms : sms;
    return cuda_share_blocks(cuda_of(route->group), push_sms > 1 ? push_sms : 1, sms - push_sms,
                             route->state->shape.token_count_max, CUDA_TOKENS_PER_BLOCK);
}

static moxie_status_t bring_home(moxie_route_t *route, const rows_home_t *call,
                                 moxie_stream_t stream)
{
    const cuda_exchange_t *exchange = cuda_of(route->group);
    cuda_route_t *own = cuda_route_of(route);
    const int64_t hidden = route->state->shape.hidden;
    cuda_combine_args_t args = {.channel = own->channel,
                                .route = own->view,
                                .source = call->source,
                                .out = call->out,
                                .source_is_bf16 = call->dtype == MOXIE_DTYPE_BF16,
                                .wire_is_bf16 = call->wire_dtype == MOXIE_DTYPE_BF16,
                                .out_is_bf16 = call->out_dtype == MOXIE_DTYPE_BF16,
                                .unweighted = call->unweighted,
                                .pass_columns = pass_columns(hidden, call->wire_dtype),
                                .d_recv_weights = call->d_recv_weights,
                                .d_topk_weights = call->d_topk_weights};
    uint32_t *fields = args.offer.fields;
    args.channel.timeout_ns = own->channel.timeout_ns = cuda_timeout_ns(exchange);
    fields[CUDA_OFFER_KIND] = (uint32_t)call->kind;
    fields[CUDA_OFFER_DTYPE] = (uint32_t)call->dtype;
    fields[CUDA_OFFER_WIRE_DTYPE] = (uint32_t)call->wire_dtype;
    fields[CUDA_OFFER_UNWEIGHTED] = (uint32_t)call->unweighted;
    fields[CUDA_OFFER_WANTS_GRADIENT] = call->d_topk_weights != NULL;
    fields[CUDA_OFFER_PRESENT] = call->d_recv_weights != NULL ? 2u : 0;
    fields[CUDA_OFFER_CAPACITY_LOW] = ~0u; /* what is there is decided by the window alone */
    fields[CUDA_OFFER_CAPACITY_HIGH] = INT32_MAX;
    moxie_status_t status = check(route, call);
    if (status == MOXIE_OK) {
        status = cuda_offer_buffer(route, call->source, call->source_name, &args.offer);
    }
    cuda_offer_status(route, status, &args.offer);
    const cuda_blocks_t blocks = choose_blocks(route);
    args.send_blocks = blocks.send;
    return cuda_call_end(route, stream, status,
                         cuda_launch(exchange, CUDA_KERNEL_COMBINE, blocks.total,
                                     CUDA_COMBINE_THREADS, exchange->combine_bytes, &args, stream,
                                     CUDA_LAUNCH_BEHIND));
}

moxie_status_t cuda_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                            const moxie_combine_out_t *out, moxie_stream_t stream)
{
    if (route->state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return cuda_slots_combine(route, in, out, stream);
    }
    const moxie_status_t status = cuda_call_begin(route, "combine");
    if (status != MOXIE_OK) {
        return status;
    }
    const rows_home_t call = {.kind = CUDA_OP_COMBINE,
                              .source = in->y,
                              .source_name = "y",
                              .dtype = in->dtype,
                              .wire_dtype = in->wire_dtype,
                              .out = out->out,
                              .out_name = "out",
                              .out_dtype = out->dtype,
                              .unweighted = in->unweighted != 0};
    return bring_home(route, &call, stream);
}

moxie_status_t cuda_dispatch_backward(moxie_route_t *route, const moxie_dispatch_backward_in_t *in,
                                      const moxie_dispatch_backward_out_t *out,
                                      moxie_stream_t stream)
{
    const moxie_status_t status = cuda_call_begin(route, "dispatch_backward");
    if (status != MOXIE_OK) {
        return status;
    }
    const rows_home_t call = {.kind = CUDA_OP_DISPATCH_BACKWARD,
                              .source = in->d_recv_x,
                              .source_name = "d_recv_x",
                              .dtype = in->dtype,
                              .wire_dtype = in->wire_dtype,
                              .out = out->d_x,
                              .out_name = "d_x",
                              .out_dtype = out->dtype,
                              .unweighted = 1,
                              .d_recv_weights = in->d_recv_weights,
                              .d_topk_weights = out->d_topk_weights};
    return bring_home(route, &call, stream);
}
