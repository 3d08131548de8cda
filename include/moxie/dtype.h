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
    MOXIE_DTYPE_FP8_E4M3 = 3, /**< OCP E4M3, 1 byte; no backend moves it yet */
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

MOXIE_END_DECLS

#endif
