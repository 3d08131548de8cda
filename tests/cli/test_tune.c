/* SPDX-License-Identifier: Apache-2.0 */
/* moxie tune: small real runs on shm, what they leave, and that it is used afterwards. */
#include "support/check.h"

#include "cli/program.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A shape on which a measurement takes some milliseconds. */
#define SHAPE "--ranks 2 --hidden 64 --experts 8 --topk 2 --warmups 1 --iterations 3 "
#define SMALL SHAPE "--tokens 16 --output-dir out "

static const json_t *at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL)
        fail_msg("there is no '%s'", key);
    return value;
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(at(object, key));
}

static program_t run(const char *arguments, int exit_code)
{
    program_t program = program_run(arguments);
    if (program.exit_code != exit_code)
        fail_msg("%s: exit code %d:\n%s%s", arguments, program.exit_code, program.out, program.err);
    return program;
}

static json_t *run_json(const char *arguments)
{
    program_t program = run(arguments, 0);
    json_t *document = program_json(&program);
    program_release(&program);
    return document;
}

static int clean(void **state)
{
    (void)state;
    program_t program = run("tune forget all", 0);
    program_release(&program);
    return system("rm -rf out"); /* NOLINT(cert-env33-c): our own folder */
}

/* The files in a folder, and the name of one of them. */
static int count_files(const char *path, char name[300])
{
    int count = 0;
    const struct dirent *entry;
    DIR *entries = opendir(path);
    assert_non_null(entries);
    while ((entry = readdir(entries)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(name, 300, "%s", entry->d_name);
        count++;
    }
    (void)closedir(entries);
    return count;
}

static void check_candidate(const json_t *candidate)
{
    const json_t *times = at(candidate, "times_us");
    assert_true(json_is_object(at(candidate, "setting")));
    assert_true(text_at(candidate, "fate")[0] != '\0');
    if (json_array_size(times) > 0)
        assert_true(json_number_value(at(candidate, "time_us")) > 0.0);
    else
        assert_true(json_is_null(at(candidate, "time_us")));
}

static void test_a_run_leaves_its_files_and_an_entry(void **state)
{
    char name[300];
    char path[400];
    struct stat stat_of;
    size_t index;
    const json_t *candidate;
    (void)state;
    json_t *results = run_json("tune --mode quick --json " SMALL);
    assert_string_equal(text_at(results, "schema"), "moxie.tune/1");
    assert_true(json_is_false(at(results, "stopped")));
    const json_t *phase = json_array_get(at(results, "phases"), 0);
    assert_string_equal(text_at(phase, "name"), "exchange");
    assert_in_range(json_array_size(at(phase, "candidates")), 4, 6);
    json_array_foreach(at(phase, "candidates"), index, candidate)
    {
        check_candidate(candidate);
    }
    for (int call = 0; call < 2; call++) {
        const json_t *figures = at(at(results, "performance"), call ? "combine" : "dispatch");
        assert_true(json_number_value(at(at(figures, "optimal"), "time_us")) > 0.0);
        assert_true(json_number_value(at(at(figures, "default"), "time_us")) > 0.0);
        assert_true(json_number_value(at(at(figures, "worst"), "wire_gbps")) > 0.0);
        bool is_default = json_equal(at(at(figures, "optimal"), "setting"),
                                     at(at(figures, "default"), "setting"));
        assert_true(is_default ? json_is_null(at(figures, "over_default"))
                               : json_is_object(at(figures, "over_default")));
    }
    assert_int_equal(count_files("out/logs", name), 1);
    assert_int_equal(strncmp(name, "ep2_quick_2", 11), 0);
    assert_int_equal(count_files("out/summary", name), 1);
    assert_int_equal(count_files("out/results", name), 1);
    (void)snprintf(path, sizeof(path), "out/results/%s", name);
    json_t *kept = json_load_file(path, 0, NULL);
    assert_non_null(kept);
    assert_string_equal(text_at(kept, "timestamp"), text_at(results, "timestamp"));
    json_decref(kept);
    json_decref(results);
    assert_int_equal(stat("out/OPTIMAL_CONFIGS.md", &stat_of), 0);
    json_t *entries = run_json("tune list --json");
    assert_int_equal(json_array_size(at(entries, "entries")), 1);
    json_decref(entries);
}

/* Where bench's and info's spin_count come from. */
static const char *from_of(const char *arguments, int64_t *value)
{
    static char from[32];
    json_t *record = run_json(arguments);
    const json_t *knob = json_object_get(record, "config") != NULL
                             ? at(at(record, "config"), "spin_count")
                             : json_array_get(at(record, "knobs"), 0);
    (void)snprintf(from, sizeof(from), "%s", text_at(knob, "from"));
    *value = json_integer_value(at(knob, "value"));
    json_decref(record);
    return from;
}

/* An export of this machine's entry, with other values and shapes. */
static void import_entries(void)
{
    json_t *exported = run_json("tune export");
    json_t *entries = json_object_get(exported, "entries");
    json_t *entry = json_array_get(entries, 0);
    json_t *other = json_deep_copy(entry);
    json_object_set_new(json_object_get(entry, "knobs"), "spin_count", json_integer(33));
    json_object_set_new(json_object_get(other, "knobs"), "spin_count", json_integer(44));
    json_object_set_new(other, "tokens", json_integer(1024));
    json_array_append_new(entries, other);
    char *text = json_dumps(exported, 0);
    program_write_file("import.json", text, strlen(text));
    free(text);
    json_decref(exported);
    program_t program = run("tune import import.json", 0);
    assert_non_null(strstr(program.out, "2 entries"));
    program_release(&program);
}

static void test_bench_and_info_use_the_nearest_entry(void **state)
{
    int64_t value;
    (void)state;
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 16", &value), "default");
    json_decref(run_json("tune --mode quick --json --spin-count 20 --yield-count 100 "
                         "--stream-min-bytes 4194304 --row-kernels 0 " SMALL));
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 16", &value), "stored");
    assert_int_equal(value, 20); /* the default is stored, too */
    import_entries();
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 20", &value), "stored");
    assert_int_equal(value, 33);
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 900", &value), "stored");
    assert_int_equal(value, 44);
    assert_string_equal(from_of("info --json", &value), "stored");
    assert_int_equal(setenv("MOXIE_SPIN_COUNT", "55", 1), 0);
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 20", &value), "environment");
    assert_int_equal(value, 55);
    assert_int_equal(unsetenv("MOXIE_SPIN_COUNT"), 0);
    assert_int_equal(setenv("MOXIE_TUNING", "off", 1), 0);
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 20", &value), "default");
    assert_int_equal(unsetenv("MOXIE_TUNING"), 0);
    assert_int_equal(unlink("import.json"), 0);
}

/* Whatever is the best, far from it the model answers, and near it the entry. */
static void test_far_from_what_was_tuned_the_model_proposes(void **state)
{
    int64_t value;
    (void)state;
    json_t *results = run_json("tune --json --tokens 256 --output-dir out " SHAPE);
    const json_t *phase = json_array_get(at(results, "phases"), 0);
    const json_t *model = at(phase, "model");
    assert_true(json_array_size(at(at(model, "knobs"), "spin_count")) > 4);
    assert_true(json_number_value(at(json_array_get(at(phase, "candidates"), 0), "fitted_us")) >
                0.0);
    json_decref(results);
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 200", &value), "stored");
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 8", &value), "model");
    json_t *exported = run_json("tune export");
    json_decref(run_json("tune list --json"));
    char *text = json_dumps(exported, 0);
    json_decref(exported);
    program_write_file("import.json", text, strlen(text));
    free(text);
    program_t program = run("tune forget all", 0);
    program_release(&program);
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 8", &value), "default");
    program = run("tune import import.json", 0);
    program_release(&program);
    assert_string_equal(from_of("bench --json " SHAPE "--tokens 8", &value), "model");
    assert_int_equal(unlink("import.json"), 0);
}

static void test_a_time_limit_ends_the_search_and_keeps_the_best(void **state)
{
    (void)state;
    json_t *results = run_json("tune --mode grid --json --time-limit 1 " SMALL);
    assert_true(json_is_true(at(results, "out_of_time")));
    assert_true(json_is_false(at(results, "stopped")));
    assert_true(json_is_object(at(at(at(results, "performance"), "dispatch"), "default")));
    assert_true(json_integer_value(at(results, "measured")) > 5);
    json_decref(results);
    json_t *entries = run_json("tune list --json");
    assert_int_equal(json_array_size(at(entries, "entries")), 1);
    json_decref(entries);
}

static void test_a_grid_measures_all_and_explains(void **state)
{
    (void)state;
    program_t program = run("tune --mode grid --explain --spin-count 0:40:20 --yield-count 50,100 "
                            "--knob stream_min_bytes=4194304 --row-kernels=0 --num-tokens 16 "
                            "--output-dir out " SHAPE,
                            0);
    assert_non_null(strstr(program.out, "6 settings in all"));
    assert_non_null(strstr(program.out, "spin_count=40 yield_count=50 "));
    assert_non_null(strstr(program.out, "verdict "));
    assert_non_null(strstr(program.out, "stored    in "));
    program_release(&program);
}

static void test_a_setting_that_fails_is_recorded(void **state)
{
    bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    size_t failed = 0;
    size_t index;
    const json_t *candidate;
    (void)state;
    json_t *results = run_json("tune --mode grid --json --spin-count 20 --yield-count 100 "
                               "--stream-min-bytes 4194304 " SMALL);
    json_array_foreach(at(json_array_get(at(results, "phases"), 0), "candidates"), index, candidate)
    {
        check_candidate(candidate);
        failed += json_is_string(at(candidate, "error"));
    }
    assert_int_equal(index, 4);
    assert_true(!has_avx512 || failed == 0);
    json_decref(results);
}

static void nap_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* Lines of the only log. */
static int count_log_lines(void)
{
    char name[300];
    char path[400];
    int lines = 0;
    struct stat stat_of;
    if (stat("out/logs", &stat_of) != 0 || count_files("out/logs", name) != 1)
        return 0;
    (void)snprintf(path, sizeof(path), "out/logs/%s", name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        lines += c == '\n';
    (void)fclose(file);
    return lines;
}

static void test_a_stopped_run_goes_on_where_it_was(void **state)
{
    static const char arguments[] = "tune --mode full " SMALL;
    char name[300];
    (void)state;
    program_t stopped = program_start(arguments);
    for (int try = 0; try < 2000 && count_log_lines() < 5; try++)
        nap_ms(5);
    assert_int_equal(kill(stopped.pid, SIGINT), 0);
    program_finish(&stopped);
    assert_int_equal(stopped.signal, SIGINT);
    assert_non_null(strstr(stopped.err, "--resume goes on"));
    program_release(&stopped);
    int measured = count_log_lines();
    assert_true(measured >= 5);
    json_t *entries = run_json("tune list --json");
    assert_int_equal(json_array_size(at(entries, "entries")), 0);
    json_decref(entries);
    json_t *results = run_json("tune --mode full --json --resume " SMALL);
    assert_int_equal(json_integer_value(at(results, "resumed")), measured - 1);
    json_decref(results);
    assert_int_equal(count_files("out/logs", name), 1);
    program_t again = run("tune --mode full --resume " SMALL, 2);
    assert_non_null(strstr(again.err, "no unfinished run with this setup"));
    program_release(&again);
}

static void test_what_could_not_be_stored_is_stored_later(void **state)
{
    static const char arguments[] = "tune --mode quick --json --spin-count 20,40 "
                                    "--yield-count 100 --stream-min-bytes 4194304 "
                                    "--row-kernels 0 --store store " SMALL;
    (void)state;
    assert_int_equal(mkdir("store", 0700), 0);
    assert_int_equal(mkdir("store/tuning.txt", 0700), 0); /* where the file would be */
    program_t failed = run(arguments, 1);
    assert_non_null(strstr(failed.err, "tuning.txt: cannot be written"));
    assert_non_null(strstr(failed.err, "--resume goes on"));
    program_release(&failed);
    json_t *entries = run_json("tune list --json --store store");
    assert_int_equal(json_array_size(at(entries, "entries")), 0);
    json_decref(entries);
    assert_int_equal(rmdir("store/tuning.txt"), 0);
    char resumed[400];
    (void)snprintf(resumed, sizeof(resumed), "%s --resume", arguments);
    json_t *results = run_json(resumed);
    assert_true(json_integer_value(at(results, "resumed")) > 0);
    assert_true(json_integer_value(at(results, "measured")) <
                json_integer_value(at(results, "resumed")));
    json_decref(results);
    entries = run_json("tune list --json --store store");
    assert_int_equal(json_array_size(at(entries, "entries")), 1);
    json_decref(entries);
    assert_int_equal(system("rm -r store"), 0); /* NOLINT(cert-env33-c): our own folder */
}

static void test_two_tuners_at_once_both_store(void **state)
{
    char name[300];
    (void)state;
    program_t one = program_start("tune --mode quick --tokens 16 --output-dir out " SHAPE);
    program_t other = program_start("tune --mode quick --tokens 32 --output-dir out " SHAPE);
    program_finish(&one);
    program_finish(&other);
    if (one.exit_code != 0 || other.exit_code != 0)
        fail_msg("%s%s", one.err, other.err);
    program_release(&one);
    program_release(&other);
    assert_int_equal(count_files("out/logs", name), 2);
    json_t *entries = run_json("tune list --json");
    assert_int_equal(json_array_size(at(entries, "entries")), 2);
    json_decref(entries);
}

static void test_a_recorded_routing_can_be_tuned(void **state)
{
    (void)state;
    program_t program = run("bench --routing zipf:1.2 --record-routing routing.moxr " SHAPE
                            "--tokens 16 --iterations 1",
                            0);
    program_release(&program);
    json_t *results = run_json("tune --mode quick --json --routing file:routing.moxr --hidden 64 "
                               "--warmups 1 --iterations 3 --output-dir out");
    assert_string_equal(text_at(at(results, "setup"), "routing"), "file:routing.moxr");
    json_decref(results);
    assert_int_equal(unlink("routing.moxr"), 0);
}

static void test_bad_input_is_told(void **state)
{
    static const struct {
        const char *arguments;
        int exit_code;
        const char *words;
    } cases[] = {
        {"tune --mode fast", 2, "--mode: 'fast' is none of auto|quick|full|grid"},
        {"tune again", 2, "'again' is no option"},
        {"tune --backend shm --sms 16,24", 2, "--sms: there is no such option, and backend shm"},
        {"tune --spin-cuont 1", 2, "is it 'spin_count'?"},
        {"tune --spin-count", 2, "--spin-count: no option, and as a knob it needs values"},
        {"tune --spin-count 4:2", 2, "--spin-count: '4:2' is no list of values"},
        {"tune --knob spin_count", 2, "--knob: 'spin_count' is not NAME=VALUES"},
        {"tune --knob row_kernels=9", 2, "--knob row_kernels: 9 is out of range, it can be 0 to 3"},
        {"tune --time-limit 0", 2, "--time-limit: '0' is no number of seconds from 1 to"},
        {"tune --time-limit 5m", 2, "--time-limit: '5m' is no number"},
        {"tune --store ''", 2, "--store: must not be empty"},
        {"tune --store /dev/null/x", 2, "/dev/null/x: no such folder can be made"},
        {"tune --output-dir /dev/null/x " SHAPE, 2, "--output-dir: no folder can be made"},
        {"tune --resume " SMALL, 2, "--resume: out/logs has no unfinished run"},
        {"tune --tokens 0", 2, "--tokens: 0 is out of range"},
        {"tune show", 2, "show needs the number of an entry"},
        {"tune show x", 2, "show: 'x' is no number of an entry"},
        {"tune show 999", 2, "show: there is no entry 999"},
        {"tune forget 999", 2, "forget: there is no entry 999"},
        {"tune import", 2, "import needs a file"},
        {"tune import none.json", 2, "none.json"},
        {"tune import bad.json", 2, "bad.json:1: "},
        {"tune import other.json", 2, "other.json: no export of a tuning database"},
        {"tune import entry.json", 2, "entry.json: entry 1 makes no sense"},
        {"tune import model.json", 2, "model.json: entry 1 makes no sense"},
        {"tune list 1 2", 2, "'2' is one argument too many"},
    };
    static const char bad[] = "{";
    static const char other[] = "{\"schema\":\"moxie.bench/1\"}";
    static const char entry[] =
        "{\"schema\":\"moxie.tuning/1\",\"entries\":[{\"backend\":\"a b\"}]}";
    static const char model[] =
        "{\"schema\":\"moxie.tuning/1\",\"entries\":[{\"backend\":\"shm\",\"machine\":\"m\","
        "\"mode\":\"standard\",\"variant\":\"v\",\"ranks\":2,\"tokens\":8,\"hidden\":8,"
        "\"experts\":2,\"topk\":1,\"knobs\":{\"spin_count\":1},"
        "\"model\":{\"error\":1,\"knobs\":{\"spin_count\":[[1,2]]}}}]}";
    (void)state;
    program_write_file("bad.json", bad, strlen(bad));
    program_write_file("model.json", model, strlen(model));
    program_write_file("other.json", other, strlen(other));
    program_write_file("entry.json", entry, strlen(entry));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        program_t program = run(cases[i].arguments, cases[i].exit_code);
        if (strstr(program.err, cases[i].words) == NULL)
            fail_msg("%s: %s", cases[i].arguments, program.err);
        program_release(&program);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_run_leaves_its_files_and_an_entry, clean),
        cmocka_unit_test_setup(test_bench_and_info_use_the_nearest_entry, clean),
        cmocka_unit_test_setup(test_far_from_what_was_tuned_the_model_proposes, clean),
        cmocka_unit_test_setup(test_a_time_limit_ends_the_search_and_keeps_the_best, clean),
        cmocka_unit_test_setup(test_a_grid_measures_all_and_explains, clean),
        cmocka_unit_test_setup(test_a_setting_that_fails_is_recorded, clean),
        cmocka_unit_test_setup(test_a_stopped_run_goes_on_where_it_was, clean),
        cmocka_unit_test_setup(test_what_could_not_be_stored_is_stored_later, clean),
        cmocka_unit_test_setup(test_two_tuners_at_once_both_store, clean),
        cmocka_unit_test_setup(test_a_recorded_routing_can_be_tuned, clean),
        cmocka_unit_test_setup(test_bad_input_is_told, clean),
    };
    if (argc != 2)
        return 2;
    program_setup(argv[1]);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed != 0;
}
