/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows: copied to several places at once, and read and written as fp32 numbers. A warp moves a row;
 * where all addresses allow it in pieces of 16 bytes, else element by element.
 */
#ifndef MOXIE_EXCHANGE_CUDA_ROWS_CUH
#define MOXIE_EXCHANGE_CUDA_ROWS_CUH

#include <stdint.h>

namespace moxie
{

constexpr uint32_t all_lanes = 0xFFFFFFFFu;

/* Pieces of a row that a lane has in flight. */
constexpr int copy_depth = 8;

/* Numbers that a lane handles at a time: 16 bytes of bf16. */
constexpr int wide_count = 8;

__device__ __forceinline__ int32_t lane_index()
{
    return (int32_t)(threadIdx.x % 32);
}

/* Copies a row of `piece_count` pieces to the address that each lane of `mask` holds. */
template <typename piece_t>
__device__ __forceinline__ void copy_pieces(const char *source, int64_t piece_count, uint32_t mask,
                                            char *destination)
{
    const piece_t *from = reinterpret_cast<const piece_t *>(source);
    for (int64_t base = lane_index(); base - lane_index() < piece_count; base += 32 * copy_depth) {
        piece_t pieces[copy_depth];
#pragma unroll
        for (int i = 0; i < copy_depth; i++) {
            if (base + 32 * i < piece_count) {
                pieces[i] = __ldcs(from + base + 32 * i);
            }
        }
        for (uint32_t left = mask; left != 0; left &= left - 1) {
            piece_t *to = reinterpret_cast<piece_t *>(
                __shfl_sync(all_lanes, reinterpret_cast<unsigned long long>(destination),
                            __ffs((int)left) - 1));
#pragma unroll
            for (int i = 0; i < copy_depth; i++) {
                if (base + 32 * i < piece_count) {
                    to[base + 32 * i] = pieces[i];
                }
            }
        }
    }
}

/* The same for a row of `bytes` bytes, whose elements are no smaller than `element_t`; `addresses`
 * is the OR of all addresses and of `bytes`. */
template <typename element_t = uint16_t>
__device__ __forceinline__ void copy_row(const char *source, int64_t bytes, uint64_t addresses,
                                         uint32_t mask, char *destination)
{
    if (addresses % 16 == 0) {
        copy_pieces<uint4>(source, bytes / 16, mask, destination);
    } else if (addresses % 4 == 0) {
        copy_pieces<uint32_t>(source, bytes / 4, mask, destination);
    } else {
        copy_pieces<element_t>(source, bytes / (int64_t)sizeof(element_t), mask, destination);
    }
}

/* All lanes: asks for a row that will be read soon. */
__device__ __forceinline__ void prefetch_row(const char *row, int64_t bytes)
{
    constexpr int32_t line_bytes = 128;
    for (int64_t offset = lane_index() * line_bytes; offset < bytes; offset += 32 * line_bytes) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(row + offset));
    }
}

/* ORs a value over the lanes of a warp. */
__device__ __forceinline__ uint64_t or_over_lanes(uint64_t value)
{
    const uint32_t low = __reduce_or_sync(all_lanes, (uint32_t)value);
    const uint32_t high = __reduce_or_sync(all_lanes, (uint32_t)(value >> 32));
    return (uint64_t)high << 32 | low;
}

template <typename element_t = uint16_t>
__device__ __forceinline__ void zero_row(char *row, int64_t bytes)
{
    if ((reinterpret_cast<uint64_t>(row) | (uint64_t)bytes) % 16 == 0) {
        for (int64_t i = lane_index(); i < bytes / 16; i += 32) {
            reinterpret_cast<uint4 *>(row)[i] = make_uint4(0, 0, 0, 0);
        }
        return;
    }
    for (int64_t i = lane_index(); i < bytes / (int64_t)sizeof(element_t); i += 32) {
        reinterpret_cast<element_t *>(row)[i] = 0;
    }
}

__device__ __forceinline__ float bf16_to_float(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

/* Two numbers rounded to nearest even, subnormals kept, NaN to 0x7FFF; `low` in the low half. */
__device__ __forceinline__ uint32_t bf16_pair(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ float canonical(float value)
{
    return value == value ? value : __uint_as_float(0x7FFFFFFFu);
}

/* Reads `count` numbers of a row from a column on; `count` is 1, 2 or wide_count, of which the row
 * must be a multiple, and lie at one. */
template <int count>
__device__ __forceinline__ void load_numbers(const char *row, int64_t column, int is_bf16,
                                             float (&out)[count])
{
    if (is_bf16) {
        const uint16_t *from = reinterpret_cast<const uint16_t *>(row) + column;
        if constexpr (count == wide_count) {
            const uint4 pairs = *reinterpret_cast<const uint4 *>(from);
            const uint32_t words[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                out[2 * i] = bf16_to_float(words[i] & 0xFFFFu);
                out[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
            }
        } else if constexpr (count == 2) {
            const uint32_t pair = *reinterpret_cast<const uint32_t *>(from);
            out[0] = bf16_to_float(pair & 0xFFFFu);
            out[1] = __uint_as_float(pair & 0xFFFF0000u);
        } else {
            out[0] = bf16_to_float(from[0]);
        }
        return;
    }
    const float *from = reinterpret_cast<const float *>(row) + column;
    if constexpr (count == wide_count) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float4 four = reinterpret_cast<const float4 *>(from)[i];
            out[4 * i] = four.x;
            out[4 * i + 1] = four.y;
            out[4 * i + 2] = four.z;
            out[4 * i + 3] = four.w;
        }
    } else if constexpr (count == 2) {
        const float2 pair = *reinterpret_cast<const float2 *>(from);
        out[0] = pair.x;
        out[1] = pair.y;
    } else {
        out[0] = from[0];
    }
}

/* Numbers as they lie in memory, so that many can be on their way: a quarter or half of a register
 * each, and not yet a whole one. */
template <int count, bool is_bf16> struct packed_numbers;

template <> struct packed_numbers<wide_count, true> {
    uint4 bits;

    __device__ __forceinline__ void load(const char *row, int64_t column)
    {
        bits = *reinterpret_cast<const uint4 *>(row + 2 * column);
    }
    __device__ __forceinline__ void unpack(float (&out)[wide_count]) const
    {
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[2 * i] = __uint_as_float(words[i] << 16);
            out[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
        }
    }
};

template <> struct packed_numbers<wide_count, false> {
    float4 low, high;

    __device__ __forceinline__ void load(const char *row, int64_t column)
    {
        low = reinterpret_cast<const float4 *>(row + 4 * column)[0];
        high = reinterpret_cast<const float4 *>(row + 4 * column)[1];
    }
    __device__ __forceinline__ void unpack(float (&out)[wide_count]) const
    {
        out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
        out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
    }
};

template <> struct packed_numbers<1, true> {
    uint16_t bits;

    __device__ __forceinline__ void load(const char *row, int64_t column)
    {
        bits = reinterpret_cast<const uint16_t *>(row)[column];
    }
    __device__ __forceinline__ void unpack(float (&out)[1]) const
    {
        out[0] = bf16_to_float(bits);
    }
};

template <> struct packed_numbers<1, false> {
    float number;

    __device__ __forceinline__ void load(const char *row, int64_t column)
    {
        number = reinterpret_cast<const float *>(row)[column];
    }
    __device__ __forceinline__ void unpack(float (&out)[1]) const
    {
        out[0] = number;
    }
};

/* sums += weight · numbers. */
template <int count, bool is_bf16>
__device__ __forceinline__ void add_weighted(const packed_numbers<count, is_bf16> &packed,
                                             float weight, float (&sums)[count])
{
    float numbers[count];
    packed.unpack(numbers);
#pragma unroll
    for (int i = 0; i < count; i++) {
        sums[i] = fmaf(weight, numbers[i], sums[i]);
    }
}

/* Rounds and writes them. */
template <int count>
__device__ __forceinline__ void store_numbers(char *row, int64_t column, int is_bf16,
                                              const float (&numbers)[count])
{
    if (is_bf16) {
        uint16_t *to = reinterpret_cast<uint16_t *>(row) + column;
        if constexpr (count == wide_count) {
            *reinterpret_cast<uint4 *>(to) =
                make_uint4(bf16_pair(numbers[0], numbers[1]), bf16_pair(numbers[2], numbers[3]),
                           bf16_pair(numbers[4], numbers[5]), bf16_pair(numbers[6], numbers[7]));
        } else if constexpr (count == 2) {
            *reinterpret_cast<uint32_t *>(to) = bf16_pair(numbers[0], numbers[1]);
        } else {
            to[0] = (uint16_t)bf16_pair(numbers[0], 0.0f);
        }
        return;
    }
    float *to = reinterpret_cast<float *>(row) + column;
    if constexpr (count == wide_count) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            reinterpret_cast<float4 *>(to)[i] =
                make_float4(canonical(numbers[4 * i]), canonical(numbers[4 * i + 1]),
                            canonical(numbers[4 * i + 2]), canonical(numbers[4 * i + 3]));
        }
    } else if constexpr (count == 2) {
        *reinterpret_cast<float2 *>(to) = make_float2(canonical(numbers[0]), canonical(numbers[1]));
    } else {
        to[0] = canonical(numbers[0]);
    }
}

} // namespace moxie

#endif
