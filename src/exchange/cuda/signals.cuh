/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress: what a warp has written is complete, token by token. The fence that makes it so takes
 * microseconds while the wire is busy, so one warp of a block does it for all others: they post
 * what they have finished in shared memory, it fences once and raises all flags. It is the last
 * warp of a sending block.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SIGNALS_CUH
#define MOXIE_EXCHANGE_CUDA_SIGNALS_CUH

#include "exchange/cuda/exchange.cuh"

namespace moxie
{

/* Posts that may wait for the signalling warp. */
constexpr uint32_t post_count = 256;

struct signals {
    uint64_t posts[post_count]; /* ranks << 32 | token; 0: none. Ranks are never none. */
    uint32_t posted;
    uint32_t raised;
    uint32_t sender_count; /* warps that may still post */
};

/* All threads, before the block's first barrier. */
__device__ inline void signals_begin(signals &queue, uint32_t sender_count)
{
    for (uint32_t i = threadIdx.x; i < post_count; i += blockDim.x) {
        queue.posts[i] = 0;
    }
    if (threadIdx.x == 0) {
        queue.posted = queue.raised = 0;
        queue.sender_count = sender_count;
    }
}

/* All lanes of a sending warp: all that they wrote for a token on these ranks is complete, or was
 * written before in program order. */
__device__ __forceinline__ void signals_post(signals &queue, uint32_t token, uint32_t ranks)
{
    __syncwarp();
    if (lane_index() == 0) {
        const uint32_t place = atomicAdd(&queue.posted, 1u);
        while (place - *const_cast<volatile uint32_t *>(&queue.raised) >= post_count) {
            __nanosleep(100);
        }
        __threadfence_block();
        *const_cast<volatile uint64_t *>(&queue.posts[place % post_count]) =
            (uint64_t)ranks << 32 | token;
    }
}

/* All lanes: this warp posts no more. */
__device__ __forceinline__ void signals_leave(signals &queue)
{
    __syncwarp();
    if (lane_index() == 0) {
        __threadfence_block();
        atomicSub(&queue.sender_count, 1u);
    }
}

__device__ __forceinline__ uint32_t *progress_of(const cuda_channel_t &channel,
                                                 const cuda_route_view_t &route, int32_t at,
                                                 int32_t from)
{
    return reinterpret_cast<uint32_t *>(channel.parts[at] + route.progress_offset) +
           (int64_t)from * route.token_count_max;
}

/* The signalling warp: until all senders have left and all their posts are raised. */
__device__ inline void signals_raise(const cuda_channel_t &channel, const cuda_route_view_t &route,
                                     signals &queue, uint32_t mark)
{
    for (uint32_t head = 0;;) {
        const bool is_last =
            *const_cast<volatile uint32_t *>(&queue.sender_count) == 0; /* looked at first */
        __threadfence_block();
        volatile uint64_t *post = &queue.posts[(head + lane_index()) % post_count];
        const uint64_t seen = *post;
        const uint32_t missing = __ballot_sync(all_lanes, seen == 0);
        const int32_t count = missing == 0 ? 32 : __ffs((int)missing) - 1;
        if (count == 0) {
            if (__any_sync(all_lanes, is_last) && head == queue.posted) {
                return;
            }
            __nanosleep(100);
            continue;
        }
        if (lane_index() < count) {
            *post = 0;
        }
        __threadfence_system();
        if (lane_index() < count) {
            for (uint32_t ranks = (uint32_t)(seen >> 32); ranks != 0; ranks &= ranks - 1) {
                store_flag(progress_of(channel, route, __ffs((int)ranks) - 1, channel.rank) +
                               (uint32_t)seen,
                           mark);
            }
        }
        __syncwarp();
        head += (uint32_t)count;
        if (lane_index() == 0) {
            *const_cast<volatile uint32_t *>(&queue.raised) = head;
        }
    }
}

/* Nanoseconds between two looks at progress: hundreds of warps look for as long as payload moves.
 */
constexpr unsigned progress_pause_ns = 200;

/* Each lane waits for one flag, or NULL for none, at this rank. False: the group is lost. */
__device__ __forceinline__ bool progress_await(const cuda_channel_t &channel, operation &op,
                                               int32_t kind, const uint32_t *flag, int32_t from,
                                               uint32_t mark)
{
    bool is_there = flag == nullptr || load_flag(flag) == mark;
    for (int looks = 1; !__all_sync(all_lanes, is_there); looks++) {
        bool goes_on = true;
        if (!is_there && looks % looks_per_check == 0) {
            goes_on = may_wait(channel, op, from, kind, CUDA_PHASE_FINISH);
        }
        if (!__all_sync(all_lanes, goes_on)) {
            return false;
        }
        __nanosleep(progress_pause_ns);
        is_there = is_there || load_flag(flag) == mark;
    }
    return true;
}

} // namespace moxie

#endif
