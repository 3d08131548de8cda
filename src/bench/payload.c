/* SPDX-License-Identifier: Apache-2.0 */
/* Random rows. One mixed counter gives four bf16 elements, so a row is made faster than memory. */
#include "bench/payload.h"

#include "bench/random.h"

#include <string.h>

/* Of 16 random bits a bf16 keeps the sign, 3 exponent bits and 7 mantissa bits; adding 123 to the
 * exponent makes the magnitude 2^-4 … 2^4. The sum cannot carry into the sign. */
#define BF16_KEEP UINT64_C(0x83FF83FF83FF83FF)
#define BF16_BIAS UINT64_C(0x3D803D803D803D80)
/* Without the lowest bit of its exponent no fp8 is a NaN. */
#define FP8_KEEP UINT64_C(0xF7F7F7F7F7F7F7F7)
/* As of bf16, with the 23 mantissa bits of fp32. */
#define FP32_KEEP UINT32_C(0x83FFFFFF)
#define FP32_BIAS UINT32_C(0x3D800000)

static uint64_t row_key(const payload_t *payload, int32_t rank, int64_t row)
{
    uint64_t key = random_key(payload->seed, payload->purpose, payload->input_set);
    return random_key(key, (uint64_t)rank, (uint64_t)row);
}

void payload_row_bf16(const payload_t *payload, int32_t rank, int64_t row, int64_t column,
                      int64_t column_count, uint16_t *out)
{
    uint64_t state =
        row_key(payload, rank, row) + (uint64_t)(column / PAYLOAD_COLUMN_UNIT) * RANDOM_STEP;
    int64_t whole = column_count - column_count % PAYLOAD_COLUMN_UNIT;
    for (int64_t i = 0; i < whole; i += PAYLOAD_COLUMN_UNIT) {
        uint64_t elements = (random_next(&state) & BF16_KEEP) + BF16_BIAS;
        memcpy(out + i, &elements, sizeof(elements));
    }
    if (whole < column_count) {
        uint64_t elements = (random_next(&state) & BF16_KEEP) + BF16_BIAS;
        memcpy(out + whole, &elements, (size_t)(column_count - whole) * sizeof(*out));
    }
}

void payload_row_fp8(const payload_t *payload, int32_t rank, int64_t row, int64_t column,
                     int64_t column_count, uint8_t *out)
{
    uint64_t state =
        row_key(payload, rank, row) + (uint64_t)(column / PAYLOAD_FP8_COLUMN_UNIT) * RANDOM_STEP;
    for (int64_t i = 0; i < column_count; i += PAYLOAD_FP8_COLUMN_UNIT) {
        uint64_t elements = random_next(&state) & FP8_KEEP;
        int64_t left = column_count - i;
        memcpy(out + i, &elements,
               (size_t)(left < PAYLOAD_FP8_COLUMN_UNIT ? left : PAYLOAD_FP8_COLUMN_UNIT));
    }
}

void payload_row_fp32(const payload_t *payload, int32_t rank, int64_t row, int64_t column_count,
                      float *out)
{
    uint64_t state = row_key(payload, rank, row);
    for (int64_t i = 0; i < column_count; i++) {
        uint32_t element = ((uint32_t)random_next(&state) & FP32_KEEP) + FP32_BIAS;
        memcpy(out + i, &element, sizeof(element));
    }
}
