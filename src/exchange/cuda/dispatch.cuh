/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch, and the backward of combine: every rank writes its tokens' rows straight into their
 * first place at the receivers, a row once to each. In expert_major a receiver makes the other rows
 * of a token itself while further tokens arrive. Rows of fp8 have scales (scales.cuh), and may be
 * bf16 at home.
 */
#ifndef MOXIE_EXCHANGE_CUDA_DISPATCH_CUH
#define MOXIE_EXCHANGE_CUDA_DISPATCH_CUH

#include "exchange/cuda/arrivals.cuh"
#include "exchange/cuda/bulk.cuh"
#include "exchange/cuda/dispatch_send.cuh"
#include "exchange/cuda/dispatch_weighted.cuh"
#include "exchange/cuda/exchange.cuh"
#include "exchange/cuda/scales.cuh"
#include "exchange/cuda/signals.cuh"

namespace moxie
{

/* rank_major, by the warps of all blocks from `first_warp` on: which slots a received row serves.
 */
__device__ inline void write_slots(const cuda_dispatch_args_t &args, int32_t first_warp)
{
    const cuda_route_view_t &route = args.route;
    const int32_t rank = args.channel.rank;
    const uint2 *slots =
        reinterpret_cast<const uint2 *>(args.channel.parts[rank] + route.detail_offset);
    const int64_t count = route.needs[rank] * route.topk;
    const int64_t threads = (int64_t)blockDim.x - 32 * first_warp;
    const int64_t stride = gridDim.x * threads;
    for (int64_t base = blockIdx.x * threads + threadIdx.x - 32 * first_warp; base < count;
         base += copy_depth * stride) {
        uint2 some[copy_depth];
#pragma unroll
        for (int i = 0; i < copy_depth; i++) {
            some[i] = base + i * stride < count ? __ldcg(slots + base + i * stride) : uint2{};
        }
#pragma unroll
        for (int i = 0; i < copy_depth; i++) {
            const int64_t slot = base + i * stride;
            if (args.recv_topk_idx != nullptr && slot < count) {
                args.recv_topk_idx[slot] = (int32_t)some[i].x;
            }
            if (args.recv_topk_weights != nullptr && slot < count) {
                args.recv_topk_weights[slot] = __uint_as_float(some[i].y);
            }
        }
    }
}

/* rank_major: the warps of a block. Those that the bulk copy engine leaves free write the slots. */
template <typename work_t>
__device__ inline void send_rows_and_slots(const cuda_dispatch_args_t &args,
                                           dispatch_shared &shared, work_t &work, char *pieces)
{
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const bool in_bulk = can_send_bulk(args, shared.op);
    const int32_t first_free_warp = in_bulk ? bulk_warps : 0;
    if (!in_bulk) {
        send_rows_by_lanes(args, work, false);
    } else if (warp < bulk_warps) {
        bulk_send<0>(pieces, warp, work.source_row_bytes(), work);
    }
    if (!args.is_backward && warp >= first_free_warp) {
        write_slots(args, first_free_warp);
    }
}

/* expert_major: a row's weight and source; all -1 and +0 for padding. */
__device__ __forceinline__ void label_row(const cuda_dispatch_args_t &args, int64_t row,
                                          float weight, int32_t rank, int32_t token, int32_t slot)
{
    if (args.row_weight != nullptr) {
        args.row_weight[row] = weight;
    }
    if (args.row_source != nullptr) {
        args.row_source[3 * row] = rank;
        args.row_source[3 * row + 1] = token;
        args.row_source[3 * row + 2] = slot;
    }
}

/* expert_major: zeros into the padding, which nobody else writes. */
template <row_kind rows> __device__ inline void write_padding(const cuda_dispatch_args_t &args)
{
    const cuda_route_view_t &route = args.route;
    const int32_t warp_count = (int32_t)(gridDim.x * blockDim.x / 32);
    for (int32_t local = (int32_t)(blockIdx.x + gridDim.x * (threadIdx.x / 32));
         local < route.local_expert_count; local += warp_count) {
        const int64_t end = route.block_starts[local] + route.local_counts[local];
        for (int64_t row = end; row < route.block_starts[local + 1]; row++) {
            zero_row<typename element_of<rows>::type>(args.destination + row * args.row_bytes,
                                                      args.row_bytes);
            if (is_fp8<rows>) {
                zero_scales(args, row);
            }
            if (lane_index() == 0) {
                label_row(args, row, 0.0f, -1, -1, -1);
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

/* The other rows of a token. */
template <row_kind rows>
__device__ inline void copy_token(const cuda_dispatch_args_t &args, const arrived_token &token)
{
    const char *source = args.destination + (int64_t)token.row(0) * args.row_bytes;
    const uint64_t addresses =
        reinterpret_cast<uint64_t>(args.destination) | (uint64_t)args.row_bytes;
    for (int32_t half = 0; 32 * half < token.arrival.count; half++) {
        const int32_t i = 32 * half + lane_index();
        const uint32_t mask = __ballot_sync(all_lanes, i > 0 && i < token.arrival.count);
        copy_row<typename element_of<rows>::type>(
            source, args.row_bytes, addresses, mask,
            args.destination +
                (int64_t)(half == 0 ? token.link.row : token.more.row) * args.row_bytes);
    }
}

/* Rows of fp8: the other rows of a token, and the scales of all, which are on their way meanwhile.
 */
template <row_kind rows>
__device__ inline void copy_scaled_token(const cuda_dispatch_args_t &args, const operation &op,
                                         const arrived_token &token)
{
    const uint32_t *staged = scales_at(args, op, args.channel.rank, token.from) +
                             (int64_t)token.arrival.token * args.scale_words;
    scale_words words;
    words.load(staged, args.scale_words);
    copy_token<rows>(args, token);
    for (int32_t half = 0; 32 * half < token.arrival.count; half++) {
        const int32_t i = 32 * half + lane_index();
        const uint32_t mask = __ballot_sync(all_lanes, i < token.arrival.count);
        words.store(staged, args.scale_words, mask,
                    scales_of_row(args, half == 0 ? token.link.row : token.more.row),
                    scale_step(args));
    }
}

/* All rows of a token. */
__device__ __forceinline__ void label_token(const cuda_dispatch_args_t &args,
                                            const arrived_token &token)
{
    if (lane_index() < token.arrival.count) {
        label_row(args, token.link.row, token.link.weight, token.from, token.arrival.token,
                  token.link.slot);
    }
    if (lane_index() + 32 < token.arrival.count) {
        label_row(args, token.more.row, token.more.weight, token.from, token.arrival.token,
                  token.more.slot);
    }
}

/* A token has arrived: makes its rows. */
template <row_kind rows>
__device__ __forceinline__ void spread_token(const cuda_dispatch_args_t &args, const operation &op,
                                             const arrived_token &token, bool is_wide,
                                             bool wants_gradient)
{
    if constexpr (is_fp8<rows>) {
        copy_scaled_token<rows>(args, op, token);
    } else if constexpr (rows == rows_plain) {
        copy_token<rows>(args, token);
    } else if (args.element_bytes == 2) {
        is_wide ? weigh_token<wide_count, true>(args, token, wants_gradient)
                : weigh_token<1, true>(args, token, wants_gradient);
    } else {
        is_wide ? weigh_token<wide_count, false>(args, token, wants_gradient)
                : weigh_token<1, false>(args, token, wants_gradient);
    }
}

/* Asks for the rows of y of a token. */
__device__ __forceinline__ void prefetch_products(const cuda_dispatch_args_t &args,
                                                  const arrived_token &token)
{
    for (int32_t i = 0; i < token.arrival.count; i++) {
        prefetch_row(args.y + token.row(i) * args.row_bytes, args.row_bytes);
    }
}

/* expert_major: makes the rows of every token as it arrives. False: the group is lost. */
template <row_kind rows>
__device__ __forceinline__ bool spread_rows(const cuda_dispatch_args_t &args,
                                            dispatch_shared &shared, int32_t kind,
                                            bool wants_gradient)
{
    const bool is_wide = ((reinterpret_cast<uint64_t>(args.destination) |
                           reinterpret_cast<uint64_t>(args.y) | (uint64_t)args.row_bytes) %
                          16) == 0 &&
                         args.route.hidden % wide_count == 0;
    arrival_work work(args.channel, args.route, shared.ranges, pool_receive, 0,
                      take_work(args.channel, pool_receive));
    for (arrived_token token; work.take(&token);) {
        const uint32_t *flag =
            progress_of(args.channel, args.route, args.channel.rank, token.from) +
            token.arrival.token;
        label_token(args, token);
        if (!progress_await(args.channel, shared.op, kind, lane_index() == 0 ? flag : nullptr,
                            token.from, 2 * shared.op.epoch)) {
            return false;
        }
        if (rows == rows_weighted && wants_gradient && work.has_next()) {
            prefetch_products(args, work.next); /* while this one is worked on */
        }
        spread_token<rows>(args, shared.op, token, is_wide, wants_gradient);
    }
    return true;
}

/* rank_major, all threads of all blocks, when all has arrived: column-major scales. */
template <row_kind rows>
__device__ __forceinline__ void turn_received_scales(const cuda_dispatch_args_t &args)
{
    if (is_fp8<rows> && args.has_column_scales) {
        args.scale_words % 4 == 0 ? turn_scales<uint4>(args) : turn_scales<uint32_t>(args);
    }
}

/* rank_major: rows are where they belong as soon as they have arrived, and scales but for
 * column-major ones. */
template <typename work_t>
__device__ inline void exchange_by_rank(const cuda_dispatch_args_t &args, dispatch_shared &shared,
                                        work_t &work, char *pieces, int32_t kind)
{
    send_rows_and_slots(args, shared, work, pieces);
    operation_raise(args.channel, shared.op, flag_payload);
    const bool is_there = operation_await(args.channel, shared.op, kind, flag_payload);
    if (is_there) {
        turn_received_scales<work_t::kind>(args);
    }
}

template <typename work_t>
__device__ inline void exchange_by_expert(const cuda_dispatch_args_t &args, dispatch_shared &shared,
                                          work_t &work, char *pieces, int32_t kind)
{
    const bool wants_gradient =
        work_t::kind == rows_weighted && gradient_is_wanted(args.channel, shared.op);
    if (blockIdx.x < args.send_blocks) {
        send_rows_with_flags(args, shared, work, pieces);
    }
    operation_mark(shared.op, CUDA_PHASE_MOVE);
    write_padding<work_t::kind>(args);
    bool is_there = spread_rows<work_t::kind>(args, shared, kind, wants_gradient);
    if (!wants_gradient) {
        return;
    }
    operation_raise(args.channel, shared.op, flag_followed);
    is_there = operation_await(args.channel, shared.op, kind, flag_followed) && is_there;
    if (is_there && args.d_topk_weights != nullptr) {
        take_gradients(args.channel, args.route, args.d_topk_weights);
    }
}

template <typename work_t>
__device__ __forceinline__ void dispatch(const cuda_dispatch_args_t &args, char *pieces)
{
    __shared__ dispatch_shared shared;
    const int32_t kind = kind_of(args.offer);
    bulk_begin(pieces, bulk_warps);
    signals_begin(shared.queue, dispatch_signal_warp);
    await_previous_kernel();
    if (args.comes_with_update && !*args.route.has_routing) {
        return;
    }
    operation_begin(args.channel, shared.op);
    if (blockIdx.x == 0) {
        operation_offer(args.channel, shared.op, args.offer, nullptr);
    }
    const expectation expected = expect_of_lane(args.channel, args.route);
    work_t work(args, shared, token_pool(args, *args.route.token_count));
    if (blockIdx.x < args.send_blocks &&
        threadIdx.x / 32 < bulk_warps) { /* they send, whatever it be */
        work.begin();
    }
    find_ranges(args.channel, args.route, shared.ranges);
    operation_meet(args.channel, shared.op, kind);
    if (exchange_agree(args.channel, args.route, shared.op, expected, kind, args.row_bytes)) {
        if (blockIdx.x == gridDim.x - 1 && !args.is_backward) {
            write_counts(args);
        }
        work.aim();
        if (args.route.layout == 1) {
            exchange_by_rank(args, shared, work, pieces, kind);
        } else {
            exchange_by_expert(args, shared, work, pieces, kind);
        }
    }
    operation_leave(args.channel, shared.op);
}

/* Shared memory: CUDA_BULK_SHARED_BYTES. */
extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_dispatch(const __grid_constant__ cuda_dispatch_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    dispatch<token_work<rows_plain>>(args, pieces);
}

extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_dispatch_weighted(const __grid_constant__ cuda_dispatch_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    dispatch<token_work<rows_weighted>>(args, pieces);
}

extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_dispatch_fp8(const __grid_constant__ cuda_dispatch_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    dispatch<token_work<rows_scaled>>(args, pieces);
}

extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_dispatch_quantised(const __grid_constant__ cuda_dispatch_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    dispatch<quantised_work<>>(args, pieces);
}

} // namespace moxie

#endif
