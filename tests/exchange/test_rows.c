/* SPDX-License-Identifier: Apache-2.0 */
/* Row kernels of every instruction set this processor has, against loops over single elements. */
#include "support/check.h"
#include "support/payload.h"

#include "exchange/shm/rows.h"
#include "moxie/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 800
#define ROWS_MAX    MOXIE_TOPK_MAX

static const size_t columns_tried[] = {1,  2,   7,   15,  16,  17,  31,  33,  63,  64,         65,
                                       96, 127, 128, 255, 256, 257, 300, 511, 513, COLUMNS_MAX};
#define COLUMNS_TRIED (sizeof(columns_tried) / sizeof(columns_tried[0]))

static const moxie_dtype_t dtypes[] = {MOXIE_DTYPE_BF16, MOXIE_DTYPE_FP32};

/* Memory that begins `shift` elements after a cache line, with poison around it. */
typedef struct piece {
    char *base;
    char *data;
    size_t bytes;
} piece_t;

#define PIECE_BYTES (COLUMNS_MAX * 4 + 256)

static piece_t make_piece(size_t shift, moxie_dtype_t dtype)
{
    piece_t piece = {aligned_alloc(64, (PIECE_BYTES + 63) / 64 * 64), NULL, PIECE_BYTES};
    assert_non_null(piece.base);
    memset(piece.base, 0xA5, piece.bytes);
    piece.data = piece.base + 64 + shift * moxie_dtype_bytes(dtype);
    return piece;
}

static float load(const void *row, size_t column, moxie_dtype_t dtype)
{
    return dtype == MOXIE_DTYPE_BF16 ? moxie_bf16_to_float(((const uint16_t *)row)[column])
                                     : ((const float *)row)[column];
}

static void store(void *row, size_t column, float value, moxie_dtype_t dtype)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (dtype == MOXIE_DTYPE_BF16) {
        ((uint16_t *)row)[column] = moxie_bf16_from_float(value);
    } else {
        ((uint32_t *)row)[column] = isnan(value) ? 0x7FFFFFFFu : bits;
    }
}

static void expect_piece(const rows_kernels_t *kernels, const char *what, const piece_t *got,
                         const piece_t *expected, size_t columns)
{
    for (size_t byte = 0; byte < got->bytes; byte++) {
        if (got->base[byte] != expected->base[byte]) {
            fail_msg("%s %s of %zu columns: byte %td is wrong", kernels->name, what, columns,
                     got->base + byte - got->data);
        }
    }
}

static float odd_weight(uint64_t hash)
{
    static const float weights[] = {1.0f, 0.5f, -0.0f, 0.3f, -2.7f, INFINITY, 1e-41f, 3e38f};
    return weights[hash % 8];
}

static void expect_sum(const rows_kernels_t *kernels, const rows_sum_t *terms,
                       const rows_types_t *types, size_t columns, size_t shift)
{
    piece_t got = make_piece(shift, types->out);
    piece_t expected = make_piece(shift, types->out);
    const rows_sum_t none = {.count = 0};
    kernels->sum(terms, types->is_streamed ? terms : &none, types, got.data, columns);
    rows_fence();
    for (size_t column = 0; column < columns; column++) {
        float total = 0.0f;
        float partial = 0.0f;
        for (int32_t i = 0; i < terms->count; i++) {
            partial = fmaf(terms->weights[i], load(terms->rows[i], column, types->in), partial);
            if (!terms->ends_partial[i]) {
                continue;
            }
            if (types->wire == MOXIE_DTYPE_BF16) {
                partial = moxie_bf16_to_float(moxie_bf16_from_float(partial));
            }
            total += partial;
            partial = 0.0f;
        }
        store(expected.data, column, total, types->out);
    }
    expect_piece(kernels, "sum", &got, &expected, columns);
    free(got.base);
    free(expected.base);
}

/* Sums of 0 to 64 rows at odd places; a plain one has a row a rank and weight 1. */
static void try_sums(const rows_kernels_t *kernels, moxie_dtype_t in, bool special, bool is_plain)
{
    const payload_t payload = {
        .seed = 1, .dtype = in, .column_count = COLUMNS_MAX, .special = special};
    static char rows[ROWS_MAX][COLUMNS_MAX * 4 + 64];
    for (uint64_t i = 0; i < COLUMNS_TRIED * 8; i++) {
        rows_sum_t terms = {.count = i % 13 == 12 ? ROWS_MAX : (int32_t)(i % 13)};
        for (int32_t row = 0; row < terms.count; row++) {
            const uint64_t hash = payload_hash(2, i, (uint64_t)row, 0);
            char *data = rows[row] + moxie_dtype_bytes(in) * (hash % 5);
            payload_fill(&payload, (int32_t)i, row, data);
            terms.rows[row] = data;
            terms.weights[row] = is_plain ? 1.0f : odd_weight(hash >> 8);
            terms.ends_partial[row] = is_plain || row + 1 == terms.count || (hash >> 16) % 3 == 0;
        }
        rows_types_t types = {in, dtypes[i & 1], dtypes[(i >> 1) & 1], is_plain, (i >> 2) & 1};
        if (is_plain && in == MOXIE_DTYPE_FP32) {
            types.wire = MOXIE_DTYPE_FP32;
        }
        expect_sum(kernels, &terms, &types, columns_tried[i / 8], i % 3 == 0 ? 0 : i % 5);
    }
}

static void test_sum(void **state)
{
    const rows_kernels_t *kernels = *state;
    for (int i = 0; i < 8; i++) {
        try_sums(kernels, dtypes[i & 1], (i & 2) != 0, (i & 4) != 0);
    }
}

static void test_scale(void **state)
{
    const rows_kernels_t *kernels = *state;
    for (uint64_t i = 0; i < COLUMNS_TRIED * 16; i++) {
        const moxie_dtype_t dtype = dtypes[i & 1];
        const size_t columns = columns_tried[i / 16];
        const payload_t payload = {
            .seed = 3, .dtype = dtype, .column_count = COLUMNS_MAX, .special = (i & 2) != 0};
        char row[COLUMNS_MAX * 4];
        payload_fill(&payload, 0, (int64_t)i, row);
        const float weight = odd_weight(i >> 1);
        piece_t got = make_piece(i % 5, dtype);
        piece_t expected = make_piece(i % 5, dtype);
        kernels->scale(got.data, row, weight, dtype, columns);
        for (size_t column = 0; column < columns; column++) {
            store(expected.data, column, weight * load(row, column, dtype), dtype);
        }
        expect_piece(kernels, "scale", &got, &expected, columns);
        free(got.base);
        free(expected.base);
    }
}

static float expected_dot(const void *a, const void *b, moxie_dtype_t dtype, size_t columns)
{
    float partial[256] = {0.0f};
    for (size_t column = 0; column < columns; column++) {
        partial[column % 256] =
            fmaf(load(a, column, dtype), load(b, column, dtype), partial[column % 256]);
    }
    for (size_t half = 128; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            partial[i] += partial[i + half];
        }
    }
    float result;
    store(&result, 0, partial[0], MOXIE_DTYPE_FP32);
    return result;
}

static void test_dot(void **state)
{
    const rows_kernels_t *kernels = *state;
    for (uint64_t i = 0; i < COLUMNS_TRIED * 8; i++) {
        const moxie_dtype_t dtype = dtypes[i & 1];
        const size_t columns = columns_tried[i / 8];
        const payload_t payload = {
            .seed = 4, .dtype = dtype, .column_count = COLUMNS_MAX, .special = (i & 6) == 6};
        char rows[2][COLUMNS_MAX * 4];
        payload_fill(&payload, 0, (int64_t)i, rows[0]);
        payload_fill(&payload, 1, (int64_t)i, rows[1]);
        const float got =
            kernels->dot(rows[0], rows[1], i % 3 == 0 ? rows[0] : NULL, dtype, columns);
        const float expected = expected_dot(rows[0], rows[1], dtype, columns);
        if (memcmp(&got, &expected, sizeof(got)) != 0) {
            fail_msg("%s dot of %zu columns: %a, not %a", kernels->name, columns, (double)got,
                     (double)expected);
        }
    }
}

static void expect_quantised(const rows_kernels_t *kernels, const uint16_t *row, size_t columns,
                             size_t shift)
{
    const moxie_scale_type_t types[] = {MOXIE_SCALE_FP32, MOXIE_SCALE_FP32_POW2, MOXIE_SCALE_UE8M0};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        uint32_t words[COLUMNS_MAX / MOXIE_SCALE_COLUMNS + 2];
        uint32_t expected_words[COLUMNS_MAX / MOXIE_SCALE_COLUMNS + 2];
        memset(words, 0xA5, sizeof(words));
        memset(expected_words, 0xA5, sizeof(expected_words));
        piece_t got = make_piece(shift, MOXIE_DTYPE_FP8_E4M3);
        piece_t expected = make_piece(shift, MOXIE_DTYPE_FP8_E4M3);
        kernels->quantise(row, columns, types[i], (uint8_t *)got.data, words);
        assert_ok(moxie_reference_quantise(row, (int64_t)columns, types[i],
                                           (uint8_t *)expected.data, expected_words));
        expect_piece(kernels, "quantise", &got, &expected, columns);
        assert_memory_equal(words, expected_words, sizeof(words));
        free(got.base);
        free(expected.base);
    }
}

static void test_quantise(void **state)
{
    const rows_kernels_t *kernels = *state;
    for (uint64_t i = 0; i < COLUMNS_TRIED * 8; i++) {
        const payload_t payload = {.seed = 5,
                                   .dtype = MOXIE_DTYPE_BF16,
                                   .column_count = COLUMNS_MAX,
                                   .special = (i & 1) != 0};
        uint16_t row[COLUMNS_MAX];
        payload_fill(&payload, 0, (int64_t)i, row);
        expect_quantised(kernels, row, columns_tried[i / 8], i % 7);
    }
}

/* Each bf16 there is, beside a few that decide the scale of its group. */
static void test_quantise_every_value(void **state)
{
    const rows_kernels_t *kernels = *state;
    const uint16_t largest[] = {0, 0x3F80, 0x3FE0, 0x3FE1, 0x43E0, 0xB8D2, 0x7F7F, 0x7F80, 0xFFC0};
    for (size_t i = 0; i < sizeof(largest) / sizeof(largest[0]); i++) {
        for (uint32_t first = 0; first <= 0xFFFF; first += MOXIE_SCALE_COLUMNS - 1) {
            uint16_t row[MOXIE_SCALE_COLUMNS];
            const uint32_t limit = largest[i] & 0x7FFFu;
            row[0] = largest[i];
            for (uint32_t column = 1; column < MOXIE_SCALE_COLUMNS; column++) {
                const uint32_t bits = (first + column - 1) & 0xFFFFu;
                row[column] = (uint16_t)((bits & 0x7FFFu) > limit && limit != 0 ? 0 : bits);
            }
            expect_quantised(kernels, row, MOXIE_SCALE_COLUMNS, 0);
        }
    }
}

static void test_copy(void **state)
{
    const rows_kernels_t *kernels = *state;
    char source[1024];
    for (size_t i = 0; i < sizeof(source); i++) {
        source[i] = (char)(i * 7 + 1);
    }
    for (size_t shift = 0; shift < 64; shift += 3) {
        for (size_t bytes = 0; bytes < 400; bytes += 1 + bytes / 8) {
            piece_t got = make_piece(shift, MOXIE_DTYPE_BF16);
            piece_t expected = make_piece(shift, MOXIE_DTYPE_BF16);
            kernels->copy_stream(got.data, source + shift, bytes);
            rows_fence();
            memcpy(expected.data, source + shift, bytes);
            expect_piece(kernels, "copy_stream", &got, &expected, bytes);
            free(got.base);
            free(expected.base);
        }
    }
}

static int run_kernels(const char *name, rows_level_t level)
{
    const rows_kernels_t *kernels = rows_select(level);
    if (kernels == NULL) {
        printf("row kernels %s: SKIPPED, this processor does not run them\n", name);
        return 0;
    }
    void *state = (void *)(uintptr_t)kernels;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_sum, state),
        cmocka_unit_test_prestate(test_scale, state),
        cmocka_unit_test_prestate(test_dot, state),
        cmocka_unit_test_prestate(test_quantise, state),
        cmocka_unit_test_prestate(test_quantise_every_value, state),
        cmocka_unit_test_prestate(test_copy, state),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    int failed = run_kernels("portable", ROWS_PORTABLE);
    failed += run_kernels("AVX2", ROWS_AVX2);
    failed += run_kernels("AVX-512", ROWS_AVX512);
    return failed == 0 ? 0 : 1;
}
