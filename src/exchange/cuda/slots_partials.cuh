/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine in low latency: which partials a block makes, and what they are.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_PARTIALS_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_PARTIALS_CUH

#include "exchange/cuda/slots.cuh"

namespace moxie
{

/* How partials come home. */
enum slots_way {
    SLOTS_RANK_MAJOR,
    SLOTS_EXPERT_MAJOR,
    SLOTS_TAGGED, /* rank_major, in tagged pieces */
};

/* Partials of a token that are on their way together. */
constexpr int partial_depth = 4;

struct slots_combine_shared : slots_block {
    int32_t has_dispatched;
    int64_t token_count;
    int32_t counts[CUDA_RANK_COUNT_MAX]; /* rows that each rank sent here */
    int32_t count_max;
    int32_t rows[CUDA_RANK_COUNT_MAX]; /* those of this rank's token at hand at each rank */
};

/* A lane a rank: where the partials of a token come from; -1: there is none. */
__device__ __forceinline__ int32_t row_of_lane(const cuda_slots_combine_args_t &args, int64_t token)
{
    const int32_t rank_count = args.call.channel.rank_count;
    return lane_index() < rank_count && token >= 0 && token < args.call.route.token_count_max
               ? args.call.route.first_rows[token * rank_count + lane_index()]
               : -1;
}

/* What dispatch has left, asked for by a warp each, so that the loads are on their way together. */
struct dispatch_look {
    int32_t number; /* of the lane's rank: rows sent here, or this block's token's row there */
    int32_t has_dispatched;
    int64_t token_count;
};

__device__ __forceinline__ dispatch_look look_at_dispatch(const cuda_slots_combine_args_t &args)
{
    const cuda_channel_t &channel = args.call.channel;
    const int32_t warp = (int32_t)threadIdx.x / 32;
    dispatch_look look = {};
    if (warp == 0 && lane_index() < channel.rank_count) {
        look.number = args.call.route.row_counts[lane_index() * channel.rank_count + channel.rank];
    } else if (warp == 1) {
        look.number = row_of_lane(args, turn_of_block());
    } else if (threadIdx.x == 64) {
        look.has_dispatched = args.call.slots.report->has_dispatched;
        look.token_count = *args.call.route.token_count;
    }
    return look;
}

/* All threads, before a barrier. */
__device__ __forceinline__ void keep_dispatch(slots_combine_shared &shared,
                                              const dispatch_look &look)
{
    if (threadIdx.x < 32) {
        if (lane_index() < CUDA_RANK_COUNT_MAX) {
            shared.counts[lane_index()] = look.number;
        }
        const int32_t count_max = __reduce_max_sync(all_lanes, look.number);
        if (lane_index() == 0) {
            shared.count_max = count_max;
        }
    } else if (threadIdx.x < 32 + CUDA_RANK_COUNT_MAX) {
        shared.rows[lane_index()] = look.number;
    } else if (threadIdx.x == 64) {
        shared.has_dispatched = look.has_dispatched;
        shared.token_count = look.token_count;
    }
}

/* A row that this block may send home: number `row` of those that `home` sent. */
struct homeward_row {
    int32_t home;
    int32_t row;
};

/* Number i of them. Blocks take one row of each rank in turn. */
__device__ __forceinline__ homeward_row homeward(const cuda_slots_combine_args_t &args, int32_t i)
{
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t unit = turn_of_block() + i * turn_count();
    const int32_t row = unit / rank_count;
    return {(unit - row * rank_count + args.call.channel.rank + 1) % rank_count, row};
}

/* Whether rows and results are such that a thread can take 8 columns at a time. */
__device__ __forceinline__ bool has_wide_rows(const cuda_slots_combine_args_t &args,
                                              const void *rows)
{
    return reinterpret_cast<uint64_t>(rows) % 16 == 0 && args.call.route.hidden % wide_count == 0;
}

/* What most calls are: partials of wide rows of bf16, and bf16 themselves. The code for all others
 * is out of the way of theirs, and slower. */
__device__ __forceinline__ bool has_plain_partials(const cuda_slots_combine_args_t &args)
{
    return args.source_is_bf16 && args.wire_is_bf16 && has_wide_rows(args, args.source);
}

/* The same of results. */
__device__ __forceinline__ bool has_plain_results(const cuda_slots_combine_args_t &args)
{
    return args.wire_is_bf16 && args.out_is_bf16 && has_wide_rows(args, args.out);
}

/* Numbers of a partial, from a column on: those of the row, or in expert_major the sum of those of
 * its experts. */
template <int count, bool is_plain, bool is_expert_major>
__device__ __forceinline__ void sum_partial(const cuda_slots_combine_args_t &args, int64_t slot,
                                            int64_t column, float (&sum)[count])
{
    const cuda_slots_call_t &call = args.call;
    const int is_bf16 = is_plain || args.source_is_bf16;
    const int64_t row_bytes = call.route.hidden * (is_bf16 ? 2 : 4);
    if constexpr (!is_expert_major) {
        load_numbers<count>(args.source + slot * row_bytes, column, is_bf16, sum);
        return;
    }
    const int32_t topk = call.route.topk;
    const int32_t *rows = call.slots.rows + slot * topk;
    const float *weights =
        slots_at<float>(call, call.channel.rank, call.slots.weights_offset) + slot * topk;
#pragma unroll
    for (int j = 0; j < count; j++) {
        sum[j] = 0.0f;
    }
    for (int32_t k = 0; k < topk; k++) {
        const int64_t row = rows[k];
        if (row < 0) {
            continue;
        }
        const float weight = args.unweighted ? 1.0f : weights[k];
        float numbers[count];
        load_numbers<count>(args.source + row * row_bytes, column, is_bf16, numbers);
#pragma unroll
        for (int j = 0; j < count; j++) {
            sum[j] = fmaf(weight, numbers[j], sum[j]);
        }
    }
}

/* Rows that this block may have to send: some of them were not sent by their rank. */
__device__ __forceinline__ int32_t homeward_count(const cuda_slots_combine_args_t &args,
                                                  const slots_combine_shared &shared)
{
    const int32_t left = shared.count_max * args.call.channel.rank_count - turn_of_block();
    return left > 0 ? (left + turn_count() - 1) / turn_count() : 0;
}

} // namespace moxie

#endif
