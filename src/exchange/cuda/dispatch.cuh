/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch, and the backward of combine: every rank writes its tokens' rows straight into their
 * first place at the receivers. In expert_major a receiver makes the other rows of a token itself:
 * a row crosses between two ranks once.
 */
#ifndef MOXIE_EXCHANGE_CUDA_DISPATCH_CUH
#define MOXIE_EXCHANGE_CUDA_DISPATCH_CUH

#include "exchange/cuda/exchange.cuh"

namespace moxie
{

/* Home: tokens are given out one by one, so that no block is left with a long tail. */
__device__ inline void send_rows(const cuda_dispatch_args_t &args, const operation &op)
{
    const int32_t rank_count = args.channel.rank_count;
    const int64_t token_count = *args.route.token_count;
    const int32_t lane = lane_index();
    for (int64_t token = take_work(args.channel, pool_payload); token < token_count;) {
        const int32_t row =
            lane < rank_count ? args.route.first_rows[token * rank_count + lane] : -1;
        const int64_t next = take_work(args.channel, pool_payload);
        const uint32_t mask = __ballot_sync(all_lanes, row >= 0);
        const char *source = args.source + token * args.row_bytes;
        char *destination =
            row < 0 ? nullptr : op.destination[lane] + (int64_t)row * args.row_bytes;
        const uint64_t addresses = or_over_lanes(reinterpret_cast<uint64_t>(destination)) |
                                   reinterpret_cast<uint64_t>(source) | (uint64_t)args.row_bytes;
        copy_row(source, args.row_bytes, addresses, mask, destination);
        token = next;
    }
}

/* rank_major: which slots a received row serves. */
__device__ inline void write_slots(const cuda_dispatch_args_t &args)
{
    const cuda_route_view_t &route = args.route;
    const int32_t rank = args.channel.rank;
    const uint2 *slots =
        reinterpret_cast<const uint2 *>(args.channel.parts[rank] + route.slot_offsets[rank]);
    const int64_t count = route.needs[rank] * route.topk;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * blockDim.x) {
        const uint2 slot = __ldcg(slots + i);
        if (args.recv_topk_idx != nullptr) {
            args.recv_topk_idx[i] = (int32_t)slot.x;
        }
        if (args.recv_topk_weights != nullptr) {
            args.recv_topk_weights[i] = __uint_as_float(slot.y);
        }
    }
}

/* expert_major: a row's weight and source; `entry` NULL: a padding row. */
__device__ __forceinline__ void label_row(const cuda_dispatch_args_t &args, int64_t row,
                                          const cuda_row_t *entry)
{
    if (args.row_weight != nullptr) {
        args.row_weight[row] = entry != nullptr ? entry->weight : 0.0f;
    }
    if (args.row_source != nullptr) {
        args.row_source[3 * row] = entry != nullptr ? (int32_t)entry->rank : -1;
        args.row_source[3 * row + 1] = entry != nullptr ? entry->token : -1;
        args.row_source[3 * row + 2] = entry != nullptr ? (int32_t)entry->slot : -1;
    }
}

/* expert_major: labels of all rows, and zeros into the padding, which nobody else writes. */
__device__ inline void write_labels(const cuda_dispatch_args_t &args)
{
    const cuda_route_view_t &route = args.route;
    const cuda_row_t *table = rows_of(args.channel, route);
    const int32_t warp_count = (int32_t)(gridDim.x * blockDim.x / 32);
    for (int32_t local = (int32_t)(blockIdx.x + gridDim.x * (threadIdx.x / 32));
         local < route.local_expert_count; local += warp_count) {
        const int64_t end = route.block_starts[local] + route.local_counts[local];
        for (int64_t row = route.block_starts[local] + lane_index(); row < end; row += 32) {
            const cuda_row_t entry = load_row(table + row);
            label_row(args, row, &entry);
        }
        for (int64_t row = end; row < route.block_starts[local + 1]; row++) {
            zero_row(args.destination + row * args.row_bytes, args.row_bytes);
            if (lane_index() == 0) {
                label_row(args, row, nullptr);
            }
        }
    }
}

/* One block: the counts that the caller asked for. */
__device__ inline void write_counts(const cuda_dispatch_args_t &args)
{
    const cuda_route_view_t &route = args.route;
    for (int32_t local = threadIdx.x; local <= route.local_expert_count; local += blockDim.x) {
        if (args.expert_count != nullptr && local < route.local_expert_count) {
            args.expert_count[local] = route.local_counts[local];
        }
        if (args.expert_start != nullptr && route.layout == 2) {
            args.expert_start[local] = route.block_starts[local];
        }
    }
}

/* expert_major: the other rows of a token that has arrived. */
__device__ inline void copy_to_chain(const cuda_dispatch_args_t &args, const row_chain &chain)
{
    const int32_t lane = lane_index();
    const char *source = args.destination + (int64_t)chain_row(chain, 0) * args.row_bytes;
    const uint64_t addresses =
        reinterpret_cast<uint64_t>(args.destination) | (uint64_t)args.row_bytes;
    for (int32_t half = 0; half < 2 && 32 * half < chain.count; half++) {
        const int32_t row = half == 0 ? chain.rows[0] : chain.rows[1];
        const bool is_copy = 32 * half + lane < chain.count && 32 * half + lane > 0;
        const uint32_t mask = __ballot_sync(all_lanes, is_copy);
        copy_row(source, args.row_bytes, addresses, mask,
                 args.destination + (int64_t)row * args.row_bytes);
    }
}

/* Number i of the 8 that a lane holds of 256 partials is partial 8 · lane + i. */
__device__ __forceinline__ float halve_partials(float (&partials)[wide_count])
{
    for (int step = 16; step >= 1; step /= 2) {
#pragma unroll
        for (int i = 0; i < wide_count; i++) {
            partials[i] += __shfl_down_sync(all_lanes, partials[i], step);
        }
    }
#pragma unroll
    for (int step = wide_count / 2; step >= 1; step /= 2) {
#pragma unroll
        for (int i = 0; i < step; i++) {
            partials[i] += partials[i + step];
        }
    }
    return partials[0];
}

/* ⟨d_out, y⟩ of one row as moxie/exchange.h defines it, in lane 0. */
__device__ inline float row_product(const char *d_out, const char *y, int64_t hidden, int is_bf16)
{
    float partials[wide_count] = {};
    for (int64_t base = 0; base < hidden; base += 256) {
#pragma unroll
        for (int i = 0; i < wide_count; i++) {
            const int64_t column = base + wide_count * lane_index() + i;
            if (column < hidden) {
                float a[1], b[1];
                load_numbers<1>(d_out, column, is_bf16, a);
                load_numbers<1>(y, column, is_bf16, b);
                partials[i] = fmaf(a[0], b[0], partials[i]);
            }
        }
    }
    return halve_partials(partials);
}

__device__ inline void scale_row(const char *source, char *destination, int64_t hidden, int is_bf16,
                                 float weight)
{
    for (int64_t column = lane_index(); column < hidden; column += 32) {
        float number[1];
        load_numbers<1>(source, column, is_bf16, number);
        number[0] = weight * number[0];
        store_numbers<1>(destination, column, is_bf16, number);
    }
}

/* Backward of a weighted combine: d_w of each slot goes home, and every row is multiplied by its
 * weight, the one that holds what arrived last of all. */
__device__ inline void scale_chain(const cuda_dispatch_args_t &args, const row_chain &chain,
                                   const cuda_row_t &first, bool wants_gradient)
{
    const cuda_route_view_t &route = args.route;
    const int is_bf16 = args.element_bytes == 2;
    const char *arrived = args.destination + (int64_t)chain_row(chain, 0) * args.row_bytes;
    float *gradients =
        reinterpret_cast<float *>(args.channel.parts[first.rank] + route.gradient_offset) +
        (int64_t)first.token * route.topk;
    for (int32_t i = chain.count - 1; i >= 0; i--) {
        const int64_t row = chain_row(chain, i);
        const float weight = chain_weight(chain, i);
        const int32_t slot = chain_slot(chain, i);
        if (wants_gradient) {
            const float product =
                row_product(arrived, args.y + row * args.row_bytes, route.hidden, is_bf16);
            if (lane_index() == 0) {
                gradients[slot] = canonical(product);
            }
        }
        __syncwarp();
        scale_row(arrived, args.destination + row * args.row_bytes, route.hidden, is_bf16, weight);
        __syncwarp();
    }
}

/* expert_major: works on every token that has arrived. */
__device__ inline void spread_rows(const cuda_dispatch_args_t &args, bool wants_gradient)
{
    const cuda_row_t *table = rows_of(args.channel, args.route);
    const int32_t local_count = args.route.local_expert_count;
    const int64_t row_count = args.route.needs[args.channel.rank];
    int32_t local = 0;
    for (int64_t row = take_work(args.channel, pool_local); row < row_count;
         row = take_work(args.channel, pool_local)) {
        while (local < local_count && args.route.block_starts[local + 1] <= row) {
            local++;
        }
        if (row >= args.route.block_starts[local] + args.route.local_counts[local]) {
            continue; /* padding */
        }
        const cuda_row_t first = load_row(table + row);
        if (!first.first || (first.next < 0 && !args.scales)) {
            continue;
        }
        const row_chain chain = find_chain(table, (int32_t)row, first);
        if (args.scales) {
            scale_chain(args, chain, first, wants_gradient);
        } else {
            copy_to_chain(args, chain);
        }
    }
}

/* Everything but sending. */
__device__ inline void receive_rows(const cuda_dispatch_args_t &args, operation &op, int32_t kind)
{
    const bool is_expert_major = args.route.layout == 2;
    if (blockIdx.x == 0 && !args.is_backward) {
        write_counts(args);
    }
    if (is_expert_major) {
        write_labels(args);
    } else if (!args.is_backward) {
        write_slots(args);
    }
    if (!operation_await(args.channel, op, kind, flag_payload) || !is_expert_major) {
        return;
    }
    const bool wants_gradient = args.scales && gradient_is_wanted(args.channel, op);
    spread_rows(args, wants_gradient);
    if (!wants_gradient) {
        return;
    }
    operation_raise(args.channel, op, flag_followed);
    if (operation_await(args.channel, op, kind, flag_followed) && args.d_topk_weights != nullptr) {
        take_gradients(args.channel, args.route, args.d_topk_weights);
    }
}

extern "C" __global__ void __launch_bounds__(CUDA_ROWS_THREADS, 1)
    moxie_dispatch(const __grid_constant__ cuda_dispatch_args_t args)
{
    __shared__ operation op;
    const int32_t kind = kind_of(args.offer);
    operation_begin(args.channel, op);
    if (blockIdx.x == 0) {
        operation_offer(args.channel, op, args.offer, nullptr);
    }
    operation_meet(args.channel, op, kind);
    if (exchange_agree(args.channel, args.route, op, kind, args.row_bytes)) {
        send_rows(args, op);
        operation_raise(args.channel, op, flag_payload);
        receive_rows(args, op, kind);
    }
    operation_leave(args.channel, op);
}

} // namespace moxie

#endif
