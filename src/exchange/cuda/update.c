/* SPDX-License-Identifier: Apache-2.0 */
/* Route update: checks the arguments, launches the kernel, and where no capacity was given waits
 * for what it found. */
#include "core/error.h"
#include "core/routing.h"
#include "exchange/cuda/cuda.h"

/* Tokens that make another block worth its share of the exchange of counts. */
#define TOKENS_PER_BLOCK 64

/* What update.cuh lays out: of each warp a stage and its counts, of the block two sums of counts.
 */
static uint32_t shared_bytes(uint32_t threads, uint32_t column_count)
{
    const uint32_t warps = threads / 32;
    return warps * CUDA_UPDATE_STAGE_BYTES +
           (uint32_t)sizeof(uint32_t) * (warps + 2) * column_count;
}

/* Threads of a block: as many warps as have room. */
static uint32_t thread_count(const cuda_exchange_t *exchange, uint32_t column_count)
{
    uint32_t threads = CUDA_UPDATE_THREADS;
    while (threads > 32 && shared_bytes(threads, column_count) > exchange->update_bytes_max) {
        threads -= 32;
    }
    return threads;
}

moxie_status_t cuda_update_launch(const moxie_route_t *route, const moxie_routing_t *routing,
                                  moxie_status_t local, moxie_stream_t stream)
{
    const cuda_exchange_t *exchange = cuda_of(route->group);
    cuda_route_t *own = cuda_route_of(route);
    const route_shape_t *shape = &route->state->shape;
    const uint32_t columns = (uint32_t)(shape->rank_count + shape->expert_count);
    cuda_update_args_t args = {.channel = own->channel, .route = own->view};
    args.channel.timeout_ns = own->channel.timeout_ns = cuda_timeout_ns(exchange);
    args.offer.fields[CUDA_OFFER_KIND] = CUDA_OP_UPDATE;
    cuda_offer_route_capacity(route, &args.offer);
    cuda_offer_status(route, local, &args.offer);
    if (local == MOXIE_OK) {
        args.topk_idx = routing->topk_idx;
        args.topk_weights = routing->topk_weights;
        args.token_count = routing->token_count;
        args.is_int64 = routing->index_type == MOXIE_INDEX_INT64;
    }
    own->token_count = args.token_count;
    own->is_fresh = 1;
    own->fresh_on = stream;
    const cuda_blocks_t blocks =
        cuda_share_blocks(exchange, route->group->knobs.value[CUDA_KNOB_UPDATE_SMS], 0,
                          shape->token_count_max, TOKENS_PER_BLOCK);
    const uint32_t threads = thread_count(exchange, columns);
    return cuda_launch(exchange, CUDA_KERNEL_UPDATE, blocks.total, threads,
                       shared_bytes(threads, columns), &args, stream, CUDA_LAUNCH_BEHIND);
}

moxie_status_t cuda_route_update(moxie_route_t *route, const moxie_routing_t *routing,
                                 moxie_stream_t stream)
{
    const cuda_route_t *own = cuda_route_of(route);
    if (route->state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return cuda_slots_update(route, routing, stream);
    }
    moxie_status_t status = cuda_call_begin(route, "route_update");
    if (status != MOXIE_OK) {
        return status;
    }
    if (own->mismatch.status != MOXIE_OK) { /* known to all ranks since they made the route */
        cuda_device_leave();
        return error_adopt(&own->mismatch);
    }
    const int waits = !route->has_capacity && !cuda_is_capturing(stream);
    const moxie_status_t local = routing_check(&route->state->shape, routing);
    status = cuda_call_end(route, stream, local, cuda_update_launch(route, routing, local, stream));
    return status == MOXIE_OK && waits ? cuda_route_settle(route) : status;
}
