/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Element types of rows, and the two conversions that fix Moxie's rounding.
 */
#ifndef MOXIE_DTYPE_H
#define MOXIE_DTYPE_H

#include "moxie/export.h"

#include <stddef.h>
#include <stdint.h>

MOXIE_BEGIN_DECLS

/** Element type of a row. */
typedef enum moxie_dtype {
    MOXIE_DTYPE_BF16 = 1,     /**< bfloat16, 2 bytes */
    MOXIE_DTYPE_FP32 = 2,     /**< IEEE 754 binary32, 4 bytes */
    MOXIE_DTYPE_FP8_E4M3 = 3, /**< OCP E4M3, 1 byte; rows of dispatch, with scales beside them */
} moxie_dtype_t;

/** Integer type of expert ids in a routing. */
typedef enum moxie_index_type {
    MOXIE_INDEX_INT32 = 1, /**< int32_t */
    MOXIE_INDEX_INT64 = 2, /**< int64_t */
} moxie_index_type_t;

/** Bytes of one element; 0 for a value that is no dtype. */
MOXIE_API size_t moxie_dtype_bytes(moxie_dtype_t dtype);

/** Name of a dtype, "bf16"; "unknown" for a value that is no dtype. Static. */
MOXIE_API const char *moxie_dtype_name(moxie_dtype_t dtype);

/** The float with the value of a bfloat16. Exact, subnormals kept. */
MOXIE_API float moxie_bf16_to_float(uint16_t bits);

/** Rounds to the nearest bfloat16, ties to even, subnormals kept; every NaN becomes 0x7FFF. */
MOXIE_API uint16_t moxie_bf16_from_float(float value);

/** The float with the value of an E4M3 number. Exact; 0x7F and 0xFF are NaN. */
MOXIE_API float moxie_fp8_to_float(uint8_t bits);

/** Rounds to the nearest E4M3 number, ties to even, subnormals kept; beyond 448 to 448 with the
 *  value's sign, infinities too; every NaN becomes 0x7F. */
MOXIE_API uint8_t moxie_fp8_from_float(float value);

/** Columns of a row that share a scale; the last group of a row may have fewer. */
#define MOXIE_SCALE_COLUMNS 128

/**
 * How FP8 rows are scaled: an element's value is its E4M3 number times its group's scale. With amax
 * the largest |x| of the group, NaNs left aside, and at least 1e-4:
 */
typedef enum moxie_scale_type {
    /** scale = amax / 448 and q = e4m3(x * (448 / amax)), each operation rounded once in fp32 */
    MOXIE_SCALE_FP32 = 1,
    /** scale = 2^e with e = ceil(log2(amax / 448)), exactly, and q = e4m3(x * 2^-e): where
     *  amax = m * 2^k and 1 <= m < 2, e is k - 8 for m <= 1.75, else k - 7. Infinity is 2^128. */
    MOXIE_SCALE_FP32_POW2 = 2,
    /** the same scale as one byte: e + 127 */
    MOXIE_SCALE_UE8M0 = 3,
} moxie_scale_type_t;

/**
 * How the scales of rows are laid out: in words of 32 bits, moxie_scale_words() of them a row. A
 * word is an fp32 scale, or the UE8M0 scales of four groups, the first in the lowest byte; bytes
 * behind the last group are 0.
 */
typedef enum moxie_scale_layout {
    MOXIE_SCALES_ROW_MAJOR = 1,    /**< [rows][words] */
    MOXIE_SCALES_COLUMN_MAJOR = 2, /**< [words][rows] */
} moxie_scale_layout_t;

/** 32-bit words that the scales of a row of `hidden` elements take; 0 for what is no scale type. */
MOXIE_API int64_t moxie_scale_words(moxie_scale_type_t type, int64_t hidden);

MOXIE_END_DECLS

#endif
