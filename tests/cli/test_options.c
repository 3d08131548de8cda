/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options: values are read strictly, and every refusal names what it is about. */
#include "support/check.h"

#include "bench/options.h"
#include "bench/shape.h"
#include "bench/suggest.h"

#include <stdlib.h>
#include <string.h>

static const option_origin_t from_flag = {ORIGIN_FLAG, 0};

static void refuse(option_id_t id, const char *text, const char *part)
{
    options_t options;
    failure_t failure = {0};
    assert_true(options_init(&options));
    assert_false(option_set_text(&options, id, from_flag, text, &failure));
    assert_int_equal(failure.exit_code, EXIT_USAGE);
    if (strstr(failure.sentence, part) == NULL)
        fail_msg("'%s' does not say '%s'", failure.sentence, part);
    options_release(&options);
}

static int64_t accept_number(option_id_t id, const char *text)
{
    options_t options;
    failure_t failure = {0};
    int64_t number = -1;
    assert_true(options_init(&options));
    assert_true(option_set_text(&options, id, from_flag, text, &failure));
    memcpy(&number, (const char *)&options + option_row(id)->offset, sizeof(number));
    assert_true(option_is_given(&options, id));
    options_release(&options);
    return number;
}

static void test_numbers_are_strict(void **state)
{
    (void)state;
    assert_int_equal(accept_number(OPTION_TOKENS, "1"), 1);
    assert_int_equal(accept_number(OPTION_TOKENS, "16777216"), 16777216);
    assert_int_equal(accept_number(OPTION_SEED, "9223372036854775807"), INT64_MAX);
    assert_int_equal(accept_number(OPTION_TOKENS, "+7"), 7);
    refuse(OPTION_TOKENS, "-5", "--tokens: -5 is out of range, it can be 1 to 16777216");
    refuse(OPTION_TOKENS, "0", "out of range");
    refuse(OPTION_TOKENS, "16777217", "out of range");
    refuse(OPTION_TOKENS, "99999999999999999999", "99999999999999999999 is out of range");
    refuse(OPTION_TOKENS, "-99999999999999999999", "out of range");
    static const char *const no_numbers[] = {"",     " 4",  "4 ",  "4k", "1e3",
                                             "0x10", "4.0", "--4", "-"};
    for (size_t i = 0; i < sizeof(no_numbers) / sizeof(no_numbers[0]); i++)
        refuse(OPTION_TOKENS, no_numbers[i], "is not a whole number");
}

static void test_choices_are_whole_words(void **state)
{
    (void)state;
    assert_int_equal(accept_number(OPTION_LAYOUT, "expert_major"), LAYOUT_EXPERT_MAJOR);
    assert_int_equal(accept_number(OPTION_BACKEND, "auto"), BACKEND_AUTO);
    refuse(OPTION_LAYOUT, "expert", "'expert' is none of rank_major|expert_major");
    refuse(OPTION_LAYOUT, "", "none of");
    refuse(OPTION_LAYOUT, "rank_major|expert_major", "none of");
    refuse(OPTION_SHAPE, "", "must not be empty");
}

static void test_table_is_complete(void **state)
{
    (void)state;
    for (option_id_t id = 0; id < OPTION_COUNT; id++) {
        const option_row_t *row = option_row(id);
        assert_non_null(row->name);
        assert_non_null(row->help);
        assert_true(row->offset < offsetof(options_t, origin));
        assert_true((row->type == OPTION_TYPE_SWITCH) == (row->placeholder == NULL));
        assert_true(row->type != OPTION_TYPE_NUMBER || row->value_min <= row->value_max);
        for (option_id_t other = 0; other < id; other++) {
            assert_string_not_equal(row->name, option_row(other)->name);
            assert_true(row->offset != option_row(other)->offset);
        }
    }
}

static void test_what_is_not_built_says_so(void **state)
{
    (void)state;
    options_t options;
    failure_t failure = {0};
    assert_true(options_init(&options));
    assert_true(options_check_built(&options, &failure));
    assert_true(option_set_number(&options, OPTION_LAYER, from_flag, 1, &failure));
    assert_false(options_check_built(&options, &failure));
    assert_int_equal(failure.exit_code, EXIT_UNAVAILABLE);
    assert_non_null(strstr(failure.sentence, option_row(OPTION_LAYER)->name));
    options_release(&options);
}

static void test_where_names_flag_or_line(void **state)
{
    (void)state;
    options_t options;
    failure_t failure = {0};
    char where[OPTION_WHERE_BYTES];
    assert_true(options_init(&options));
    assert_true(option_set_text(&options, OPTION_CONFIG, from_flag, "a/b.toml", &failure));
    assert_string_equal(option_where(&options, OPTION_OUTPUT_DIR, where), "--output-dir");
    options.origin[OPTION_OUTPUT_DIR] = (option_origin_t){ORIGIN_FILE, 12};
    assert_string_equal(option_where(&options, OPTION_OUTPUT_DIR, where),
                        "a/b.toml:12: output_dir");
    options_release(&options);
}

static void test_suggestions(void **state)
{
    (void)state;
    assert_int_equal(suggest_distance("", "abc"), 3);
    assert_int_equal(suggest_distance("kitten", "sitting"), 3);
    assert_int_equal(suggest_distance("tokens", "tokens"), 0);
    const char *nearest = NULL;
    assert_null(shape_find("deepseek-v2", &nearest));
    assert_string_equal(nearest, "deepseek-v3");
    assert_null(shape_find("llama", &nearest));
    assert_null(nearest);
    assert_int_equal(shape_find("mixtral-8x7b", &nearest)->experts, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_strict),
        cmocka_unit_test(test_choices_are_whole_words),
        cmocka_unit_test(test_table_is_complete),
        cmocka_unit_test(test_what_is_not_built_says_so),
        cmocka_unit_test(test_where_names_flag_or_line),
        cmocka_unit_test(test_suggestions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
