/* SPDX-License-Identifier: Apache-2.0 */
/* Random rows that anyone can make again: every element is a pure function of (seed, purpose, input
 * set, rank, row, column), so that no process has to keep another's inputs. */
#ifndef MOXIE_BENCH_PAYLOAD_H
#define MOXIE_BENCH_PAYLOAD_H

#include <stdint.h>

/* Which rows: of what purpose (RANDOM_FOR_…), of which input set, drawn from which seed. */
typedef struct payload {
    uint64_t seed;
    uint64_t purpose;
    uint64_t input_set;
} payload_t;

/* Columns that one random number gives; a piece of a row starts at a multiple of it. */
enum { PAYLOAD_COLUMN_UNIT = 4 };

/*
 * Writes bf16 elements of a row: any sign, magnitude in [2^-4, 2^4), never 0, NaN or infinite.
 *
 * @param column  the first one, a multiple of PAYLOAD_COLUMN_UNIT
 */
void payload_row_bf16(const payload_t *payload, int32_t rank, int64_t row, int64_t column,
                      int64_t column_count, uint16_t *out);

/* Writes fp8 (E4M3) elements of a row: any but NaN. `column` as above, of its own unit. */
enum { PAYLOAD_FP8_COLUMN_UNIT = 8 };
void payload_row_fp8(const payload_t *payload, int32_t rank, int64_t row, int64_t column,
                     int64_t column_count, uint8_t *out);

/* The range of bf16 in fp32, from column 0. */
void payload_row_fp32(const payload_t *payload, int32_t rank, int64_t row, int64_t column_count,
                      float *out);

#endif
