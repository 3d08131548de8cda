/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine in low latency, in tagged pieces: a partial has a place of its own at home, and is summed
 * from there, piece by piece. rank_major alone.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_PARTIALS_TAGGED_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_PARTIALS_TAGGED_CUH

#include "exchange/cuda/slots_partials.cuh"
#include "exchange/cuda/slots_tagged.cuh"

namespace moxie
{

/* Pieces of a partial whose words have `columns` columns each: two of bf16, or one. */
template <int columns>
__device__ __forceinline__ int32_t partial_pieces_count(const cuda_slots_combine_args_t &args)
{
    return tagged_count((int32_t)((args.call.route.hidden + columns - 1) / columns));
}

/* Whether two columns of all rows can be taken at a time. */
__device__ __forceinline__ bool has_pairs(const cuda_slots_combine_args_t &args, const void *rows)
{
    return reinterpret_cast<uint64_t>(rows) % 8 == 0 && args.call.route.hidden % 2 == 0;
}

/* A word of a row's partial. */
template <int columns, bool is_plain>
__device__ __forceinline__ uint32_t partial_word(const cuda_slots_combine_args_t &args,
                                                 int64_t slot, int32_t word)
{
    const int64_t hidden = args.call.route.hidden;
    const int64_t column = (int64_t)word * columns;
    float numbers[columns] = {};
    if (is_plain || columns == 1 || has_pairs(args, args.source)) {
        if (column < hidden) {
            sum_partial<columns, is_plain, false>(args, slot, column, numbers);
        }
    } else {
#pragma unroll
        for (int i = 0; i < columns; i++) {
            float number[1] = {0.0f};
            if (column + i < hidden) {
                sum_partial<1, false, false>(args, slot, column + i, number);
            }
            numbers[i] = number[0];
        }
    }
    if constexpr (columns == 2) {
        return bf16_pair(numbers[0], numbers[1]);
    } else {
        return __float_as_uint(canonical(numbers[0]));
    }
}

/* All threads: this block's partials to their homes, the same piece of `row_depth` rows at a
 * time. */
template <int columns, int row_depth, bool is_plain>
__device__ __forceinline__ void push_tagged(const cuda_slots_combine_args_t &args,
                                            const slots_combine_shared &shared, int32_t row_count)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t piece_count = partial_pieces_count<columns>(args);
#pragma unroll 1
    for (int32_t number = 0; number < row_count; number += row_depth) {
        int64_t slots[row_depth]; /* -1: none */
        tagged_piece *to[row_depth];
#pragma unroll
        for (int i = 0; i < row_depth; i++) {
            const homeward_row row = homeward(args, number + i);
            const bool is_there = number + i < row_count && row.row < shared.counts[row.home];
            slots[i] = is_there ? slot_of(call, row.home, row.row) : -1;
            to[i] = tagged_at(call, shared.op.epoch, row.home, call.channel.rank, row.row);
        }
#pragma unroll 1
        for (int32_t index = (int32_t)threadIdx.x; index < piece_count;
             index += (int32_t)blockDim.x) {
            const int32_t word = index * tagged_words;
            tagged_piece pieces[row_depth];
#pragma unroll
            for (int i = 0; i < row_depth; i++) {
                if (slots[i] >= 0) {
                    pieces[i] = make_uint4(
                        partial_word<columns, is_plain>(args, slots[i], word),
                        partial_word<columns, is_plain>(args, slots[i], word + 1),
                        partial_word<columns, is_plain>(args, slots[i], word + 2), shared.op.epoch);
                }
            }
#pragma unroll
            for (int i = 0; i < row_depth; i++) {
                if (slots[i] >= 0) {
                    store_tagged(to[i] + index, pieces[i]);
                }
            }
        }
    }
}

/* The same of partials that are not plain. */
__device__ __noinline__ void push_any_tagged(const cuda_slots_combine_args_t &args,
                                             const slots_combine_shared &shared, int32_t row_count)
{
    if (args.wire_is_bf16) {
        push_tagged<2, 1, false>(args, shared, row_count);
    } else {
        push_tagged<1, 1, false>(args, shared, row_count);
    }
}

/* Adds the columns of a word to a sum. */
template <int columns> __device__ __forceinline__ void add_word(uint32_t word, float *sum)
{
    if constexpr (columns == 2) {
        sum[0] = fmaf(1.0f, __uint_as_float(word << 16), sum[0]);
        sum[1] = fmaf(1.0f, __uint_as_float(word & 0xFFFF0000u), sum[1]);
    } else {
        sum[0] = fmaf(1.0f, __uint_as_float(word), sum[0]);
    }
}

/* One thread: the sum of a piece of a token's partials, by rank, once they have come. False: they
 * will not. */
template <int columns>
__device__ __forceinline__ bool sum_piece(const cuda_slots_combine_args_t &args,
                                          slots_combine_shared &shared, int32_t index,
                                          float (&sum)[tagged_words * columns])
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    const uint32_t epoch = shared.op.epoch;
#pragma unroll 1
    for (int32_t first = 0; first < rank_count; first += partial_depth) {
        tagged_piece pieces[partial_depth];
        int32_t missing = 0;
        const bool is_there = slots_await(call, shared.op, missing, [&] {
            bool is_whole = true;
#pragma unroll
            for (int i = 0; i < partial_depth; i++) {
                const int32_t rank = min(first + i, rank_count - 1);
                const int32_t row = shared.rows[rank];
                pieces[i] = make_uint4(0, 0, 0, epoch);
                if (row >= 0) {
                    pieces[i] =
                        peek_tagged(tagged_at(call, epoch, call.channel.rank, rank, row) + index);
                }
            }
#pragma unroll
            for (int i = 0; i < partial_depth; i++) {
                if (pieces[i].w != epoch) {
                    missing = min(first + i, rank_count - 1);
                    is_whole = false;
                }
            }
            return is_whole;
        });
        if (!is_there) {
            return false;
        }
#pragma unroll
        for (int i = 0; i < partial_depth; i++) {
            if (first + i < rank_count && shared.rows[first + i] >= 0) {
                add_word<columns>(pieces[i].x, sum);
                add_word<columns>(pieces[i].y, sum + columns);
                add_word<columns>(pieces[i].z, sum + 2 * columns);
            }
        }
    }
    return true;
}

/* Columns of a token's result from one on. */
template <int count, bool is_plain>
__device__ __forceinline__ void store_columns(const cuda_slots_combine_args_t &args, int64_t token,
                                              int64_t column, const float (&sum)[count])
{
    const int64_t hidden = args.call.route.hidden;
    const int is_bf16 = is_plain || args.out_is_bf16;
    char *row = args.out + token * hidden * (is_bf16 ? 2 : 4);
    constexpr int step = is_plain ? 2 : 1;
#pragma unroll
    for (int i = 0; i < count; i += step) {
        float numbers[step];
#pragma unroll
        for (int j = 0; j < step; j++) {
            numbers[j] = sum[i + j];
        }
        if (column + i < hidden) {
            store_numbers<step>(row, column + i, is_bf16, numbers);
        }
    }
}

/* All threads, before a barrier: the result of a token. */
template <int columns, bool is_plain>
__device__ __forceinline__ void sum_tagged(const cuda_slots_combine_args_t &args,
                                           slots_combine_shared &shared, int64_t token)
{
    const int32_t piece_count = partial_pieces_count<columns>(args);
#pragma unroll 1
    for (int32_t index = (int32_t)threadIdx.x; index < piece_count; index += (int32_t)blockDim.x) {
        float sum[tagged_words * columns] = {};
        if (!sum_piece<columns>(args, shared, index, sum)) {
            return;
        }
        store_columns<tagged_words * columns, is_plain>(
            args, token, (int64_t)index * tagged_words * columns, sum);
    }
}

/* The same of a result that is not plain. */
__device__ __noinline__ void sum_any_tagged(const cuda_slots_combine_args_t &args,
                                            slots_combine_shared &shared, int64_t token)
{
    if (args.wire_is_bf16) {
        sum_tagged<2, false>(args, shared, token);
    } else {
        sum_tagged<1, false>(args, shared, token);
    }
}

} // namespace moxie

#endif
