/* SPDX-License-Identifier: Apache-2.0 */
/* Element types by number. */
#include "core/dtype.h"

size_t moxie_dtype_bytes(moxie_dtype_t dtype)
{
    switch (dtype) {
    case MOXIE_DTYPE_BF16:
        return 2;
    case MOXIE_DTYPE_FP32:
        return 4;
    case MOXIE_DTYPE_FP8_E4M3:
        return 1;
    }
    return 0;
}

const char *moxie_dtype_name(moxie_dtype_t dtype)
{
    switch (dtype) {
    case MOXIE_DTYPE_BF16:
        return "bf16";
    case MOXIE_DTYPE_FP32:
        return "fp32";
    case MOXIE_DTYPE_FP8_E4M3:
        return "fp8";
    }
    return "unknown";
}

float moxie_bf16_to_float(uint16_t bits)
{
    return bf16_to_float(bits);
}

uint16_t moxie_bf16_from_float(float value)
{
    return bf16_from_float(value);
}

float moxie_fp8_to_float(uint8_t bits)
{
    return fp8_to_float(bits);
}

uint8_t moxie_fp8_from_float(float value)
{
    return fp8_from_float(value);
}

int64_t moxie_scale_words(moxie_scale_type_t type, int64_t hidden)
{
    const int64_t groups = (hidden + MOXIE_SCALE_COLUMNS - 1) / MOXIE_SCALE_COLUMNS;
    switch (type) {
    case MOXIE_SCALE_FP32:
    case MOXIE_SCALE_FP32_POW2:
        return groups;
    case MOXIE_SCALE_UE8M0:
        return (groups + 3) / 4;
    }
    return 0;
}
