/* SPDX-License-Identifier: Apache-2.0 */
/* Element types: every bfloat16 there is, and the roundings that are easy to get wrong. */
#include "support/check.h"

#include "moxie/dtype.h"

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

static void test_every_bf16_round_trips(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        const float value = moxie_bf16_to_float((uint16_t)bits);
        assert_int_equal(to_bits(value), bits << 16);
        const int is_nan = (bits & 0x7FFF) > 0x7F80;
        assert_int_equal(moxie_bf16_from_float(value), is_nan ? 0x7FFF : bits);
    }
}

/* Between every two neighbours of one sign: just below, at and just above the middle. */
static void test_every_middle_rounds_to_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        if ((bits & 0x7FFF) >= 0x7F80) {
            continue;
        }
        const uint32_t middle = (bits << 16) | 0x8000;
        const uint32_t even = bits + (bits & 1);
        assert_int_equal(moxie_bf16_from_float(from_bits(middle - 1)), bits);
        assert_int_equal(moxie_bf16_from_float(from_bits(middle)), even);
        assert_int_equal(moxie_bf16_from_float(from_bits(middle + 1)), bits + 1);
    }
}

static void test_special_values(void **state)
{
    (void)state;
    assert_int_equal(moxie_bf16_from_float(from_bits(0x00000000)), 0x0000);
    assert_int_equal(moxie_bf16_from_float(from_bits(0x80000000)), 0x8000);
    assert_int_equal(moxie_bf16_from_float(from_bits(0x7F800000)), 0x7F80);
    assert_int_equal(moxie_bf16_from_float(from_bits(0xFF800000)), 0xFF80);
    /* The largest finite float rounds to infinity. */
    assert_int_equal(moxie_bf16_from_float(from_bits(0x7F7FFFFF)), 0x7F80);
    assert_int_equal(moxie_bf16_from_float(from_bits(0xFF7FFFFF)), 0xFF80);
    /* Subnormals are kept; the smallest float rounds to zero with its sign. */
    assert_int_equal(moxie_bf16_from_float(from_bits(0x00010000)), 0x0001);
    assert_int_equal(moxie_bf16_from_float(from_bits(0x007F7FFF)), 0x007F);
    assert_int_equal(moxie_bf16_from_float(from_bits(0x00000001)), 0x0000);
    assert_int_equal(moxie_bf16_from_float(from_bits(0x80000001)), 0x8000);
}

static void test_every_kind_of_nan_becomes_one(void **state)
{
    (void)state;
    const uint32_t nans[] = {0x7F800001, 0x7FC00000, 0xFF800001, 0xFFC00000,
                             0x7FFFFFFF, 0xFFFFFFFF, 0x7F80FFFF, 0x7F810000};
    for (size_t i = 0; i < sizeof(nans) / sizeof(nans[0]); i++) {
        assert_int_equal(moxie_bf16_from_float(from_bits(nans[i])), 0x7FFF);
    }
}

static void test_names_and_sizes(void **state)
{
    (void)state;
    assert_int_equal(moxie_dtype_bytes(MOXIE_DTYPE_BF16), 2);
    assert_int_equal(moxie_dtype_bytes(MOXIE_DTYPE_FP32), 4);
    assert_int_equal(moxie_dtype_bytes(MOXIE_DTYPE_FP8_E4M3), 1);
    assert_int_equal(moxie_dtype_bytes((moxie_dtype_t)0), 0);
    assert_int_equal(moxie_dtype_bytes((moxie_dtype_t)99), 0);
    assert_string_equal(moxie_dtype_name(MOXIE_DTYPE_BF16), "bf16");
    assert_string_equal(moxie_dtype_name((moxie_dtype_t)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bf16_round_trips),
        cmocka_unit_test(test_every_middle_rounds_to_even),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_every_kind_of_nan_becomes_one),
        cmocka_unit_test(test_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
