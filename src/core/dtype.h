/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounding, inline for the kernels. Everything works on bits, so that no compiler flag and no mode
 * of the floating-point unit can change it.
 */
#ifndef MOXIE_CORE_DTYPE_H
#define MOXIE_CORE_DTYPE_H

#include "moxie/dtype.h"

#include <string.h>

#define BF16_NAN 0x7FFFu
#define FP32_NAN 0x7FFFFFFFu
#define FP8_NAN  0x7Fu
#define FP8_MAX  0x7Eu /* 448 */

static inline uint32_t fp32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float fp32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline float bf16_to_float(uint16_t bits)
{
    return fp32_from_bits((uint32_t)bits << 16);
}

/* To nearest, ties to even: adds just under half of the dropped part, and one more when odd. */
static inline uint16_t bf16_from_float(float value)
{
    const uint32_t bits = fp32_bits(value);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return (uint16_t)(is_nan ? BF16_NAN : rounded);
}

/* The value itself, every NaN made the canonical one. */
static inline float fp32_canonical(float value)
{
    const uint32_t bits = fp32_bits(value);
    return fp32_from_bits((bits & 0x7FFFFFFFu) > 0x7F800000u ? FP32_NAN : bits);
}

/* To nearest, ties to even, saturating. Of E4M3's 8 bits the exponent's bias is 7, fp32's is 127.
 */
static inline uint8_t fp8_from_float(float value)
{
    const uint32_t bits = fp32_bits(value);
    const uint32_t sign = (bits >> 24) & 0x80u;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    const uint32_t exponent = magnitude >> 23;
    uint32_t rounded;
    if (magnitude > 0x7F800000u) {
        return FP8_NAN;
    }
    if (exponent >= 121) { /* from 2^-6 on: normal */
        rounded = ((magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
    } else if (exponent >= 116) { /* multiples of 2^-9 */
        const uint32_t significand = (magnitude & 0x7FFFFFu) | 0x800000u;
        const uint32_t shift = 141 - exponent;
        rounded = (significand + (1u << (shift - 1)) - 1 + ((significand >> shift) & 1u)) >> shift;
    } else {
        rounded = 0;
    }
    return (uint8_t)(sign | (rounded > FP8_MAX ? FP8_MAX : rounded));
}

static inline float fp8_to_float(uint8_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x80u) << 24;
    const uint32_t magnitude = bits & 0x7Fu;
    if (magnitude == FP8_NAN) {
        return fp32_from_bits(FP32_NAN);
    }
    if (magnitude < 8) { /* subnormal: a multiple of 2^-9 */
        return fp32_from_bits(sign | fp32_bits((float)magnitude * 0.001953125f));
    }
    return fp32_from_bits(sign | ((magnitude << 20) + (120u << 23)));
}

/* 1 when rows of this type can be summed. */
static inline int dtype_is_summable(moxie_dtype_t dtype)
{
    return dtype == MOXIE_DTYPE_BF16 || dtype == MOXIE_DTYPE_FP32;
}

#endif
