/* SPDX-License-Identifier: Apache-2.0 */
/* Small real runs: every routing, layout, direction and route is verified, and the JSON is what the
 * contract says. */
#include "support/check.h"

#include "cli/program.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A shape on which a run takes a fraction of a second. */
#define SMALL "--tokens 40 --hidden 70 --experts 11 --topk 3 --warmups 1 --iterations 4 "

static char text_path[1024];

static double number_at(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    if (!json_is_number(number))
        fail_msg("'%s' is no number", key);
    return json_number_value(number);
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (text == NULL)
        fail_msg("'%s' is no text", key);
    return text;
}

static void check_keys(const json_t *object, const char *const *keys, size_t count)
{
    assert_int_equal(json_object_size(object), count);
    for (size_t i = 0; i < count; i++)
        if (json_object_get(object, keys[i]) == NULL)
            fail_msg("there is no '%s'", keys[i]);
}

#define CHECK_KEYS(object, ...)                                                                    \
    do {                                                                                           \
        static const char *const wanted_keys[] = {__VA_ARGS__};                                    \
        check_keys(object, wanted_keys, sizeof(wanted_keys) / sizeof(wanted_keys[0]));             \
    } while (0)

static void check_stats(const json_t *stats, double least)
{
    CHECK_KEYS(stats, "min", "p50", "p90", "p99", "max");
    assert_true(number_at(stats, "min") >= least);
    assert_true(number_at(stats, "min") <= number_at(stats, "p50"));
    assert_true(number_at(stats, "p50") <= number_at(stats, "p90"));
    assert_true(number_at(stats, "p90") <= number_at(stats, "p99"));
    assert_true(number_at(stats, "p99") <= number_at(stats, "max"));
}

static void check_near(double value, double wanted)
{
    assert_true(fabs(value - wanted) <= 1e-4 * (fabs(wanted) + 1e-9));
}

static void check_call(const json_t *call, const json_t *record)
{
    CHECK_KEYS(call, "time_us", "wait_us", "phases_us", "logical_bytes", "wire_bytes",
               "logical_gbps", "wire_gbps", "ceiling_share", "per_rank");
    check_stats(json_object_get(call, "time_us"), 0.1);
    check_stats(json_object_get(call, "wait_us"), 0.0);
    double p50 = number_at(json_object_get(call, "time_us"), "p50");
    const json_t *per_rank = json_object_get(call, "per_rank");
    size_t rank_count = (size_t)number_at(record, "ranks");
    double logical = 0.0;
    double wire = 0.0;
    assert_int_equal(json_array_size(per_rank), rank_count);
    for (size_t rank = 0; rank < rank_count; rank++) {
        const json_t *entry = json_array_get(per_rank, rank);
        CHECK_KEYS(entry, "time_us", "wait_us", "logical_bytes", "wire_bytes");
        logical += number_at(entry, "logical_bytes") / (double)rank_count;
        wire += number_at(entry, "wire_bytes") / (double)rank_count;
        assert_true(number_at(entry, "wire_bytes") <= number_at(entry, "logical_bytes"));
        assert_true(number_at(entry, "time_us") > 0.0);
    }
    assert_true(fabs(number_at(call, "logical_bytes") - logical) <= 1.0);
    assert_true(fabs(number_at(call, "wire_bytes") - wire) <= 1.0);
    check_near(number_at(call, "logical_gbps"), logical / p50 / 1e3);
    check_near(number_at(call, "wire_gbps"), wire / p50 / 1e3);
    double ceiling = number_at(json_object_get(record, "ceiling"), "wire_gbps");
    if (rank_count > 1)
        check_near(number_at(call, "ceiling_share"), number_at(call, "wire_gbps") / ceiling);
    else
        assert_true(number_at(call, "ceiling_share") > 0.0);
}

static void check_record(const json_t *record)
{
    const char *name = NULL;
    json_t *knob = NULL;
    json_t *common = json_copy((json_t *)(uintptr_t)record);
    assert_true((json_object_del(common, "quantize") == 0) ==
                (strcmp(text_at(record, "dtype"), "fp8") == 0));
    CHECK_KEYS(common, "schema", "backend", "mode", "layout", "direction", "route", "launch",
               "ranks", "tokens", "hidden", "experts", "topk", "dtype", "routing", "seed",
               "verified", "dispatch", "combine", "ceiling", "baseline", "config", "machine",
               "version", "command");
    json_decref(common);
    assert_string_equal(text_at(record, "schema"), "moxie.bench/1");
    assert_string_equal(text_at(record, "backend"), "shm");
    assert_true(json_is_true(json_object_get(record, "verified")));
    assert_true(json_is_null(json_object_get(record, "baseline")));
    CHECK_KEYS(json_object_get(record, "ceiling"), "wire_gbps", "how");
    check_call(json_object_get(record, "dispatch"), record);
    check_call(json_object_get(record, "combine"), record);
    json_object_foreach(json_object_get(record, "config"), name, knob)
    {
        CHECK_KEYS(knob, "value", "from");
        assert_true(json_is_integer(json_object_get(knob, "value")));
        assert_string_equal(text_at(knob, "from"), "default");
    }
    const json_t *machine = json_object_get(record, "machine");
    assert_true(number_at(machine, "cores") >= 1);
    assert_true(number_at(machine, "memory_bytes") > 1e6);
    assert_true(text_at(machine, "cpu")[0] != '\0' && text_at(machine, "kernel")[0] != '\0');
}

static program_t succeed(const char *arguments)
{
    program_t program = program_run(arguments);
    if (program.exit_code != 0)
        fail_msg("moxie %s: exit code %d, signal %d\n%s%s", arguments, program.exit_code,
                 program.signal, program.out, program.err);
    if (program.err[0] != '\0')
        fail_msg("moxie %s: standard error is not empty:\n%s", arguments, program.err);
    return program;
}

static json_t *record_of(const char *arguments)
{
    program_t program = succeed(arguments);
    json_t *record = program_json(&program);
    program_check_clean(&program);
    program_release(&program);
    check_record(record);
    return record;
}

static void test_every_combination(void **state)
{
    (void)state;
    const char *const routings[] = {"uniform", "balanced", "zipf:1.2", text_path};
    static const char *const layouts[] = {"rank_major", "expert_major"};
    static const char *const ways[] = {"--direction forward --route fresh",
                                       "--direction forward --route cached",
                                       "--direction backward --route cached"};
    for (int i = 0; i < 24; i++) {
        char arguments[2048];
        const char *routing = routings[i / 6];
        const char *layout = layouts[i / 3 % 2];
        (void)snprintf(arguments, sizeof(arguments),
                       "bench --json --ranks 3 " SMALL "--routing %s --layout %s %s", routing,
                       layout, ways[i % 3]);
        json_t *record = record_of(arguments);
        assert_string_equal(text_at(record, "routing"), routing);
        assert_string_equal(text_at(record, "layout"), layout);
        assert_string_equal(text_at(record, "direction"), i % 3 == 2 ? "backward" : "forward");
        assert_string_equal(text_at(record, "route"), i % 3 == 0 ? "fresh" : "cached");
        assert_true(number_at(record, "tokens") == 40 && number_at(record, "hidden") == 70);
        json_decref(record);
    }
}

/* Modes and types: a row of fp8 takes a byte a column and four for each of its scales. */
static void test_modes_and_types(void **state)
{
    (void)state;
    static const char *const modes[] = {"standard", "low_latency"};
    static const char *const types[] = {"--dtype bf16", "--dtype fp8 --quantize ahead",
                                        "--dtype fp8 --quantize fused"};
    static const char *const layouts[] = {"rank_major", "expert_major"};
    for (int i = 0; i < 24; i++) {
        char arguments[512];
        const double hidden = i % 2 == 0 ? 70 : 600;
        const double row_bytes = i / 4 % 3 == 0 ? 2 * hidden : hidden + (i % 2 == 0 ? 4 : 20);
        (void)snprintf(arguments, sizeof(arguments),
                       "bench --json --ranks 3 " SMALL "--hidden %d --mode %s %s --layout %s "
                       "--route %s",
                       (int)hidden, modes[i / 12], types[i / 4 % 3], layouts[i / 2 % 2],
                       i % 2 == 0 ? "cached" : "fresh");
        json_t *record = record_of(arguments);
        const double rows = number_at(json_object_get(record, "combine"), "wire_bytes");
        assert_string_equal(text_at(record, "mode"), modes[i / 12]);
        check_near(number_at(json_object_get(record, "dispatch"), "wire_bytes") / row_bytes,
                   rows / (2 * hidden));
        json_decref(record);
    }
    json_t *record = record_of("bench --json --ranks 2 --hidden 64 --iterations 2 --mode "
                               "low_latency");
    assert_true(number_at(record, "tokens") == 128);
    json_decref(record);
}

static void test_odd_shapes(void **state)
{
    (void)state;
    static const char *const shapes[] = {
        "--ranks 1 --tokens 1 --hidden 1 --experts 1 --topk 1",
        "--ranks 5 --tokens 3 --hidden 7 --experts 3 --topk 1",
        "--ranks 2 --tokens 30 --hidden 3 --experts 64 --topk 64",
        "--ranks 2 --tokens 64 --hidden 16 --experts 8 --topk 2 --capacity 1000",
        "--ranks 2 --tokens 9 --hidden 16 --routing zipf:16",
        "--ranks 1 --tokens 1 --hidden 1 --experts 1 --topk 1 --dtype fp8 --quantize fused",
        "--ranks 5 --tokens 3 --hidden 7 --experts 3 --topk 1 --dtype fp8",
        "--ranks 5 --tokens 3 --hidden 7 --experts 3 --topk 1 --mode low_latency",
        "--ranks 5 --tokens 3 --hidden 7 --topk 1 --mode low_latency --layout expert_major",
    };
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        char arguments[512];
        (void)snprintf(arguments, sizeof(arguments), "bench --json --iterations 2 --warmups 0 %s",
                       shapes[i]);
        json_decref(record_of(arguments));
    }
}

static void test_launcher_of_one(void **state)
{
    (void)state;
    assert_int_equal(setenv("RANK", "0", 1) | setenv("WORLD_SIZE", "1", 1), 0);
    json_t *record = record_of("bench --json " SMALL);
    assert_int_equal(unsetenv("RANK") | unsetenv("WORLD_SIZE"), 0);
    assert_true(number_at(record, "ranks") == 1);
    json_decref(record);
}

static void test_config_equals_flags(void **state)
{
    (void)state;
    static const char config[] = "ranks = 2\ntokens = 20\nhidden = 64\nexperts = 6\ntopk = 2\n"
                                 "layout = 'expert_major'\nrouting = 'zipf:1'\nseed = 9\n"
                                 "iterations = 3\nwarmups = 0\njson = true\n";
    program_write_file("c.toml", config, strlen(config));
    json_t *from_file = record_of("bench --config c.toml --seed 10 --experts=7");
    json_t *from_flags =
        record_of("bench --ranks 2 --tokens 20 --hidden 64 --experts 7 --topk 2 --layout "
                  "expert_major --routing zipf:1 --seed 10 --iterations 3 --warmups 0 --json");
    static const char *const keys[] = {"ranks", "tokens", "hidden",  "experts",
                                       "topk",  "layout", "routing", "seed"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        assert_true(
            json_equal(json_object_get(from_file, keys[i]), json_object_get(from_flags, keys[i])));
    assert_string_equal(text_at(from_flags, "command"),
                        "moxie bench --ranks 2 --layout expert_major --tokens 20 --hidden 64 "
                        "--experts 7 --topk 2 --routing zipf:1 --seed 10 --warmups 0 "
                        "--iterations 3 --json");
    assert_true(number_at(json_object_get(from_file, "dispatch"), "wire_bytes") ==
                number_at(json_object_get(from_flags, "dispatch"), "wire_bytes"));
    json_decref(from_file);
    json_decref(from_flags);
}

static void compare_files(const char *one, const char *other)
{
    char command[256];
    (void)snprintf(command, sizeof(command), "cmp %s %s", one, other);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): fixed names */
}

static void refuse(const char *arguments, const char *part)
{
    program_t program = program_run(arguments);
    if (program.exit_code != 2 || strstr(program.err, part) == NULL)
        fail_msg("moxie %s: exit code %d\n%s", arguments, program.exit_code, program.err);
    program_check_clean(&program);
    program_release(&program);
}

static void test_record_and_replay(void **state)
{
    (void)state;
    program_t program = succeed("bench --ranks 2 " SMALL "--routing zipf:1 --record-routing one");
    program_release(&program);
    program = succeed("bench --json --hidden 70 --iterations 2 --routing file:one "
                      "--record-routing other");
    json_t *record = program_json(&program);
    check_record(record);
    assert_true(number_at(record, "ranks") == 2 && number_at(record, "tokens") == 40);
    assert_true(number_at(record, "experts") == 11 && number_at(record, "topk") == 3);
    json_decref(record);
    program_release(&program);
    compare_files("one", "other");
    refuse("bench --routing file:one --ranks 3", "--ranks: 3 contradicts one, which has 2");
    refuse("bench --routing file:one --experts 8", "--experts: 8 contradicts one, which has 11");
    refuse("bench --routing file:one --topk 8", "--topk: 8 contradicts one, which has 3");
    refuse("bench --routing file:one --tokens 8", "--tokens: 8 contradicts one, which has 40");
    refuse("bench --routing file:one --shape deepseek-v3", "--shape: 256 contradicts one");
}

static void test_output_folder(void **state)
{
    (void)state;
    program_t program = succeed("bench --ranks 2 " SMALL "--routing zipf:1.5 --output-dir a/b");
    const char *path = strstr(program.out, "a/b/bench_custom_zipf-1.5_");
    assert_non_null(path);
    assert_non_null(strstr(program.out, "verified"));
    assert_null(strstr(program.out, "NOT VERIFIED"));
    char file[512];
    (void)snprintf(file, sizeof(file), "%.*s/bench.json", (int)strcspn(path, "\n"), path);
    json_t *record = json_load_file(file, 0, NULL);
    assert_non_null(record);
    check_record(record);
    json_decref(record);
    (void)snprintf(file, sizeof(file), "%.*s/bench.txt", (int)strcspn(path, "\n"), path);
    struct stat text;
    assert_int_equal(stat(file, &text), 0);
    assert_int_equal(strncmp(program.out, "moxie bench: ", 13), 0);
    program_release(&program);
    DIR *entries = opendir("a/b");
    int entry_count = 0;
    while (readdir(entries) != NULL)
        entry_count++;
    (void)closedir(entries);
    assert_int_equal(entry_count, 3); /* ., .. and the results */
}

static void test_info_and_help(void **state)
{
    (void)state;
    program_t program = succeed("info --json");
    json_t *info = program_json(&program);
    assert_string_equal(text_at(info, "schema"), "moxie.info/1");
    assert_true(json_array_size(json_object_get(info, "backends")) >= 1);
    assert_true(json_array_size(json_object_get(info, "knobs")) >= 1);
    const json_t *gpus = json_object_get(info, "gpus");
    assert_true(json_is_array(json_object_get(gpus, "devices")));
    assert_true(json_is_array(json_object_get(gpus, "links")));
    size_t device_count = json_array_size(json_object_get(gpus, "devices"));
    assert_int_equal(text_at(gpus, "missing")[0] == '\0', device_count > 0);
    json_decref(info);
    program_release(&program);
    static const struct {
        const char *arguments;
        const char *part;
    } texts[] = {
        {"info", "works here"},
        {"--help", "Commands:"},
        {"help", "Commands:"},
        {"--version", "moxie "},
        {"help bench", "--tokens"},
        {"bench --help", "(default: 4096; in low_latency"},
        {"bench --version", "moxie"},
        {"info --help", "--json"},
        {"info", "GPUs"},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        program = succeed(texts[i].arguments);
        if (strstr(program.out, texts[i].part) == NULL)
            fail_msg("moxie %s: '%s' is not in:\n%s", texts[i].arguments, texts[i].part,
                     program.out);
        program_release(&program);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),   cmocka_unit_test(test_odd_shapes),
        cmocka_unit_test(test_modes_and_types),     cmocka_unit_test(test_launcher_of_one),
        cmocka_unit_test(test_config_equals_flags), cmocka_unit_test(test_record_and_replay),
        cmocka_unit_test(test_output_folder),       cmocka_unit_test(test_info_and_help),
    };
    if (argc != 3)
        return 2;
    (void)snprintf(text_path, sizeof(text_path), "text:%s", argv[2]);
    program_setup(argv[1]);
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
