/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: fp8 rows and their scales. By arithmetic on values, where the backends work on
 * bits. */
#include "core/error.h"
#include "core/options.h"
#include "core/reference_walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* E4M3: 3 bits behind the point, normal from 2^-6 on, 448 the largest. */
#define E4M3_EXPONENT_MIN (-6)
#define E4M3_MAX          448.0f
#define E4M3_MAX_CODE     0x7E
#define E4M3_NAN_CODE     0x7F

#define AMAX_MIN 1e-4f

static uint8_t nearest_e4m3(float value)
{
    int exponent;
    if (isnan(value)) {
        return E4M3_NAN_CODE;
    }
    float magnitude = fabsf(value);
    uint8_t sign = signbit(value) ? 0x80 : 0;
    if (magnitude >= E4M3_MAX) {
        return sign | E4M3_MAX_CODE;
    }
    (void)frexpf(magnitude, &exponent); /* 0.5 <= fraction < 1 */
    exponent -= 1;
    if (magnitude == 0.0f || exponent < E4M3_EXPONENT_MIN) {
        exponent = E4M3_EXPONENT_MIN;
    }
    int eighths = (int)rintf(ldexpf(magnitude, 3 - exponent)); /* 8 to 16; less when subnormal */
    return (uint8_t)(sign | ((exponent - E4M3_EXPONENT_MIN) * 8 + eighths));
}

/* The exponent of the smallest power of two that is not below amax / 448. */
static int scale_exponent(float amax)
{
    int exponent = 129; /* of infinity, taken for 2^128 */
    float fraction = isinf(amax) ? 0.5f : frexpf(amax, &exponent);
    /* amax / 448 = (2 * fraction / 1.75) * 2^(exponent - 1 - 8) */
    return 2.0f * fraction <= 1.75f ? exponent - 9 : exponent - 8;
}

static void put_scale(moxie_scale_type_t type, int64_t group, float scale, int exponent,
                      uint32_t *words)
{
    if (type != MOXIE_SCALE_UE8M0) {
        memcpy(&words[group], &scale, sizeof(scale));
        return;
    }
    uint32_t byte = (uint32_t)(exponent + 127);
    uint32_t others = group % 4 == 0 ? 0 : words[group / 4];
    words[group / 4] = others | byte << (8 * (group % 4));
}

moxie_status_t moxie_reference_quantise(const uint16_t *x, int64_t hidden, moxie_scale_type_t type,
                                        uint8_t *fp8, uint32_t *words)
{
    if (x == NULL || fp8 == NULL || words == NULL || moxie_scale_words(type, hidden) == 0) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "reference: a row of fp8 needs a row, a scale type and room for both");
    }
    for (int64_t first = 0; first < hidden; first += MOXIE_SCALE_COLUMNS) {
        int64_t end = first + MOXIE_SCALE_COLUMNS < hidden ? first + MOXIE_SCALE_COLUMNS : hidden;
        float amax = AMAX_MIN;
        for (int64_t column = first; column < end; column++) {
            float magnitude = fabsf(moxie_bf16_to_float(x[column]));
            amax = magnitude > amax ? magnitude : amax; /* a NaN is not */
        }
        int exponent = scale_exponent(amax);
        bool is_power = type != MOXIE_SCALE_FP32;
        float scale = is_power ? ldexpf(1.0f, exponent) : amax / E4M3_MAX;
        float factor = is_power ? ldexpf(1.0f, -exponent) : E4M3_MAX / amax;
        put_scale(type, first / MOXIE_SCALE_COLUMNS, scale, exponent, words);
        for (int64_t column = first; column < end; column++) {
            fp8[column] = nearest_e4m3(moxie_bf16_to_float(x[column]) * factor);
        }
    }
    return MOXIE_OK;
}

/* Rows of bf16, read as fp8 and scales. */
typedef struct quantiser {
    const moxie_row_reader_t *x;
    int64_t hidden;
    moxie_scale_type_t type;
    uint8_t *fp8;
    uint32_t *words;
} quantiser_t;

static const void *quantised_row(void *ctx, int32_t rank, int64_t row)
{
    const quantiser_t *quantiser = ctx;
    const void *x = quantiser->x->row(quantiser->x->ctx, rank, row);
    (void)moxie_reference_quantise(x, quantiser->hidden, quantiser->type, quantiser->fp8,
                                   quantiser->words);
    return quantiser->fp8;
}

static const void *quantised_scales(void *ctx, int32_t rank, int64_t row)
{
    const quantiser_t *quantiser = ctx;
    (void)quantised_row(ctx, rank, row);
    return quantiser->words;
}

/* Copies the scales of all rows, column-major, into rows of words, or back. In low latency the
 * columns of each expert's block stand by themselves. */
static void transpose_scales(uint32_t *columns, uint32_t *rows, int64_t row_count,
                             int64_t word_count, int64_t column_rows, bool is_back)
{
    for (int64_t row = 0; row < row_count; row++) {
        for (int64_t word = 0; word < word_count; word++) {
            int64_t block = row / column_rows;
            uint32_t *in_column =
                &columns[(block * word_count + word) * column_rows + row % column_rows];
            uint32_t *in_row = &rows[row * word_count + word];
            *(is_back ? in_column : in_row) = *(is_back ? in_row : in_column);
        }
    }
}

/* Scales travel as their rows do: a dispatch of rows of words. */
static moxie_status_t deliver_scales(const moxie_world_t *world, int32_t rank,
                                     const moxie_row_reader_t *scales,
                                     const moxie_dispatch_in_t *in, const moxie_dispatch_out_t *out)
{
    int64_t word_count = moxie_scale_words(in->scale_type, world->hidden);
    moxie_world_t of_scales = *world;
    moxie_dispatch_out_t rows = MOXIE_DISPATCH_OUT_INIT;
    moxie_row_reader_t reader = {scales->row, scales->ctx, MOXIE_DTYPE_FP32};
    of_scales.hidden = word_count;
    rows.row_capacity = out->row_capacity;
    rows.recv_x = out->recv_scales;
    if (in->scale_layout == MOXIE_SCALES_ROW_MAJOR) {
        return moxie_reference_dispatch(&of_scales, rank, &reader, &rows);
    }
    int64_t row_count = 0;
    moxie_status_t status = moxie_reference_recv_rows(world, rank, &row_count);
    if (status != MOXIE_OK || row_count == 0) {
        return status;
    }
    uint32_t *words = malloc((size_t)(row_count * word_count) * sizeof(*words));
    if (words == NULL) {
        return error_set(MOXIE_ERR_MEMORY, "reference: no memory for the scales");
    }
    int64_t column_rows =
        world->mode == MOXIE_MODE_LOW_LATENCY
            ? moxie_placement_rank_count(world->placement) * world->token_count_max
            : out->row_capacity;
    rows.recv_x = words;
    transpose_scales(out->recv_scales, words, row_count, word_count, column_rows, false);
    status = moxie_reference_dispatch(&of_scales, rank, &reader, &rows);
    if (status == MOXIE_OK) {
        transpose_scales(out->recv_scales, words, row_count, word_count, column_rows, true);
    }
    free(words);
    return status;
}

static moxie_status_t deliver_both(const moxie_world_t *world, int32_t rank,
                                   const moxie_row_reader_t *x, const moxie_row_reader_t *x_scales,
                                   const moxie_dispatch_in_t *in, const moxie_dispatch_out_t *out)
{
    moxie_dispatch_out_t rows = *out;
    rows.recv_scales = NULL;
    moxie_status_t status = moxie_reference_dispatch(world, rank, x, &rows);
    if (status == MOXIE_OK && out->recv_scales != NULL) {
        status = deliver_scales(world, rank, x_scales, in, out);
    }
    return status;
}

/* The rows and scales of bf16 rows, quantised as they are read. */
static moxie_status_t deliver_quantised(const moxie_world_t *world, int32_t rank,
                                        const moxie_row_reader_t *x, const moxie_dispatch_in_t *in,
                                        const moxie_dispatch_out_t *out)
{
    quantiser_t quantiser = {x, world->hidden, in->scale_type, malloc((size_t)world->hidden), NULL};
    quantiser.words =
        calloc((size_t)moxie_scale_words(in->scale_type, world->hidden), sizeof(uint32_t));
    moxie_row_reader_t rows = {quantised_row, &quantiser, MOXIE_DTYPE_FP8_E4M3};
    moxie_row_reader_t scales = {quantised_scales, &quantiser, MOXIE_DTYPE_FP32};
    moxie_status_t status = quantiser.fp8 == NULL || quantiser.words == NULL
                                ? error_set(MOXIE_ERR_MEMORY, "reference: no memory for a row")
                                : deliver_both(world, rank, &rows, &scales, in, out);
    free(quantiser.fp8);
    free(quantiser.words);
    return status;
}

moxie_status_t moxie_reference_dispatch_fp8(const moxie_world_t *callers_world, int32_t rank,
                                            const moxie_row_reader_t *x,
                                            const moxie_row_reader_t *x_scales,
                                            const moxie_dispatch_in_t *callers_in,
                                            const moxie_dispatch_out_t *callers_out)
{
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    moxie_world_t ours = MOXIE_WORLD_INIT;
    const moxie_world_t *world = &ours;
    moxie_status_t status = options_read(&ours, callers_world, sizeof(ours), "reference: world");
    if (status == MOXIE_OK) {
        status = options_read(&in, callers_in, sizeof(in), "reference: dispatch input");
    }
    if (status == MOXIE_OK) {
        status = options_read(&out, callers_out, sizeof(out), "reference: dispatch output");
    }
    if (status != MOXIE_OK) {
        return status;
    }
    if (world->hidden < 1 || moxie_scale_words(in.scale_type, world->hidden) == 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: %d is no type of scales",
                         (int)in.scale_type);
    }
    bool is_fp8 = x != NULL && x->dtype == MOXIE_DTYPE_FP8_E4M3;
    if (x == NULL || x->row == NULL || (!is_fp8 && x->dtype != MOXIE_DTYPE_BF16)) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: no reader for rows of bf16 or fp8");
    }
    if (is_fp8 && (x_scales == NULL || x_scales->row == NULL)) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: no reader for scales of fp8 rows");
    }
    return is_fp8 ? deliver_both(world, rank, x, x_scales, &in, &out)
                  : deliver_quantised(world, rank, x, &in, &out);
}
