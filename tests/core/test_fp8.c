/* SPDX-License-Identifier: Apache-2.0 */
/* E4M3: every number there is, every middle between two, and rows with their scales by hand. */
#include "support/check.h"

#include "moxie/reference.h"

#include <math.h>
#include <string.h>

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint16_t bf16(float value)
{
    return moxie_bf16_from_float(value);
}

static void test_every_number_round_trips(void **state)
{
    (void)state;
    for (int bits = 0; bits <= 0xFF; bits++) {
        const float value = moxie_fp8_to_float((uint8_t)bits);
        const int magnitude = bits & 0x7F;
        if (magnitude == 0x7F) {
            assert_int_equal(to_bits(value), 0x7FFFFFFF);
            assert_int_equal(moxie_fp8_from_float(value), 0x7F);
            continue;
        }
        const float wanted = magnitude < 8 ? ldexpf((float)magnitude, -9)
                                           : ldexpf((float)(8 + magnitude % 8), magnitude / 8 - 10);
        assert_int_equal(to_bits(value), to_bits(bits < 0x80 ? wanted : -wanted));
        assert_int_equal(moxie_fp8_from_float(value), bits);
    }
}

/* Between every two neighbours of one sign: just below, at and just above the middle. */
static void test_every_middle_rounds_to_even(void **state)
{
    (void)state;
    for (int bits = 0; bits < 0x7E; bits++) {
        const float low = moxie_fp8_to_float((uint8_t)bits);
        const float high = moxie_fp8_to_float((uint8_t)(bits + 1));
        const uint32_t middle = to_bits((low + high) / 2);
        assert_int_equal(moxie_fp8_from_float(from_bits(middle - 1)), bits);
        assert_int_equal(moxie_fp8_from_float(from_bits(middle)), bits + (bits & 1));
        assert_int_equal(moxie_fp8_from_float(from_bits(middle + 1)), bits + 1);
        assert_int_equal(moxie_fp8_from_float(-from_bits(middle + 1)), 0x80 | (bits + 1));
    }
}

static void test_large_values_saturate(void **state)
{
    (void)state;
    const float large[] = {448.0f, 463.9f, 464.0f, 465.0f, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
        assert_int_equal(moxie_fp8_from_float(large[i]), 0x7E);
        assert_int_equal(moxie_fp8_from_float(-large[i]), 0xFE);
    }
    assert_int_equal(moxie_fp8_from_float(-NAN), 0x7F);
    assert_int_equal(moxie_fp8_from_float(from_bits(1)), 0);
    assert_int_equal(moxie_fp8_from_float(from_bits(0x80000001)), 0x80);
}

static void test_words_of_scales(void **state)
{
    (void)state;
    assert_int_equal(moxie_scale_words(MOXIE_SCALE_FP32, 1), 1);
    assert_int_equal(moxie_scale_words(MOXIE_SCALE_FP32, 128), 1);
    assert_int_equal(moxie_scale_words(MOXIE_SCALE_FP32_POW2, 129), 2);
    assert_int_equal(moxie_scale_words(MOXIE_SCALE_UE8M0, 512), 1);
    assert_int_equal(moxie_scale_words(MOXIE_SCALE_UE8M0, 513), 2);
    assert_int_equal(moxie_scale_words(MOXIE_SCALE_UE8M0, 7168), 14);
    assert_int_equal(moxie_scale_words((moxie_scale_type_t)0, 7168), 0);
}

/* amax 224 in the first group; zeros in the second, which has the least scale. */
static void test_scales_of_a_row(void **state)
{
    (void)state;
    uint16_t row[130] = {[0] = bf16(224.0f), [1] = bf16(-112.0f), [2] = bf16(1.0f)};
    uint8_t fp8[130];
    uint32_t words[2];
    assert_ok(moxie_reference_quantise(row, 130, MOXIE_SCALE_FP32, fp8, words));
    assert_int_equal(words[0], to_bits(0.5f));
    assert_int_equal(words[1], to_bits(1e-4f / 448.0f));
    assert_int_equal(fp8[0], 0x7E);
    assert_int_equal(fp8[1], moxie_fp8_from_float(-224.0f));
    assert_int_equal(fp8[2], moxie_fp8_from_float(2.0f));
    assert_int_equal(fp8[129], 0);

    row[0] = bf16(226.0f); /* over 2^-1 * 448 */
    assert_ok(moxie_reference_quantise(row, 130, MOXIE_SCALE_FP32_POW2, fp8, words));
    assert_int_equal(words[0], to_bits(1.0f));
    assert_int_equal(fp8[0], moxie_fp8_from_float(226.0f));
    assert_int_equal(words[1], to_bits(ldexpf(1.0f, -22)));
    assert_ok(moxie_reference_quantise(row, 130, MOXIE_SCALE_UE8M0, fp8, words));
    assert_int_equal(words[0], 127 | (127 - 22) << 8);
    row[0] = bf16(224.0f);
    assert_ok(moxie_reference_quantise(row, 130, MOXIE_SCALE_UE8M0, fp8, words));
    assert_int_equal(words[0], 126 | (127 - 22) << 8);
}

/* A NaN stays one and does not count; infinity counts, as 2^128 where scales are powers of two. */
static void test_odd_values(void **state)
{
    (void)state;
    const uint16_t row[] = {0xFFC1, bf16(448.0f), bf16(-1.0f)};
    const uint16_t infinite[] = {0x7F80, bf16(2.0f), 0xFF80, 0x7F7F};
    uint8_t fp8[4];
    uint32_t word;
    assert_ok(moxie_reference_quantise(row, 3, MOXIE_SCALE_FP32, fp8, &word));
    assert_int_equal(word, to_bits(1.0f));
    assert_int_equal(fp8[0], 0x7F);
    assert_int_equal(fp8[1], 0x7E);
    assert_int_equal(fp8[2], 0xB8);

    assert_ok(moxie_reference_quantise(infinite, 4, MOXIE_SCALE_FP32, fp8, &word));
    assert_int_equal(word, to_bits(INFINITY));
    assert_int_equal(fp8[0], 0x7F); /* infinity times 0 */
    assert_int_equal(fp8[1], 0x00);
    assert_int_equal(fp8[2], 0x7F);
    assert_ok(moxie_reference_quantise(infinite, 4, MOXIE_SCALE_UE8M0, fp8, &word));
    assert_int_equal(word, 120 + 127);
    assert_int_equal(fp8[0], 0x7E);
    assert_int_equal(fp8[2], 0xFE);
    assert_int_equal(fp8[3], moxie_fp8_from_float(256.0f));
}

static void test_bad_arguments(void **state)
{
    (void)state;
    const uint16_t row[1] = {0};
    uint8_t fp8[1];
    uint32_t word;
    assert_status(moxie_reference_quantise(row, 1, (moxie_scale_type_t)9, fp8, &word),
                  MOXIE_ERR_ARGUMENT);
    assert_status(moxie_reference_quantise(NULL, 1, MOXIE_SCALE_FP32, fp8, &word),
                  MOXIE_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_number_round_trips),
        cmocka_unit_test(test_every_middle_rounds_to_even),
        cmocka_unit_test(test_large_values_saturate),
        cmocka_unit_test(test_words_of_scales),
        cmocka_unit_test(test_scales_of_a_row),
        cmocka_unit_test(test_odd_values),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
