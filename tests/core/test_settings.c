/* SPDX-License-Identifier: Apache-2.0 */
/* Stored settings: the nearest entry is found, and nothing in the file keeps a group from being
 * made. */
#include "support/check.h"

#include "moxie/group.h"
#include "store/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/moxie-test-settings-XXXXXX";

static void write_file(const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/" SETTINGS_FILE, folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Entries of this machine: ranks, tokens, spin_count. */
static void write_entries(const int64_t (*entries)[3], size_t count)
{
    char text[4096] = SETTINGS_HEADER "\n";
    char machine[MACHINE_KEY_BYTES];
    machine_key("shm", machine);
    assert_null(strpbrk(machine, " =\n"));
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                       "backend=shm machine=%s mode=standard variant=v ranks=%d tokens=%d "
                       "hidden=64 experts=8 topk=2 knob.spin_count=%d\n",
                       machine, (int)entries[i][0], (int)entries[i][1], (int)entries[i][2]);
    }
    write_file(text);
}

/* The spin_count of a group of one rank, and where it came from. */
static int64_t spin_count(const char *from)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    moxie_knob_info_t knob = MOXIE_KNOB_INFO_INIT;
    moxie_group_t *group = NULL;
    options.rank_count = 1;
    options.backend = "shm";
    assert_status(moxie_group_create(&options, &group), MOXIE_OK);
    assert_status(moxie_group_knob(group, 0, &knob), MOXIE_OK);
    assert_string_equal(knob.name, "spin_count");
    assert_string_equal(knob.from, from);
    moxie_group_destroy(group);
    return knob.value;
}

static void test_a_group_takes_the_newest_of_the_nearest(void **state)
{
    static const int64_t entries[][3] = {{4, 100, 1}, {1, 100, 2}, {1, 1000, 3}, {2, 100, 4}};
    (void)state;
    write_entries(entries, 4);
    assert_int_equal(spin_count("stored"), 3);
    assert_int_equal(setenv(SETTINGS_SHAPE_VARIABLE, "tokens=120 topk=2", 1), 0);
    assert_int_equal(spin_count("stored"), 2);
    assert_int_equal(setenv(SETTINGS_SHAPE_VARIABLE, "nonsense", 1), 0);
    assert_int_equal(spin_count("stored"), 3);
    assert_int_equal(unsetenv(SETTINGS_SHAPE_VARIABLE), 0);
}

/* An entry of this machine for 100 tokens of 1 KB: a small spin_count is fast, and large calls want
 * 80. One token sends 1 KB, so that 1000 tokens are 1 MB. */
static void write_model(int ranks, int error)
{
    char text[2048];
    char machine[MACHINE_KEY_BYTES];
    machine_key("shm", machine);
    (void)snprintf(text, sizeof(text),
                   SETTINGS_HEADER
                   "\nbackend=shm machine=%s mode=standard variant=v ranks=%d tokens=100 "
                   "hidden=500 experts=8 topk=1 knob.spin_count=7 model_error=%d "
                   "model.spin_count=20:10000:100000,5:5000:200000,80:20000:50000\n",
                   machine, ranks, error);
    write_file(text);
}

static int64_t spin_count_for(const char *shape, const char *from)
{
    assert_int_equal(setenv(SETTINGS_SHAPE_VARIABLE, shape, 1), 0);
    int64_t value = spin_count(from);
    assert_int_equal(unsetenv(SETTINGS_SHAPE_VARIABLE), 0);
    return value;
}

static void test_a_model_proposes_where_no_entry_is_near(void **state)
{
    (void)state;
    write_model(1, 30);
    assert_int_equal(spin_count_for("tokens=120 hidden=500 experts=8 topk=1", "stored"), 7);
    assert_int_equal(spin_count_for("tokens=1 hidden=500 experts=8 topk=1", "model"), 5);
    assert_int_equal(spin_count_for("tokens=9000 hidden=500 experts=8 topk=1", "model"), 80);
    assert_int_equal(spin_count_for("tokens=9000", "stored"), 7); /* of unknown bytes */
    write_model(1, 600); /* so wrong that nothing is worth leaving the default for */
    assert_int_equal(spin_count_for("tokens=9000 hidden=500 experts=8 topk=1", "model"), 20);
    write_model(2, 30); /* of another number of ranks */
    assert_int_equal(spin_count_for("tokens=9000 hidden=500 experts=8 topk=1", "stored"), 7);
}

static void test_environment_and_options_win(void **state)
{
    static const int64_t entries[][3] = {{1, 100, 7}};
    (void)state;
    write_entries(entries, 1);
    assert_int_equal(spin_count("stored"), 7);
    assert_int_equal(setenv("MOXIE_SPIN_COUNT", "9", 1), 0);
    assert_int_equal(spin_count("environment"), 9);
    assert_int_equal(unsetenv("MOXIE_SPIN_COUNT"), 0);
    assert_int_equal(setenv("MOXIE_TUNING", "off", 1), 0);
    assert_int_equal(spin_count("default"), 20);
    assert_int_equal(setenv("MOXIE_TUNING", folder, 1), 0);
}

static void test_a_group_can_say_what_it_wants(void **state)
{
    static const int64_t entries[][3] = {{1, 100, 1}, {1, 1000, 2}};
    static const struct {
        const char *tuning;
        moxie_status_t status;
        int64_t spin_count;
    } cases[] = {
        {NULL, MOXIE_OK, 2},
        {"off", MOXIE_OK, 20},
        {"tokens=120", MOXIE_OK, 1},
        {"tokens=900 topk=2", MOXIE_OK, 2},
        {"", MOXIE_OK, 2},
        {"tokens", MOXIE_ERR_ARGUMENT, 0},
        {"tokens=many", MOXIE_ERR_ARGUMENT, 0},
        {"speed=5", MOXIE_ERR_ARGUMENT, 0},
    };
    (void)state;
    write_entries(entries, 2);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
        moxie_knob_info_t knob = MOXIE_KNOB_INFO_INIT;
        moxie_group_t *group = NULL;
        options.rank_count = 1;
        options.tuning = cases[i].tuning;
        assert_status(moxie_group_create(&options, &group), cases[i].status);
        if (group == NULL)
            continue;
        assert_status(moxie_group_knob(group, 0, &knob), MOXIE_OK);
        assert_int_equal(knob.value, cases[i].spin_count);
        moxie_group_destroy(group);
    }
}

static void test_what_makes_no_sense_is_passed_over(void **state)
{
    char machine[MACHINE_KEY_BYTES];
    char text[1024];
    static const int64_t out_of_range[][3] = {{1, 100, -5}};
    (void)state;
    write_entries(out_of_range, 1);
    assert_int_equal(spin_count("default"), 20);
    write_file("moxie-tuning 2\n");
    assert_int_equal(spin_count("default"), 20);
    write_file("");
    assert_int_equal(spin_count("default"), 20);
    write_file(SETTINGS_HEADER "\n\n=\nbackend\nbackend=shm\nbackend=shm ranks=x\n");
    assert_int_equal(spin_count("default"), 20);
    machine_key("shm", machine);
    (void)snprintf(text, sizeof(text),
                   SETTINGS_HEADER "\nbackend=shm machine=%s ranks=1 knob.never_heard=5\n",
                   machine);
    write_file(text);
    assert_int_equal(spin_count("default"), 20);
    static const char *const models[] = {"", "5", "5:1", "5:1:", "5:1:2,", "5:1:x", "5:1:2,6:1"};
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        (void)snprintf(text, sizeof(text),
                       SETTINGS_HEADER "\nbackend=shm machine=%s ranks=1 knob.spin_count=5 "
                                       "model.spin_count=%s\n",
                       machine, models[i]);
        write_file(text);
        assert_int_equal(spin_count(strcmp(models[i], "5:1:2,") == 0 ? "stored" : "default"),
                         strcmp(models[i], "5:1:2,") == 0 ? 5 : 20);
    }
    write_file(SETTINGS_HEADER "\nbackend=shm machine=other ranks=1 knob.spin_count=5\n");
    assert_int_equal(spin_count("default"), 20);
}

static void test_a_line_comes_back_as_it_was_written(void **state)
{
    settings_entry_t entry = {
        .key = {"cuda", "H200,4x", "standard", "rank_major", 4, 4096, 2048, 128, 8},
        .knobs = {{"sms", 24}, {"combine_sms", -3}},
        .knob_count = 2,
        .models = {{"sms", {{24, 52000, 9100}, {-1, -7, 12}}, 2}, {"push_sms", {{0, 1, 2}}, 1}},
        .model_count = 2,
        .model_error = 31};
    settings_entry_t back;
    char line[SETTINGS_LINE_BYTES];
    FILE *stream = fmemopen(line, sizeof(line), "w");
    (void)state;
    assert_non_null(stream);
    assert_true(settings_print(&entry, stream));
    assert_int_equal(fclose(stream), 0);
    assert_true(settings_parse(line, &back));
    assert_memory_equal(&entry, &back, sizeof(entry));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_group_takes_the_newest_of_the_nearest),
        cmocka_unit_test(test_a_model_proposes_where_no_entry_is_near),
        cmocka_unit_test(test_environment_and_options_win),
        cmocka_unit_test(test_a_group_can_say_what_it_wants),
        cmocka_unit_test(test_what_makes_no_sense_is_passed_over),
        cmocka_unit_test(test_a_line_comes_back_as_it_was_written),
    };
    char path[128];
    if (mkdtemp(folder) == NULL || setenv("MOXIE_TUNING", folder, 1) != 0) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(path, sizeof(path), "%s/" SETTINGS_FILE, folder);
    (void)unlink(path);
    (void)rmdir(folder);
    return failed != 0;
}
