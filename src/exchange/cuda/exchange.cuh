/* SPDX-License-Identifier: Apache-2.0 */
/* What the exchanges along a route have in common: the verdict over their offers, and how units of
 * work are found in the route's tables. */
#ifndef MOXIE_EXCHANGE_CUDA_EXCHANGE_CUH
#define MOXIE_EXCHANGE_CUDA_EXCHANGE_CUH

#include "exchange/cuda/meeting.cuh"
#include "exchange/cuda/rows.cuh"

namespace moxie
{

/* Counters of cuda_counters_t::pool. */
enum work_pool { pool_send, pool_receive, pool_per_pass };

/* Flags of a block, CUDA_FLAG_COUNT. */
enum block_flag { flag_payload, flag_followed, flag_tables };

/* Whether any rank asks for d_topk_weights. */
__device__ __forceinline__ bool gradient_is_wanted(const cuda_channel_t &channel,
                                                   const operation &op)
{
    uint32_t wanted = 0;
    for (int32_t rank = 0; rank < channel.rank_count; rank++) {
        wanted |= op.fields[rank][CUDA_OFFER_WANTS_GRADIENT];
    }
    return wanted != 0;
}

/* One thread: somebody asks for d_topk_weights, so every rank with rows must have brought its part:
 * buffer 1. */
__device__ inline void judge_gradients(const cuda_channel_t &channel, operation &op,
                                       const int64_t *needs)
{
    const bool wanted = gradient_is_wanted(channel, op);
    for (int32_t rank = 0; rank < channel.rank_count && wanted; rank++) {
        if (needs[rank] > 0 && (op.fields[rank][CUDA_OFFER_PRESENT] & 2u) == 0) {
            refuse(op, CUDA_REFUSED_GRADIENT, rank, -1, -1);
            return;
        }
    }
}

/* One thread: every rank's buffers hold what it is to receive. `row_bytes` of all its buffers in
 * windows together decide how much room there must be. */
__device__ inline void judge_buffers(const cuda_channel_t &channel, operation &op,
                                     const int64_t *needs, int64_t row_bytes)
{
    for (int32_t rank = 0; rank < channel.rank_count; rank++) {
        const int64_t capacity = (int64_t)wide_field(op, rank, CUDA_OFFER_CAPACITY_LOW);
        const int64_t room = (int64_t)wide_field(op, rank, CUDA_OFFER_ROOM_LOW);
        if (needs[rank] == 0) {
            continue;
        }
        if ((op.fields[rank][CUDA_OFFER_PRESENT] & 1u) == 0) {
            refuse(op, CUDA_REFUSED_MISSING, rank, -1, -1);
        } else if (capacity < needs[rank]) {
            refuse(op, CUDA_REFUSED_CAPACITY, rank, needs[rank], capacity);
        } else if (room / row_bytes < needs[rank]) {
            refuse(op, CUDA_REFUSED_WINDOW, rank, needs[rank] * row_bytes, room);
        }
        if (op.is_refused) {
            return;
        }
    }
}

/* One thread: where rows have scales every rank has a place for those that it is to receive. */
__device__ inline void judge_scales(const cuda_channel_t &channel, operation &op,
                                    const int64_t *needs)
{
    const bool has_scales = op.fields[0][CUDA_OFFER_SCALE_TYPE] != 0;
    for (int32_t rank = 0; rank < channel.rank_count && has_scales; rank++) {
        const int64_t row_count = op.fields[rank][CUDA_OFFER_SCALES_ROWS];
        if (needs[rank] > 0 && (op.fields[rank][CUDA_OFFER_PRESENT] & 4u) == 0) {
            refuse(op, CUDA_REFUSED_NO_SCALES, rank, -1, -1);
            return;
        }
        if (row_count < needs[rank]) {
            refuse(op, CUDA_REFUSED_SCALES_WINDOW, rank, needs[rank], row_count);
            return;
        }
    }
}

/* One thread: the verdict, where a first look found something. `needs` are those of the routing. */
__device__ __noinline__ void judge_exchange(const cuda_channel_t &channel,
                                            const cuda_route_view_t &route, operation &op,
                                            int32_t kind, int64_t row_bytes, const int64_t *needs,
                                            bool has_routing)
{
    judge_calls(channel, op, kind, route.topk);
    if (!op.is_refused && !has_routing) {
        refuse(op, CUDA_REFUSED_NO_ROUTING, channel.rank, -1, -1);
    }
    if (!op.is_refused) {
        judge_gradients(channel, op, needs);
    }
    if (!op.is_refused) {
        judge_buffers(channel, op, needs, row_bytes);
    }
    if (!op.is_refused) {
        judge_scales(channel, op, needs);
    }
    if (op.is_refused && blockIdx.x == 0 &&
        *const_cast<volatile int32_t *>(&route.report->call.refusal) == CUDA_REFUSED_NOT) {
        report_verdict(op.verdict, &route.report->call);
    }
}

/* What the route says of the rank whose number the lane has; asked for before the ranks meet. */
struct expectation {
    int64_t need;         /* rows that the rank receives */
    const int64_t *needs; /* of all ranks */
    bool has_routing;
};

__device__ __forceinline__ expectation expect_of_lane(const cuda_channel_t &channel,
                                                      const cuda_route_view_t &route)
{
    const int32_t rank = lane_index() < channel.rank_count ? lane_index() : 0;
    return {route.needs[rank], route.needs, *route.has_routing != 0};
}

/* A lane a rank: whether there is nothing to say about its offer. */
__device__ __forceinline__ bool is_plain_offer(const expectation &expected, const operation &op,
                                               int32_t rank, int64_t row_bytes, bool wants_gradient)
{
    const uint32_t *fields = op.fields[rank];
    const int64_t need = expected.need;
    const uint32_t buffers = wants_gradient ? 3u : 1u;
    const bool has_scales = fields[CUDA_OFFER_SCALE_TYPE] != 0;
    bool is_plain = expected.has_routing && fields[CUDA_OFFER_STATUS] == 0 &&
                    fields[CUDA_OFFER_KIND] == op.fields[0][CUDA_OFFER_KIND];
#pragma unroll
    for (int32_t field = CUDA_OFFER_DTYPE; field <= CUDA_OFFER_SCALE_LAYOUT; field++) {
        is_plain = is_plain && fields[field] == op.fields[0][field];
    }
    return is_plain &&
           (need == 0 || ((fields[CUDA_OFFER_PRESENT] & buffers) == buffers &&
                          (int64_t)wide_field(op, rank, CUDA_OFFER_CAPACITY_LOW) >= need &&
                          (int64_t)wide_field(op, rank, CUDA_OFFER_ROOM_LOW) >= need * row_bytes &&
                          (!has_scales || (int64_t)fields[CUDA_OFFER_SCALES_ROWS] >= need)));
}

/* All threads: the same verdict on every rank. True: the payload may move. */
__device__ inline bool exchange_agree(const cuda_channel_t &channel, const cuda_route_view_t &route,
                                      operation &op, const expectation &expected, int32_t kind,
                                      int64_t row_bytes)
{
    if (threadIdx.x < 32 && !op.is_lost && !op.is_refused) {
        const int32_t rank = lane_index();
        const bool wants_gradient = gradient_is_wanted(channel, op);
        bool is_plain = true;
        if (rank < channel.rank_count) {
            const uint32_t window = op.fields[rank][CUDA_OFFER_WINDOW] % CUDA_WINDOW_COUNT_MAX;
            op.destination[rank] = channel.windows[window * channel.rank_count + rank].base +
                                   wide_field(op, rank, CUDA_OFFER_OFFSET_LOW);
            is_plain = is_plain_offer(expected, op, rank, row_bytes, wants_gradient);
        }
        if (!__all_sync(all_lanes, is_plain) && rank == 0) {
            judge_exchange(channel, route, op, kind, row_bytes, expected.needs,
                           expected.has_routing);
        }
    }
    __syncthreads();
    return !op.is_lost && !op.is_refused;
}

/* What this rank receives, source by source. */
__device__ __forceinline__ const cuda_arrival_t *arrivals_of(const cuda_channel_t &channel,
                                                             const cuda_route_view_t &route)
{
    return reinterpret_cast<const cuda_arrival_t *>(channel.parts[channel.rank] +
                                                    route.arrival_offset);
}

/* expert_major: the rows of an arrival. */
__device__ __forceinline__ const cuda_link_t *links_of(const cuda_channel_t &channel,
                                                       const cuda_route_view_t &route, int64_t n)
{
    return reinterpret_cast<const cuda_link_t *>(channel.parts[channel.rank] +
                                                 route.detail_offset) +
           n * route.topk;
}

/* Where the arrivals from each rank begin; ranks beyond the last have none. */
struct arrival_ranges {
    int32_t starts[CUDA_RANK_COUNT_MAX];
    int32_t counts[CUDA_RANK_COUNT_MAX];
    int32_t count_max;
};

/* All threads of a block, which is to be synchronised before the first use. The second warp finds
 * them: the first has the offers to look after. */
__device__ inline void find_ranges(const cuda_channel_t &channel, const cuda_route_view_t &route,
                                   arrival_ranges &ranges)
{
    if (threadIdx.x / 32 != 1) {
        return;
    }
    const int32_t rank = lane_index();
    const int32_t count =
        rank < channel.rank_count ? route.row_counts[rank * channel.rank_count + channel.rank] : 0;
    int32_t sum = count;
    for (int step = 1; step < CUDA_RANK_COUNT_MAX; step *= 2) {
        const int32_t other = __shfl_up_sync(all_lanes, sum, step);
        sum += rank >= step ? other : 0;
    }
    if (rank < CUDA_RANK_COUNT_MAX) {
        ranges.starts[rank] = sum - count;
        ranges.counts[rank] = count;
    }
    const int32_t count_max = __reduce_max_sync(all_lanes, count);
    if (rank == 0) {
        ranges.count_max = count_max;
    }
}

/*
 * Arrivals are worked on one of each rank in turn, as they come. The arrival number of a unit of
 * work, -1: none; its rank in *from. Each rank begins with another one, so that they do not all
 * write to the same.
 */
__device__ __forceinline__ int64_t arrival_of_unit(const cuda_channel_t &channel,
                                                   const arrival_ranges &ranges, int64_t unit,
                                                   int32_t *from)
{
    const uint32_t index = (uint32_t)unit / (uint32_t)channel.rank_count;
    const int32_t turn = (int32_t)((uint32_t)unit - index * (uint32_t)channel.rank_count);
    const int32_t rank = turn + channel.rank + 1;
    *from = rank < channel.rank_count ? rank : rank - channel.rank_count;
    return (int32_t)index < ranges.counts[*from] ? ranges.starts[*from] + (int32_t)index : -1;
}

/* Which rank sends arrival number n. */
__device__ __forceinline__ int32_t source_of_arrival(const cuda_channel_t &channel,
                                                     const arrival_ranges &ranges, int32_t n)
{
    int32_t rank = 0;
    while (rank + 1 < channel.rank_count && n >= ranges.starts[rank] + ranges.counts[rank]) {
        rank++;
    }
    return rank;
}

__device__ __forceinline__ int64_t unit_count(const cuda_channel_t &channel,
                                              const arrival_ranges &ranges)
{
    return (int64_t)ranges.count_max * channel.rank_count;
}

/* Gradients of weights that the peers brought home, +0 where a slot is unused. */
__device__ inline void take_gradients(const cuda_channel_t &channel, const cuda_route_view_t &route,
                                      float *d_topk_weights)
{
    const float *gradients =
        reinterpret_cast<const float *>(channel.parts[channel.rank] + route.gradient_offset);
    const int64_t count = *route.token_count * route.topk;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * blockDim.x) {
        d_topk_weights[i] = route.experts[i] < 0 ? 0.0f : __ldcg(gradients + i);
    }
}

} // namespace moxie

#endif
