/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scales of fp8 rows in a dispatch: where they travel, and how they come to their places.
 *
 * In rank_major, row-major, a sender writes them straight into the receiver's recv_scales. Else
 * they travel row-major into the receiver's staging memory, and it writes them to their places: in
 * rank_major, column-major, all at the end, and in expert_major when their token has arrived, for
 * each of its rows.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SCALES_CUH
#define MOXIE_EXCHANGE_CUDA_SCALES_CUH

#include "exchange/cuda/exchange.cuh"
#include "exchange/cuda/quantise.cuh"

namespace moxie
{

/* The scales of a row, in registers: word i in lane i % 32. Of longer rows (more than 8192 columns
 * with fp32 scales) only the first words. */
struct scale_words {
    static constexpr int held = 2;
    uint32_t words[held];

    __device__ __forceinline__ void load(const uint32_t *row, int32_t count)
    {
#pragma unroll
        for (int i = 0; i < held; i++) {
            words[i] = lane_index() + 32 * i < count ? __ldcg(row + lane_index() + 32 * i) : 0;
        }
    }

    /* Writes them, and those that are not held from `row`, to every place that a lane of `mask` has
     * in `target`, `step` words from one to the next. */
    __device__ __forceinline__ void store(const uint32_t *row, int32_t count, uint32_t mask,
                                          uint32_t *target, int64_t step) const
    {
        for (uint32_t left = mask; left != 0; left &= left - 1) {
            uint32_t *to = reinterpret_cast<uint32_t *>(__shfl_sync(
                all_lanes, reinterpret_cast<unsigned long long>(target), __ffs((int)left) - 1));
#pragma unroll
            for (int i = 0; i < held; i++) {
                if (lane_index() + 32 * i < count) {
                    to[(lane_index() + 32 * i) * step] = words[i];
                }
            }
#pragma unroll 1
            for (int32_t word = lane_index() + 32 * held; word < count; word += 32) {
                to[word * step] = __ldcg(row + word);
            }
        }
    }
};

/* Where rank `from` writes scales at rank `at`: in rank_major a row of words a received row, in
 * expert_major one a token of `from`. */
__device__ __forceinline__ uint32_t *scales_at(const cuda_dispatch_args_t &args,
                                               const operation &op, int32_t at, int32_t from)
{
    const cuda_channel_t &channel = args.channel;
    if (args.route.layout == 1 && !args.has_column_scales) {
        const uint32_t window = op.fields[at][CUDA_OFFER_SCALES_WINDOW] % CUDA_WINDOW_COUNT_MAX;
        return reinterpret_cast<uint32_t *>(channel.windows[window * channel.rank_count + at].base +
                                            wide_field(op, at, CUDA_OFFER_SCALES_OFFSET_LOW));
    }
    const int64_t first = args.route.layout == 1 ? 0 : from * args.route.token_count_max;
    return reinterpret_cast<uint32_t *>(channel.parts[at] + args.route.staging_offset) +
           first * args.scale_words;
}

/* The first word of a row in this rank's recv_scales; the others follow in steps of scale_step().
 */
__device__ __forceinline__ uint32_t *scales_of_row(const cuda_dispatch_args_t &args, int64_t row)
{
    return args.recv_scales + (args.has_column_scales ? row : row * args.scale_words);
}

__device__ __forceinline__ int64_t scale_step(const cuda_dispatch_args_t &args)
{
    return args.has_column_scales ? args.row_capacity : 1;
}

/* A row's scales are all bits zero. */
__device__ __forceinline__ void zero_scales(const cuda_dispatch_args_t &args, int64_t row)
{
    for (int32_t word = lane_index(); word < args.scale_words; word += 32) {
        scales_of_row(args, row)[word * scale_step(args)] = 0;
    }
}

/* All lanes: what quantise_part() left of `columns` columns goes to every place that a lane of
 * `mask` has in `target`: words, or single bytes and zeroes up to the end of the word. */
__device__ __forceinline__ void store_part_scales(moxie_scale_type_t type, int32_t columns,
                                                  uint32_t scales, uint32_t mask, char *target)
{
    const int32_t group = group_of_lane();
    const int32_t count = (columns + MOXIE_SCALE_COLUMNS - 1) / MOXIE_SCALE_COLUMNS;
    for (uint32_t left = mask; left != 0; left &= left - 1) {
        char *to = reinterpret_cast<char *>(__shfl_sync(
            all_lanes, reinterpret_cast<unsigned long long>(target), __ffs((int)left) - 1));
        if (type != MOXIE_SCALE_UE8M0) {
            if (group < count) {
                reinterpret_cast<uint32_t *>(to)[group] = scales;
            }
        } else if (group < (count + 3) / 4 * 4) {
            to[group] = (char)(scales >> 23);
        }
    }
}

/* Words of a row that a lane turns at a time. */
constexpr int turn_words = 16;

/* All threads of all blocks, when all has arrived: the words of received rows from row-major to
 * column-major, a row a lane. word_t: one word, or four where rows are multiples of four. */
template <typename word_t> __device__ inline void turn_scales(const cuda_dispatch_args_t &args)
{
    constexpr int word_count = sizeof(word_t) / sizeof(uint32_t);
    constexpr int load_count = turn_words / word_count;
    const uint32_t *staged = reinterpret_cast<const uint32_t *>(
        args.channel.parts[args.channel.rank] + args.route.staging_offset);
    const int64_t row_count = args.route.needs[args.channel.rank];
    const int64_t tile_count = (row_count + 31) / 32;
    const int64_t unit_count = tile_count * ((args.scale_words + turn_words - 1) / turn_words);
    const int64_t warp = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    for (int64_t unit = warp; unit < unit_count; unit += gridDim.x * (blockDim.x / 32)) {
        const int64_t row = unit % tile_count * 32 + lane_index();
        const int32_t first = (int32_t)(unit / tile_count) * turn_words;
        union {
            word_t loads[load_count];
            uint32_t words[turn_words];
        } turned;
#pragma unroll
        for (int i = 0; i < load_count; i++) {
            if (row < row_count && first + i * word_count < args.scale_words) {
                turned.loads[i] = *reinterpret_cast<const word_t *>(
                    staged + row * args.scale_words + first + i * word_count);
            }
        }
#pragma unroll
        for (int i = 0; i < turn_words; i++) {
            if (row < row_count && first + i < args.scale_words) {
                args.recv_scales[(first + i) * args.row_capacity + row] = turned.words[i];
            }
        }
    }
}

} // namespace moxie

#endif
