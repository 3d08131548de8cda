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

/* 1 when rows of this type can be summed. */
static inline int dtype_is_summable(moxie_dtype_t dtype)
{
    return dtype == MOXIE_DTYPE_BF16 || dtype == MOXIE_DTYPE_FP32;
}

#endif
