/* SPDX-License-Identifier: Apache-2.0 */
/* moxie suite run: small real runs, what they leave, and how they end when something goes wrong. */
#include "support/check.h"

#include "cli/program.h"

#include <glob.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A test whose runs take some milliseconds. */
#define SMALL                                                                                      \
    "name = 'small'\ndescription = 'd'\ntest_template_name = 'DeepEPBenchmark'\n[cmd_args]\n"      \
    "tokens = 24\nnum_experts = 6\nnum_topk = 2\nhidden_size = 70\nnum_warmups = 1\n"              \
    "num_iterations = 3\n"

#define RUN "suite run --test-scenario scenario.toml --backend shm --output-dir out "

static void write_text(const char *name, const char *text)
{
    program_write_file(name, text, strlen(text));
}

/* Folder, tests and scenario of a case. */
static void write_files(const char *test, const char *scenario)
{
    assert_int_equal(system("rm -rf out && mkdir out"), 0); /* NOLINT(cert-env33-c): our folder */
    write_text("test.toml", test);
    write_text("scenario.toml", scenario);
}

static program_t run(const char *arguments, int exit_code)
{
    program_t program = program_run(arguments);
    if (program.exit_code != exit_code)
        fail_msg("%s: exit code %d:\n%s%s", arguments, program.exit_code, program.out, program.err);
    program_check_clean(&program);
    return program;
}

static const json_t *at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL)
        fail_msg("there is no '%s'", key);
    return value;
}

static void assert_near(double value, double wanted, double error)
{
    if (!(fabs(value - wanted) <= error))
        fail_msg("%.9g is not %.9g", value, wanted);
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(at(object, key));
    return text == NULL ? "" : text;
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(at(object, key));
}

/* The one path that a pattern matches. */
static const char *find(const char *pattern)
{
    static char path[512];
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0 || found.gl_pathc != 1)
        fail_msg("there is not one %s", pattern);
    (void)snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
    globfree(&found);
    return path;
}

static json_t *load(const char *pattern)
{
    json_error_t error;
    json_t *document = json_load_file(find(pattern), 0, &error);
    if (document == NULL)
        fail_msg("%s:%d: %s", pattern, error.line, error.text);
    return document;
}

/* The run in a folder, as suite.json has it. */
static const json_t *run_of(const json_t *suite, const char *folder)
{
    size_t index;
    const json_t *test;
    json_array_foreach(at(suite, "tests"), index, test)
    {
        if (strcmp(text_at(test, "folder"), folder) == 0)
            return test;
    }
    fail_msg("there is no run %s", folder);
    return NULL;
}

static void check_status(const json_t *suite, const char *folder, const char *status,
                         const char *reason)
{
    const json_t *test = run_of(suite, folder);
    if (strcmp(text_at(test, "status"), status) != 0 ||
        strstr(text_at(test, "reason"), reason) == NULL)
        fail_msg("%s: %s: %s", folder, text_at(test, "status"), text_at(test, "reason"));
}

/* results.json against the record of the benchmark: the formulas of docs/suite.md. */
static void check_figures(const json_t *row, const json_t *bench)
{
    const json_t *call = at(bench, text_at(row, "operation"));
    double time_us = number_at(at(call, "time_us"), "p50");
    assert_string_equal(text_at(row, "backend"), "moxie");
    assert_int_equal(json_integer_value(at(row, "num_tokens")), 24);
    assert_int_equal(json_integer_value(at(row, "hidden")), 70);
    assert_near(number_at(row, "time_s"), time_us / 1e6, 1e-12);
    assert_near(number_at(row, "deepep_time"), time_us / 1e6, 1e-12);
    assert_near(number_at(row, "global_bw"), number_at(call, "logical_gbps"), 1e-6);
    assert_near(number_at(row, "simple_nvl_bw"), number_at(call, "logical_gbps"), 1e-6);
    assert_near(number_at(row, "bus_bw_avg"), number_at(call, "wire_gbps"), 1e-6);
    assert_near(number_at(row, "separate_nvl_bw"), number_at(call, "wire_gbps"), 1e-6);
    assert_true(number_at(row, "bus_bw_min") <= number_at(row, "bus_bw_avg"));
    assert_true(number_at(row, "bus_bw_max") >= number_at(row, "bus_bw_avg"));
    assert_true(number_at(row, "bus_bw_min") > 0.0);
    assert_true(number_at(row, "simple_rdma_bw") == 0.0);
    assert_true(number_at(row, "separate_rdma_bw") == 0.0);
}

/* The numbers of a file of `rows` lines with `columns` each. */
static void read_matrix(const char *pattern, int rows, int columns, double *out)
{
    char line[4096];
    int count = 0;
    FILE *file = fopen(find(pattern), "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        char *rest = NULL;
        int in_line = 0;
        for (char *word = strtok_r(line, " \n", &rest); word != NULL;
             word = strtok_r(NULL, " \n", &rest), in_line++) {
            assert_true(count < rows * columns);
            out[count++] = strtod(word, NULL);
        }
        assert_int_equal(in_line, columns);
    }
    (void)fclose(file);
    assert_int_equal(count, rows * columns);
}

static void check_matrices(const json_t *record)
{
    double experts[4][6];
    double kib[4][4];
    double bytes[4][4];
    char ucc[4096];
    const json_t *rows = at(at(record, "traffic"), "rows_to_rank");
    read_matrix("out/*/one/0/benchmark_*/token_matrix.txt", 4, 6, experts[0]);
    read_matrix("out/*/one/0/benchmark_*/token_matrix_kb.txt", 4, 4, kib[0]);
    read_matrix("out/*/one/0/benchmark_*/nccl_matrix.txt", 4, 4, bytes[0]);
    for (int rank = 0; rank < 4; rank++) {
        double slots = 0.0;
        for (int expert = 0; expert < 6; expert++)
            slots += experts[rank][expert];
        assert_true(slots == 24.0 * 2.0); /* every token, to both of its experts */
        for (int to = 0; to < 4; to++) {
            const json_t *row = json_array_get(json_array_get(rows, (size_t)rank), (size_t)to);
            assert_true(bytes[rank][to] == (double)json_integer_value(row) * 140.0);
            assert_near(kib[rank][to] * 1024.0, bytes[rank][to], 1e-4);
        }
    }
    FILE *file = fopen(find("out/*/one/0/benchmark_*/ucc_matrix.txt"), "r");
    assert_non_null(file);
    size_t length = fread(ucc, 1, sizeof(ucc) - 1, file);
    ucc[length] = '\0';
    (void)fclose(file);
    assert_int_equal(strncmp(ucc, "[collective]\ntype = ALLTOALLV\ncounts = {", 40), 0);
    assert_int_equal(strtol(ucc + 40, NULL, 10), (long)(bytes[0][0] / 2.0));
}

static int count_lines(const char *pattern)
{
    char line[4096];
    int count = 0;
    FILE *file = fopen(find(pattern), "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        count++;
    (void)fclose(file);
    return count;
}

static void test_a_run_leaves_the_whole_tree(void **state)
{
    (void)state;
    static const char *const files[] = {"cloudai_sbatch_script.sh",
                                        "config.yaml",
                                        "env_vars.sh",
                                        "hostfile.txt",
                                        "mapping-stdout.txt",
                                        "stdout.txt",
                                        "stderr.txt",
                                        "metadata/node-*.toml",
                                        "slurm-job.toml",
                                        "record.json",
                                        "test-run.toml",
                                        "report.csv",
                                        "benchmark_4_ranks_*_standard/results.json"};
    write_files(SMALL,
                "name = 'all'\n[[Tests]]\nid = 'one'\ntest_name = 'small'\nnodes = ['n1']\n");
    program_t program = run(RUN "--json", 0);
    json_t *suite = program_json(&program);
    assert_string_equal(text_at(suite, "schema"), "moxie.suite/1");
    assert_true(json_is_true(at(suite, "complete")));
    check_status(suite, "one/0", "passed", "");
    assert_true(json_is_true(at(run_of(suite, "one/0"), "verified")));
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char pattern[128];
        (void)snprintf(pattern, sizeof(pattern), "out/all_20*/one/0/%s", files[i]);
        (void)find(pattern);
    }
    json_t *record = load("out/*/one/0/record.json");
    json_t *results = load("out/*/one/0/benchmark_*/results.json");
    assert_int_equal(json_array_size(results), 2);
    check_figures(json_array_get(results, 0), at(record, "bench"));
    check_figures(json_array_get(results, 1), at(record, "bench"));
    check_matrices(record);
    assert_int_equal(count_lines("out/*/one/0/report.csv"), 3);
    assert_int_equal(count_lines("out/*/suite.csv"), 3);
    assert_int_equal(count_lines("out/*/one/0/hostfile.txt"), 4);
    json_decref(results);
    json_decref(record);
    json_decref(suite);
    program_release(&program);
}

/* One test fails in each way that needs no luck; the one behind them is run all the same. */
static void test_a_failing_test_does_not_stop_the_others(void **state)
{
    (void)state;
    write_files(SMALL, "name = 'mixed'\n"
                       "[[Tests]]\nid = 'knob'\ntest_name = 'small'\n"
                       "extra_env_vars = {MOXIE_SPIN_COUNT = 'nonsense'}\n"
                       "[[Tests]]\nid = 'large'\ntest_name = 'small'\n"
                       "cmd_args = {tokens = 16777216, hidden_size = 1048576}\n"
                       "[[Tests]]\nid = 'long'\ntest_name = 'small'\ntime_limit = '1s'\n"
                       "cmd_args = {tokens = 2048, hidden_size = 2048, num_iterations = 1000000}\n"
                       "[[Tests]]\nid = 'good'\ntest_name = 'small'\n");
    program_t program = run(RUN, 1);
    json_t *suite = load("out/*/suite.json");
    check_status(suite, "knob/0", "failed", "MOXIE_SPIN_COUNT is 'nonsense'");
    check_status(suite, "large/0", "refused", "are available");
    check_status(suite, "long/0", "timed_out", "the time limit of 1 s has passed");
    check_status(suite, "good/0", "passed", "");
    assert_int_equal(json_integer_value(at(suite, "failed")), 3);
    assert_non_null(strstr(program.err, "3 of 4 runs failed"));
    assert_non_null(strstr(program.out, "the time limit of 1 s has passed"));
    json_decref(suite);
    program_release(&program);
}

/* What the benchmark cannot do is told in its own words. */
static void test_the_benchmark_says_what_is_unsupported(void **state)
{
    (void)state;
    write_files(SMALL, "name = 'modes'\n[[Tests]]\nid = 'a'\ntest_name = 'small'\n"
                       "cmd_args = {mode = 'low_latency', data_type = 'fp8'}\n");
    program_t bench = program_run("bench --ranks 4 --backend shm --mode low_latency --dtype fp8 "
                                  "--tokens 24 --hidden 70 --experts 6 --topk 2 --iterations 3");
    program_t program = program_run(RUN);
    json_t *suite = load("out/*/suite.json");
    if (bench.exit_code == 77) {
        const char *reason = text_at(run_of(suite, "a/0"), "reason");
        check_status(suite, "a/0", "unsupported", "");
        if (reason[0] == '\0' || strstr(bench.err, reason) == NULL)
            fail_msg("'%s' is not what bench says: %s", reason, bench.err);
        assert_int_equal(program.exit_code, 1);
    } else {
        check_status(suite, "a/0", "passed", "");
    }
    json_decref(suite);
    program_release(&bench);
    program_release(&program);
}

static void test_sweeps_iterations_and_order(void **state)
{
    (void)state;
    static const char *const order[] = {"first/0", "second/0/1", "second/0/2", "second/1/1",
                                        "second/1/2"};
    write_files(SMALL, "name = 'sweep'\n"
                       "[[Tests]]\nid = 'second'\ntest_name = 'small'\niterations = 2\n"
                       "cmd_args = {tokens = [8, 16]}\n"
                       "dependencies = [{type = 'start_post_comp', id = 'first'}]\n"
                       "[[Tests]]\nid = 'first'\ntest_name = 'small'\nnum_nodes = 2\n");
    program_t program = run(RUN "--json", 0);
    json_t *suite = program_json(&program);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        assert_string_equal(text_at(json_array_get(at(suite, "tests"), i), "folder"), order[i]);
    assert_int_equal(json_integer_value(at(run_of(suite, "first/0"), "ranks")), 8);
    assert_int_equal(
        json_integer_value(at(at(run_of(suite, "second/1/2"), "parameters"), "tokens")), 16);
    json_decref(suite);
    program_release(&program);
}

/* Spans of each track lie inside or beside each other, and every rank has each kind. */
static void check_track(const json_t *events, int rank)
{
    size_t index;
    const json_t *event;
    int calls = 0;
    int phases = 0;
    json_array_foreach(events, index, event)
    {
        if (json_integer_value(at(event, "tid")) != rank || strcmp(text_at(event, "ph"), "X") != 0)
            continue;
        assert_true(number_at(event, "ts") >= 0.0 && number_at(event, "dur") >= 0.0);
        calls += strcmp(text_at(event, "cat"), "call") == 0;
        phases += strcmp(text_at(event, "name"), "work") == 0;
    }
    assert_int_equal(calls, 8);  /* four iterations of both */
    assert_int_equal(phases, 8); /* of dispatch and combine; a barrier has no payload */
}

static void test_a_profile_is_a_timeline(void **state)
{
    (void)state;
    write_files(SMALL "use_kineto_profiler = true\n",
                "name = 'trace'\n[[Tests]]\nid = 'one'\ntest_name = 'small'\n");
    program_t program = run(RUN, 0);
    json_t *trace = load("out/*/one/0/benchmark_*/trace.json");
    for (int rank = 0; rank < 4; rank++)
        check_track(at(trace, "traceEvents"), rank);
    json_decref(trace);
    program_release(&program);
}

/* Multiplies every time in the record of the earlier run. */
static void change_times(const char *pattern, double factor)
{
    size_t index;
    json_t *test;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s", find(pattern));
    json_t *suite = load(path);
    json_array_foreach(json_object_get(suite, "tests"), index, test)
    {
        for (int i = 0; i < 2; i++) {
            json_t *call = json_object_get(test, i == 0 ? "dispatch" : "combine");
            json_object_set_new(call, "time_us", json_real(factor * number_at(call, "time_us")));
        }
    }
    assert_int_equal(json_dump_file(suite, path, 0), 0);
    json_decref(suite);
}

static void test_a_regression_fails(void **state)
{
    (void)state;
    write_files(SMALL, "name = 'compare'\n[[Tests]]\nid = 'one'\ntest_name = 'small'\n");
    assert_int_equal(system("rm -rf earlier"), 0); /* NOLINT(cert-env33-c): our folder */
    program_t program = run(RUN, 0);
    program_release(&program);
    assert_int_equal(rename(find("out/compare_*"), "earlier"), 0);
    change_times("earlier/suite.json", 1e6); /* it was very slow then */
    program = run(RUN "--baseline earlier --fail-below 0.95 --json", 0);
    json_t *suite = program_json(&program);
    const json_t *row = json_array_get(at(at(suite, "baseline"), "rows"), 0);
    assert_string_equal(text_at(row, "operation"), "dispatch");
    assert_true(number_at(row, "speed") > 1.0 && json_is_false(at(row, "is_regression")));
    json_decref(suite);
    program_release(&program);
    change_times("earlier/suite.json", 1e-12); /* and now it was very fast */
    program = run(RUN "--baseline earlier --fail-below 0.95", 1);
    assert_non_null(strstr(program.out, "SLOWER"));
    assert_non_null(strstr(program.err, "2 calls are slower than 0.95 times earlier"));
    program_release(&program);
    program = run(RUN "--baseline earlier", 0); /* no threshold: only told */
    program_release(&program);
    program = run(RUN "--baseline nowhere", 2);
    assert_non_null(strstr(program.err, "nowhere/suite.json: No such file"));
    program_release(&program);
}

/* Waits until a run has been written down. */
static void wait_for_record(void)
{
    const struct timespec pause = {0, 10000000};
    struct stat stat_of;
    for (int try = 0; try < 1000; try++) {
        glob_t found;
        bool is_there = glob("out/*/suite.json", 0, NULL, &found) == 0 &&
                        stat(found.gl_pathv[0], &stat_of) == 0;
        globfree(&found);
        if (is_there)
            return;
        (void)nanosleep(&pause, NULL);
    }
    fail_msg("no run was written down");
}

static void test_an_interrupted_suite_keeps_what_is_finished(void **state)
{
    (void)state;
    write_files(SMALL, "name = 'stopped'\n"
                       "[[Tests]]\nid = 'done'\ntest_name = 'small'\n"
                       "[[Tests]]\nid = 'long'\ntest_name = 'small'\n"
                       "cmd_args = {tokens = 2048, hidden_size = 2048, num_iterations = 1000000}\n"
                       "[[Tests]]\nid = 'never'\ntest_name = 'small'\n");
    program_t program = program_start(RUN);
    wait_for_record();
    (void)program_child(&program, 3); /* the long one's ranks */
    assert_int_equal(kill(program.pid, SIGINT), 0);
    program_finish(&program);
    assert_int_equal(program.signal, SIGINT);
    program_check_clean(&program);
    json_t *suite = load("out/*/suite.json");
    check_status(suite, "done/0", "passed", "");
    check_status(suite, "long/0", "cancelled", "stopped by signal 2");
    check_status(suite, "never/0", "not_run", "");
    assert_true(json_is_false(at(suite, "complete")));
    (void)find("out/*/done/0/benchmark_*/results.json");
    json_decref(suite);
    program_release(&program);
}

/* A test whose rank is killed is lost, and the next one runs. */
static void test_a_killed_rank_is_told(void **state)
{
    (void)state;
    write_files(SMALL, "name = 'killed'\n"
                       "[[Tests]]\nid = 'long'\ntest_name = 'small'\n"
                       "cmd_args = {tokens = 2048, hidden_size = 2048, num_iterations = 1000000}\n"
                       "[[Tests]]\nid = 'next'\ntest_name = 'small'\n");
    program_t program = program_start(RUN);
    assert_int_equal(kill(program_child(&program, 3), SIGKILL), 0);
    program_finish(&program);
    assert_int_equal(program.exit_code, 1);
    program_check_clean(&program);
    json_t *suite = load("out/*/suite.json");
    check_status(suite, "long/0", "lost", "signal 9");
    check_status(suite, "next/0", "passed", "");
    json_decref(suite);
    program_release(&program);
}

static void test_nothing_runs_when_a_file_is_wrong(void **state)
{
    (void)state;
    write_files(SMALL "num_topk_ = 3\n", "name = 'bad'\n[[Tests]]\nid = 'one'\ntest_name = 'smal'\n"
                                         "[[Tests]]\nid = 'two'\ntest_name = 'small'\n");
    program_t program = run(RUN, 2);
    assert_non_null(strstr(program.err, "scenario.toml:4:1: error: Tests.test_name: there is no "
                                        "test 'smal', is it 'small'?"));
    assert_non_null(strstr(program.err, "cmd_args.num_topk_: there is no such key, is it"));
    assert_non_null(strstr(program.err, "2 errors in the files; nothing was run"));
    assert_int_equal(rmdir("out"), 0); /* it is empty */
    program_release(&program);
}

static void test_a_mismatch_fails(void **state)
{
    const char *preload = *state;
    if (preload == NULL) {
        skip();
        return;
    }
    write_files(SMALL, "name = 'corrupt'\n[[Tests]]\nid = 'one'\ntest_name = 'small'\n");
    assert_int_equal(setenv("LD_PRELOAD", preload, 1) | setenv("CORRUPT", "out", 1), 0);
    program_t program = program_run(RUN);
    assert_int_equal(unsetenv("LD_PRELOAD") | unsetenv("CORRUPT"), 0);
    assert_int_equal(program.exit_code, 1);
    json_t *suite = load("out/*/suite.json");
    check_status(suite, "one/0", "mismatch", "out row 0");
    assert_true(json_is_false(at(run_of(suite, "one/0"), "verified")));
    json_decref(suite);
    program_release(&program);
}

int main(int argc, char **argv)
{
    char *preload = argc > 2 ? argv[2] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_leaves_the_whole_tree),
        cmocka_unit_test(test_a_failing_test_does_not_stop_the_others),
        cmocka_unit_test(test_the_benchmark_says_what_is_unsupported),
        cmocka_unit_test(test_sweeps_iterations_and_order),
        cmocka_unit_test(test_a_profile_is_a_timeline),
        cmocka_unit_test(test_a_regression_fails),
        cmocka_unit_test(test_an_interrupted_suite_keeps_what_is_finished),
        cmocka_unit_test(test_a_killed_rank_is_told),
        cmocka_unit_test(test_nothing_runs_when_a_file_is_wrong),
        cmocka_unit_test_prestate(test_a_mismatch_fails, preload),
    };
    if (argc < 2)
        return 2;
    program_setup(argv[1]);
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
