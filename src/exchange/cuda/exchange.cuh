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
enum work_pool { pool_payload, pool_local, pool_per_pass };

/* Flags of a block, CUDA_FLAG_COUNT: see protocol.h. */
enum block_flag { flag_payload, flag_followed, flag_second_payload };

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

/* All threads: the same verdict on every rank. True: the payload may move. */
__device__ inline bool exchange_agree(const cuda_channel_t &channel, const cuda_route_view_t &route,
                                      operation &op, int32_t kind, int64_t row_bytes)
{
    if (threadIdx.x == 0 && !op.is_lost) {
        judge_calls(channel, op, kind, route.topk);
        if (!op.is_refused && !*route.has_routing) {
            refuse(op, CUDA_REFUSED_NO_ROUTING, channel.rank, -1, -1);
        }
        if (!op.is_refused) {
            judge_gradients(channel, op, route.needs);
        }
        if (!op.is_refused) {
            judge_buffers(channel, op, route.needs, row_bytes);
        }
        if (op.is_refused && blockIdx.x == 0 &&
            *const_cast<volatile int32_t *>(&route.report->call.refusal) == CUDA_REFUSED_NOT) {
            report_verdict(op.verdict, &route.report->call);
        }
    }
    if (!op.is_lost && threadIdx.x < channel.rank_count) {
        const uint32_t window = op.fields[threadIdx.x][CUDA_OFFER_WINDOW] % CUDA_WINDOW_COUNT_MAX;
        op.destination[threadIdx.x] =
            channel.windows[window * channel.rank_count + threadIdx.x].base +
            wide_field(op, (int32_t)threadIdx.x, CUDA_OFFER_OFFSET_LOW);
    }
    __syncthreads();
    return !op.is_lost && !op.is_refused;
}

/* This rank's table of received rows. */
__device__ __forceinline__ const cuda_row_t *rows_of(const cuda_channel_t &channel,
                                                     const cuda_route_view_t &route)
{
    return reinterpret_cast<const cuda_row_t *>(channel.parts[channel.rank] + route.row_offset);
}

__device__ __forceinline__ cuda_row_t load_row(const cuda_row_t *row)
{
    const uint4 bits = __ldcg(reinterpret_cast<const uint4 *>(row));
    return {(int32_t)bits.x,
            (int32_t)bits.y,
            __uint_as_float(bits.z),
            (uint16_t)(bits.w & 0xFFFFu),
            (uint8_t)(bits.w >> 16 & 0xFFu),
            (uint8_t)(bits.w >> 24)};
}

/* The rows of a token on this rank, ascending slots: number i in lane i % 32, low or high. */
struct row_chain {
    int32_t count;
    int32_t rows[2];
    float weights[2];
    int32_t slots[2];
};

__device__ __forceinline__ row_chain find_chain(const cuda_row_t *table, int32_t row,
                                                cuda_row_t entry)
{
    row_chain chain = {};
    for (;; chain.count++) {
        if (chain.count % 32 == lane_index()) {
            const int high = chain.count / 32;
            chain.rows[0] = high ? chain.rows[0] : row;
            chain.weights[0] = high ? chain.weights[0] : entry.weight;
            chain.slots[0] = high ? chain.slots[0] : entry.slot;
            chain.rows[1] = high ? row : chain.rows[1];
            chain.weights[1] = high ? entry.weight : chain.weights[1];
            chain.slots[1] = high ? entry.slot : chain.slots[1];
        }
        row = entry.next;
        if (row < 0) {
            break;
        }
        entry = load_row(table + row);
    }
    chain.count++;
    return chain;
}

__device__ __forceinline__ int32_t chain_row(const row_chain &chain, int32_t i)
{
    return __shfl_sync(all_lanes, i < 32 ? chain.rows[0] : chain.rows[1], i % 32);
}

__device__ __forceinline__ float chain_weight(const row_chain &chain, int32_t i)
{
    return __shfl_sync(all_lanes, i < 32 ? chain.weights[0] : chain.weights[1], i % 32);
}

__device__ __forceinline__ int32_t chain_slot(const row_chain &chain, int32_t i)
{
    return __shfl_sync(all_lanes, i < 32 ? chain.slots[0] : chain.slots[1], i % 32);
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
