/* SPDX-License-Identifier: Apache-2.0 */
/* What this rank receives, token by token, and where the rows of each are. */
#ifndef MOXIE_EXCHANGE_CUDA_ARRIVALS_CUH
#define MOXIE_EXCHANGE_CUDA_ARRIVALS_CUH

#include "exchange/cuda/exchange.cuh"

namespace moxie
{

__device__ __forceinline__ cuda_arrival_t load_arrival(const cuda_arrival_t *arrival)
{
    const uint2 bits = __ldcg(reinterpret_cast<const uint2 *>(arrival));
    return {(int32_t)bits.x, (int32_t)bits.y};
}

__device__ __forceinline__ cuda_link_t load_link(const cuda_link_t *link)
{
    const uint4 bits = __ldcg(reinterpret_cast<const uint4 *>(link));
    return {(int32_t)bits.x, __uint_as_float(bits.y), (int32_t)bits.z, 0};
}

/* A received token: number n of the receive set, and its rows here by ascending slot, one a lane,
 * the second 32 in `more`. In rank_major it has one, of weight 1. */
struct arrived_token {
    int32_t n; /* -1: none */
    int32_t from;
    cuda_arrival_t arrival;
    cuda_link_t link;
    cuda_link_t more;

    __device__ __forceinline__ void load(const cuda_channel_t &channel,
                                         const cuda_route_view_t &route)
    {
        arrival = load_arrival(arrivals_of(channel, route) + n);
        link = {n, 1.0f, 0, 0};
        if (route.layout == 1) {
            return;
        }
        /* how many of them there are is not known yet */
        const cuda_link_t *links = links_of(channel, route, n);
        if (lane_index() < route.topk) {
            link = load_link(links + lane_index());
        }
        if (lane_index() + 32 < route.topk) {
            more = load_link(links + lane_index() + 32);
        }
    }

    __device__ __forceinline__ int32_t row(int32_t i) const
    {
        return __shfl_sync(all_lanes, i < 32 ? link.row : more.row, i % 32);
    }
    __device__ __forceinline__ float weight(int32_t i) const
    {
        return __shfl_sync(all_lanes, i < 32 ? link.weight : more.weight, i % 32);
    }
    __device__ __forceinline__ int32_t slot(int32_t i) const
    {
        return __shfl_sync(all_lanes, i < 32 ? link.slot : more.slot, i % 32);
    }
};

/* Gives out the received tokens, one of each rank in turn; what the next one needs is on its way
 * while a warp works on another. */
struct arrival_work {
    const cuda_channel_t &channel;
    const cuda_route_view_t &route;
    const arrival_ranges &ranges;
    int32_t pool;
    uint32_t dealt;
    int64_t count;
    int64_t unit; /* the next */
    arrived_token next;
    unsigned long long later; /* the unit behind it, in lane 0 */

    /* The first `dealt` units are not drawn from the pool; `first` is this warp's first. */
    __device__ __forceinline__ arrival_work(const cuda_channel_t &this_channel,
                                            const cuda_route_view_t &view,
                                            const arrival_ranges &arrivals, int32_t counter,
                                            uint32_t dealt_units, int64_t first)
        : channel(this_channel), route(view), ranges(arrivals), pool(counter), dealt(dealt_units),
          count(unit_count(this_channel, arrivals)), unit(0), next{},
          later((unsigned long long)first)
    {
        advance();
    }

    __device__ __forceinline__ void advance()
    {
        unit = (int64_t)__shfl_sync(all_lanes, later, 0);
        if (unit >= count) {
            return;
        }
        next.n = (int32_t)arrival_of_unit(channel, ranges, unit, &next.from);
        if (next.n >= 0) {
            next.load(channel, route);
        }
        if (lane_index() == 0) {
            later = dealt +
                    atomicAdd(reinterpret_cast<unsigned long long *>(&channel.counters->pool[pool]),
                              1ull);
        }
    }

    /* Whether `next` is a token. */
    __device__ __forceinline__ bool has_next() const
    {
        return unit < count && next.n >= 0;
    }

    /* False: there is none. */
    __device__ __forceinline__ bool take(arrived_token *token)
    {
        while (unit < count) {
            *token = next;
            advance();
            if (token->n >= 0) {
                return true;
            }
        }
        return false;
    }
};

} // namespace moxie

#endif
