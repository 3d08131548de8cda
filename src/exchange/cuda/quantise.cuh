/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of bf16 to fp8 (E4M3) with a scale for each group of columns, by a warp and in registers:
 * the bits that docs/semantics.md defines.
 */
#ifndef MOXIE_EXCHANGE_CUDA_QUANTISE_CUH
#define MOXIE_EXCHANGE_CUDA_QUANTISE_CUH

#include "exchange/cuda/rows.cuh"
#include "moxie/dtype.h"

namespace moxie
{

/* A group's scale, and what its numbers are multiplied with. */
struct group_scale {
    float scale;
    float multiplier;
};

/* Of a group whose largest magnitude is this, at least 1e-4. */
__device__ __forceinline__ group_scale scale_of(float amax, moxie_scale_type_t type)
{
    if (type == MOXIE_SCALE_FP32) {
        return {__fdiv_rn(amax, 448.0f), __fdiv_rn(448.0f, amax)};
    }
    /* The exponent of amax / 448 = m / 1.75 * 2^(k - 8), rounded up; 0x600000 is m = 1.75. */
    const uint32_t bits = __float_as_uint(amax);
    const uint32_t biased = (bits >> 23) - 8 + ((bits & 0x7FFFFFu) > 0x600000u ? 1 : 0);
    return {__uint_as_float(biased << 23), __uint_as_float((254 - biased) << 23)};
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890

/* Two numbers rounded to nearest even, saturating; a NaN, which a multiplication makes positive, is
 * 0x7F. `low` in the low byte. */
__device__ __forceinline__ uint32_t fp8_pair(float low, float high)
{
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}

#else

/* As fp8_from_float() of core/dtype.h. Adding 2^14 rounds a small magnitude to a multiple of 2^-9.
 */
__device__ __forceinline__ uint32_t fp8_from_float(float value)
{
    const uint32_t bits = __float_as_uint(value);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    const uint32_t normal = ((magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
    const uint32_t small =
        __float_as_uint(__fadd_rn(__uint_as_float(magnitude), 16384.0f)) - (141u << 23);
    const uint32_t rounded = min(magnitude < 121u << 23 ? small : normal, 0x7Eu);
    return magnitude > 0x7F800000u ? 0x7Fu : rounded | ((bits >> 24) & 0x80u);
}

__device__ __forceinline__ uint32_t fp8_pair(float low, float high)
{
    return fp8_from_float(low) | fp8_from_float(high) << 8;
}

#endif

/*
 * All lanes: quantises one group of MOXIE_SCALE_COLUMNS columns for every 64 / pair_count lanes,
 * neighbours, which hold 2 · pair_count of its columns each: any of them, the first in the low
 * half of the first word; +0 where the row has ended. `fp8` gets them as bytes in the same order.
 * Returns the bits of the group's scale as a float; a UE8M0 scale is these bits >> 23.
 */
template <int pair_count>
__device__ __forceinline__ uint32_t quantise_group(const uint32_t (&bf16)[pair_count],
                                                   moxie_scale_type_t type,
                                                   uint32_t (&fp8)[pair_count / 2])
{
    constexpr int lane_count = MOXIE_SCALE_COLUMNS / (2 * pair_count);
    static_assert(lane_count <= 32 && 32 % lane_count == 0 && pair_count % 2 == 0,
                  "groups that a warp holds as a whole");
    float numbers[2 * pair_count];
    float amax = 1e-4f;
#pragma unroll
    for (int i = 0; i < pair_count; i++) {
        numbers[2 * i] = __uint_as_float(bf16[i] << 16);
        numbers[2 * i + 1] = __uint_as_float(bf16[i] & 0xFFFF0000u);
        amax = fmaxf(amax, fmaxf(fabsf(numbers[2 * i]), fabsf(numbers[2 * i + 1])));
    }
#pragma unroll
    for (int step = lane_count / 2; step >= 1; step /= 2) {
        amax = fmaxf(amax, __shfl_xor_sync(all_lanes, amax, step));
    }
    const group_scale scale = scale_of(amax, type);
#pragma unroll
    for (int i = 0; i < 2 * pair_count; i++) {
        numbers[i] = __fmul_rn(numbers[i], scale.multiplier);
    }
#pragma unroll
    for (int i = 0; i < pair_count / 2; i++) {
        fp8[i] = fp8_pair(numbers[4 * i], numbers[4 * i + 1]) |
                 fp8_pair(numbers[4 * i + 2], numbers[4 * i + 3]) << 16;
    }
    return __float_as_uint(scale.scale);
}

/* Groups that a warp quantises at a time, and columns; and the groups of the longest part of a row.
 */
constexpr int32_t quantise_groups = 4;
constexpr int32_t quantise_columns = quantise_groups * MOXIE_SCALE_COLUMNS;
constexpr int32_t part_groups = 16;
constexpr int32_t part_columns = part_groups * MOXIE_SCALE_COLUMNS;

/* The group of a part whose scale quantise_part() leaves in this lane; beyond the last: none. */
__device__ __forceinline__ int32_t group_of_lane()
{
    const int32_t group = quantise_groups * (lane_index() % 8) + lane_index() / 8;
    return lane_index() % 8 < part_groups / quantise_groups ? group : part_groups;
}

/*
 * All lanes: quantises part_columns columns of a row at most. load(column) gives the 8 numbers from
 * a column on, store(column, fp8) takes them; both are called by all lanes together, each with its
 * own column, for columns behind the end, too. Stores of 512 columns follow their loads and those
 * of all columns before, so that fp8 may replace bf16 in place. Returns the bits of the scale of
 * group_of_lane(), 0 behind the last group.
 */
template <typename load_t, typename store_t>
__device__ __forceinline__ uint32_t quantise_part(int32_t columns, moxie_scale_type_t type,
                                                  const load_t &load, const store_t &store)
{
    constexpr int depth = 2; /* whose arithmetic hides each other's latency */
    const int32_t lane_column =
        MOXIE_SCALE_COLUMNS * (lane_index() / 8) + wide_count * (lane_index() % 8);
    uint32_t scales = 0;
#pragma unroll 1
    for (int32_t round = 0; quantise_columns * round < columns; round += depth) {
        uint32_t bf16[depth][8];
        uint32_t fp8[depth][4];
#pragma unroll
        for (int i = 0; i < depth; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint4 eight = load(quantise_columns * (round + i) + lane_column + 64 * half);
                bf16[i][4 * half] = eight.x;
                bf16[i][4 * half + 1] = eight.y;
                bf16[i][4 * half + 2] = eight.z;
                bf16[i][4 * half + 3] = eight.w;
            }
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < depth; i++) {
            const uint32_t bits = quantise_group<8>(bf16[i], type, fp8[i]);
            const int32_t group_column =
                quantise_columns * (round + i) + MOXIE_SCALE_COLUMNS * (lane_index() / 8);
            if (lane_index() % 8 == round + i && group_column < columns) {
                scales = bits;
            }
        }
#pragma unroll
        for (int i = 0; i < depth; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                store(quantise_columns * (round + i) + lane_column + 64 * half,
                      make_uint2(fp8[i][2 * half], fp8[i][2 * half + 1]));
            }
        }
    }
    return scales;
}

} // namespace moxie

#endif
