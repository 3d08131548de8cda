/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that everything rests on: percentiles, random rows, exp and log. */
#include "support/check.h"

#include "bench/exact_math.h"
#include "bench/payload.h"
#include "bench/random.h"
#include "bench/stats.h"

#include <math.h>
#include <string.h>

static void test_percentiles_are_nearest_rank(void **state)
{
    (void)state;
    double values[100];
    for (int i = 0; i < 100; i++)
        values[i] = 100 - i;
    stats_t stats = stats_describe(values, 100);
    assert_true(stats.min == 1 && stats.p50 == 50 && stats.p90 == 90 && stats.p99 == 99);
    assert_true(stats.max == 100);
    double few[] = {15, 20, 35, 40, 50}; /* the example of Wikipedia's article on percentiles */
    assert_true(stats_percentile(few, 5, 5) == 15);
    assert_true(stats_percentile(few, 5, 30) == 20);
    assert_true(stats_percentile(few, 5, 40) == 20);
    assert_true(stats_percentile(few, 5, 50) == 35);
    assert_true(stats_percentile(few, 5, 100) == 50);
    double one[] = {7};
    stats = stats_describe(one, 1);
    assert_true(stats.min == 7 && stats.p50 == 7 && stats.p99 == 7 && stats.max == 7);
    assert_true(stats_describe(one, 0).max == 0);
}

static void test_payload_is_finite_and_never_zero(void **state)
{
    (void)state;
    enum { COLUMNS = 4099 };
    uint16_t row[COLUMNS];
    payload_t payload = {1, RANDOM_FOR_HOME_ROWS, 0};
    int negative_count = 0;
    uint16_t seen = 0;
    payload_row_bf16(&payload, 3, 17, 0, COLUMNS, row);
    for (int i = 0; i < COLUMNS; i++) {
        uint32_t bits = (uint32_t)row[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof(value));
        assert_true(fabsf(value) >= 0x1p-4f && fabsf(value) < 0x1p4f);
        negative_count += value < 0.0f;
        seen |= row[i];
    }
    assert_in_range(negative_count, COLUMNS * 2 / 5, COLUMNS * 3 / 5);
    assert_int_equal(seen & 0x7F, 0x7F);
}

static void test_payload_is_a_function_of_its_place(void **state)
{
    (void)state;
    enum { COLUMNS = 130 };
    uint16_t row[COLUMNS];
    uint16_t part[COLUMNS];
    payload_t payload = {1, RANDOM_FOR_EXPERT_ROWS, 5};
    payload_row_bf16(&payload, 2, 9, 0, COLUMNS, row);
    for (int64_t column = 0; column < COLUMNS; column += PAYLOAD_COLUMN_UNIT) {
        payload_row_bf16(&payload, 2, 9, column, COLUMNS - column, part);
        assert_memory_equal(part, row + column, (size_t)(COLUMNS - column) * sizeof(*row));
    }
    const payload_t others[] = {{2, RANDOM_FOR_EXPERT_ROWS, 5},
                                {1, RANDOM_FOR_HOME_ROWS, 5},
                                {1, RANDOM_FOR_EXPERT_ROWS, 6}};
    for (int i = 0; i < 3; i++) {
        payload_row_bf16(&others[i], 2, 9, 0, COLUMNS, part);
        assert_memory_not_equal(part, row, sizeof(row));
    }
    payload_row_bf16(&payload, 3, 9, 0, COLUMNS, part);
    assert_memory_not_equal(part, row, sizeof(row));
    payload_row_bf16(&payload, 2, 10, 0, COLUMNS, part);
    assert_memory_not_equal(part, row, sizeof(row));
    float weights[8];
    payload_row_fp32(&payload, 0, 0, 8, weights);
    for (int i = 0; i < 8; i++)
        assert_true(fabsf(weights[i]) >= 0x1p-4f && fabsf(weights[i]) < 0x1p4f);
}

static void test_exact_math(void **state)
{
    (void)state;
    for (double x = 0.0; x > -690.0; x -= 0.37)
        assert_true(fabs(exact_exp(x) / exp(x) - 1.0) < 4e-15);
    assert_true(exact_exp(-1000.0) == 0.0);
    assert_true(exact_exp(0.0) == 1.0);
    for (double x = 1.5; x < 1e7; x *= 1.37)
        assert_true(fabs(exact_log(x) - log(x)) < 4e-15 * (1.0 + log(x)));
    assert_true(exact_log(1.0) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles_are_nearest_rank),
        cmocka_unit_test(test_payload_is_finite_and_never_zero),
        cmocka_unit_test(test_payload_is_a_function_of_its_place),
        cmocka_unit_test(test_exact_math),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
