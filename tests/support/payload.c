/* SPDX-License-Identifier: Apache-2.0 */
/* Payload as a function of its place. */
#include "support/payload.h"

#include <stdlib.h>
#include <string.h>

/* Weyl increment and finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
#define GOLDEN 0x9E3779B97F4A7C15u

static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
    return value ^ (value >> 31);
}

uint64_t payload_hash(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t hash = mix(seed + GOLDEN);
    hash = mix(hash + a * GOLDEN + 1);
    hash = mix(hash + b * GOLDEN + 2);
    return mix(hash + c * GOLDEN + 3);
}

size_t payload_row_bytes(const payload_t *payload)
{
    return (size_t)payload->column_count * moxie_dtype_bytes(payload->dtype);
}

static const uint32_t special_bits[] = {
    0x00000000, 0x80000000,             /* zeros */
    0x00010000, 0x80010000, 0x007F0000, /* subnormals that bf16 has too */
    0x00800000, 0x80800000,             /* the smallest normal ones */
    0x7F7F0000, 0xFF7F0000,             /* the largest of bf16: sums overflow */
    0x7F800000, 0xFF800000,             /* infinities */
    0x7FC00000, 0xFFC10000,             /* quiet NaNs */
    0x7F810000, 0xFF810000,             /* signalling NaNs */
    0x7F800001, 0x00000001, 0x7F7FFFFF, /* of fp32 only */
};
#define SPECIAL_COUNT_BF16 15
#define SPECIAL_COUNT_FP32 18

/* Bits of an fp32 within [2^-4, 2^4), either sign. */
static uint32_t plain_bits(uint64_t hash)
{
    const uint32_t sign = (uint32_t)(hash & 1) << 31;
    const uint32_t exponent = 123u + (uint32_t)((hash >> 1) & 7);
    return sign | exponent << 23 | (uint32_t)(hash >> 41);
}

static uint32_t element_bits(uint64_t hash, bool special, uint32_t special_count)
{
    if (special && ((hash >> 8) & 7) == 0) {
        return special_bits[(hash >> 16) % special_count];
    }
    return plain_bits(hash);
}

void payload_fill(const payload_t *payload, int32_t rank, int64_t row, void *out)
{
    const uint64_t key =
        payload_hash(payload->seed, payload->stream, (uint64_t)rank, (uint64_t)row);
    uint8_t *bytes = out;
    uint16_t *halves = out;
    uint32_t *words = out;
    for (int64_t column = 0; column < payload->column_count; column++) {
        const uint64_t hash = mix(key + (uint64_t)(column + 1) * GOLDEN);
        if (payload->dtype == MOXIE_DTYPE_BF16) {
            halves[column] =
                (uint16_t)(element_bits(hash, payload->special, SPECIAL_COUNT_BF16) >> 16);
        } else if (payload->dtype == MOXIE_DTYPE_FP8_E4M3) {
            bytes[column] = (uint8_t)(hash >> 56); /* any: they are copied */
        } else {
            words[column] = element_bits(hash, payload->special, SPECIAL_COUNT_FP32);
        }
    }
}

void payload_fill_rows(const payload_t *payload, int32_t rank, int64_t row_count, void *out)
{
    for (int64_t row = 0; row < row_count; row++) {
        payload_fill(payload, rank, row, (char *)out + (size_t)row * payload_row_bytes(payload));
    }
}

static const void *read_row(void *ctx, int32_t rank, int64_t row)
{
    payload_reader_t *reader = ctx;
    payload_fill(&reader->payload, rank, row, reader->row);
    return reader->row;
}

void payload_reader_open(payload_reader_t *reader, const payload_t *payload)
{
    reader->payload = *payload;
    reader->row = malloc(payload_row_bytes(payload));
    if (reader->row == NULL) {
        abort();
    }
    reader->reader = (moxie_row_reader_t){read_row, reader, payload->dtype};
}

void payload_reader_close(payload_reader_t *reader)
{
    free(reader->row);
    reader->row = NULL;
}
