/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backward of a weighted combine, in expert_major: what arrived of a token becomes its rows, each
 * times its weight, and where they are asked for the gradients of the weights,
 * ⟨arrived, row of y⟩ as moxie/exchange.h defines it, go home.
 */
#ifndef MOXIE_EXCHANGE_CUDA_DISPATCH_WEIGHTED_CUH
#define MOXIE_EXCHANGE_CUDA_DISPATCH_WEIGHTED_CUH

#include "exchange/cuda/arrivals.cuh"
#include "exchange/cuda/exchange.cuh"

namespace moxie
{

/*
 * Number i of the 8 that a lane holds of 256 partials is partial 8 · lane + i. Halves them
 * pairwise: partial j += partial j + h for h = 128, 64, … 1. In the first three halvings the two
 * lanes of a pair take a half each, so that every lane is left with one number. All lanes have the
 * result.
 */
__device__ __forceinline__ float halve_partials(float (&partials)[wide_count])
{
    static_assert(wide_count == 8, "three halvings leave one");
#pragma unroll
    for (int kept = 4; kept >= 1; kept /= 2) { /* h = 32 · kept */
        const bool takes_upper = (lane_index() & 4 * kept) != 0;
#pragma unroll
        for (int i = 0; i < kept; i++) {
            const float given = takes_upper ? partials[i] : partials[i + kept];
            const float own = takes_upper ? partials[i + kept] : partials[i];
            partials[i] = own + __shfl_xor_sync(all_lanes, given, 4 * kept);
        }
    }
    float sum = partials[0];
#pragma unroll
    for (int lanes = 2; lanes >= 1; lanes /= 2) { /* h = 8 · lanes */
        sum += __shfl_xor_sync(all_lanes, sum, lanes);
    }
#pragma unroll
    for (int lanes = 16; lanes >= 4; lanes /= 2) { /* h = lanes / 4, of which each has its half */
        sum += __shfl_xor_sync(all_lanes, sum, lanes);
    }
    return sum;
}

/* Rows of a token that are made together. */
template <int row_count> struct weighted_rows {
    char *row[row_count];
    const char *y[row_count];
    float weight[row_count];
    float partials[row_count][wide_count];
};

/* Some numbers that arrived, from a column on: each row gets its weight times them, and its
 * partials from `first` on their products with y. */
template <int count, bool is_bf16, int row_count>
__device__ __forceinline__ void weigh_numbers(const packed_numbers<count, is_bf16> &arrived,
                                              const packed_numbers<count, is_bf16> (&y)[row_count],
                                              int32_t column, int first,
                                              weighted_rows<row_count> &rows)
{
    float numbers[count];
    arrived.unpack(numbers);
#pragma unroll
    for (int row = 0; row < row_count; row++) {
        float factors[count];
        float weighted[count];
        y[row].unpack(factors);
#pragma unroll
        for (int i = 0; i < count; i++) {
            float &partial = rows.partials[row][first + i];
            partial = fmaf(numbers[i], factors[i], partial);
            weighted[i] = rows.weight[row] * numbers[i];
        }
        store_numbers<count>(rows.row[row], column, is_bf16, weighted);
    }
}

/* Makes some rows of what arrived, of which one may be in its place. A lane has 8 neighbouring
 * columns in every 256, whose loads of some rounds are on their way together. */
template <int count, bool is_bf16, int row_count>
__device__ __forceinline__ void weigh_rows(const char *arrived, int32_t hidden,
                                           weighted_rows<row_count> &rows)
{
    constexpr int depth = count == wide_count && is_bf16 ? 4 : 1;
    constexpr int32_t round_columns = 32 * wide_count;
#pragma unroll 1
    for (int32_t base = wide_count * lane_index(); base - wide_count * lane_index() < hidden;
         base += round_columns * depth) {
#pragma unroll
        for (int first = 0; first < wide_count; first += count) {
            packed_numbers<count, is_bf16> numbers[depth] = {};
            packed_numbers<count, is_bf16> y[depth][row_count] = {};
#pragma unroll
            for (int round = 0; round < depth; round++) {
                const int32_t column = base + round_columns * round + first;
                if (column < hidden) {
                    numbers[round].load(arrived, column);
                }
#pragma unroll
                for (int row = 0; row < row_count; row++) {
                    if (column < hidden) {
                        y[round][row].load(rows.y[row], column);
                    }
                }
            }
#pragma unroll
            for (int round = 0; round < depth; round++) {
                const int32_t column = base + round_columns * round + first;
                if (column < hidden) {
                    weigh_numbers<count, is_bf16, row_count>(numbers[round], y[round], column,
                                                             first, rows);
                }
            }
        }
    }
}

/* Rows [first, first + row_count) of a token. The gradients of their weights stay in the lanes of
 * their numbers; where none are asked for, what arrived stands in for y. */
template <int count, bool is_bf16, int row_count>
__device__ __forceinline__ void weigh_some(const cuda_dispatch_args_t &args,
                                           const arrived_token &token, const char *arrived,
                                           int32_t first, bool wants_gradient,
                                           float (&gradients)[2])
{
    weighted_rows<row_count> rows = {};
#pragma unroll
    for (int i = 0; i < row_count; i++) {
        const int64_t offset = token.row(first + i) * args.row_bytes;
        rows.row[i] = args.destination + offset;
        rows.y[i] = wants_gradient ? args.y + offset : arrived;
        rows.weight[i] = token.weight(first + i);
    }
    weigh_rows<count, is_bf16, row_count>(arrived, (int32_t)args.route.hidden, rows);
#pragma unroll
    for (int i = 0; i < row_count && wants_gradient; i++) {
        const float gradient = halve_partials(rows.partials[i]);
        gradients[0] = first + i == lane_index() ? gradient : gradients[0];
        gradients[1] = first + i == lane_index() + 32 ? gradient : gradients[1];
    }
}

/* All rows of a token, two at a time, the one that holds what arrived, the first, last of all. */
template <int count, bool is_bf16>
__device__ __forceinline__ void weigh_token(const cuda_dispatch_args_t &args,
                                            const arrived_token &token, bool wants_gradient)
{
    const char *arrived = args.destination + token.row(0) * args.row_bytes;
    float gradients[2] = {};
    int32_t left = token.arrival.count;
#pragma unroll 1
    while (left >= 2) {
        left -= 2;
        weigh_some<count, is_bf16, 2>(args, token, arrived, left, wants_gradient, gradients);
    }
    if (left == 1) {
        weigh_some<count, is_bf16, 1>(args, token, arrived, 0, wants_gradient, gradients);
    }
    float *home =
        reinterpret_cast<float *>(args.channel.parts[token.from] + args.route.gradient_offset) +
        (int64_t)token.arrival.token * args.route.topk;
    if (wants_gradient && lane_index() < token.arrival.count) {
        home[token.link.slot] = canonical(gradients[0]);
    }
    if (wants_gradient && lane_index() + 32 < token.arrival.count) {
        home[token.more.slot] = canonical(gradients[1]);
    }
}

} // namespace moxie

#endif
