/* SPDX-License-Identifier: Apache-2.0 */
/* moxie bench with faults injected into its ranks: it ends in time with exit code 3, names rank,
 * process and phase, ends its ranks, stopped ones too, and leaves nothing behind but, where it was
 * asked for a folder, what the ranks did. */
#include "support/check.h"

#include "cli/program.h"

#include <dirent.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BENCH "bench --ranks 3 --tokens 32 --hidden 64 --warmups 2 --iterations 100000 --timeout 1 "

/* Longest that a loss may take to be told: two seconds of grace for the other ranks' word. */
enum { KILL_S_MAX = 5, STOP_S_MAX = 6 };

typedef struct bench_case {
    const char *phase;
    const char *op_told; /* NULL: whatever the program was doing */
    const char *phase_told;
    const char *arguments;
    int rank;
    int visit;
} bench_case_t;

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void nap_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

static void set_fault(const char *phase, int rank, int visit, const char *action)
{
    char fault[128];
    (void)snprintf(fault, sizeof(fault), "%s:%d:%d:%s", phase, rank, visit, action);
    assert_int_equal(setenv("MOXIE_FAULT", fault, 1), 0);
}

static void check_no_segments(void)
{
    glob_t found;
    assert_int_equal(glob("/dev/shm/*moxie*", 0, NULL, &found), GLOB_NOMATCH);
}

static void check_told(program_t *program, const bench_case_t *which, const char *status)
{
    char rank[32];
    if (program->exit_code != 3) {
        fail_msg("%s: exit code %d: %s", which->phase, program->exit_code, program->err);
    }
    json_t *document = program_json(program);
    const json_t *error = json_object_get(document, "error");
    const json_t *peer = json_array_get(json_object_get(error, "peers"), 0);
    const char *op = json_string_value(json_object_get(error, "op"));
    const char *phase = json_string_value(json_object_get(error, "phase"));
    assert_string_equal(json_string_value(json_object_get(error, "status")), status);
    assert_int_equal(json_integer_value(json_object_get(peer, "rank")), which->rank);
    assert_true(op != NULL && phase != NULL && op[0] != '\0' && phase[0] != '\0');
    if (which->op_told != NULL) {
        assert_string_equal(op, which->op_told);
        assert_string_equal(phase, which->phase_told);
    }
    (void)snprintf(rank, sizeof(rank), "rank %d (process %d)", which->rank,
                   (int)json_integer_value(json_object_get(peer, "pid")));
    if (strstr(program->err, rank) == NULL) {
        fail_msg("%s: '%s' is not in: %s", which->phase, rank, program->err);
    }
    json_decref(document);
}

static void run_case(const bench_case_t *which, const char *action, const char *status,
                     double limit_s)
{
    char arguments[256];
    (void)snprintf(arguments, sizeof(arguments), BENCH "--json %s", which->arguments);
    set_fault(which->phase, which->rank, which->visit, action);
    const double start_s = now_s();
    program_t program = program_run(arguments);
    if (now_s() - start_s > limit_s) {
        fail_msg("%s: %s took %.1f s", which->phase, action, now_s() - start_s);
    }
    check_told(&program, which, status);
    check_no_segments();
    program_check_clean(&program);
    program_release(&program);
}

static void test_killed_in_every_phase(void **state)
{
    (void)state;
    static const bench_case_t cases[] = {
        {"join", NULL, NULL, "", 0, 1},
        {"join", NULL, NULL, "", 1, 1},
        {"introduce", NULL, NULL, "", 0, 1},
        {"introduce", NULL, NULL, "", 2, 1},
        {"window", "window_allocate", "agree", "", 0, 1},
        {"window", "window_allocate", "agree", "", 2, 1},
        {"route_update.begin", "route_update", "meet", "", 0, 5},
        {"route_update.post", "dispatch", "meet", "", 1, 5},
        {"dispatch.begin", "dispatch", "meet", "", 2, 5},
        {"dispatch.post", "dispatch", "finish", "", 0, 5},
        {"dispatch.work", "dispatch", "finish", "", 1, 5},
        {"dispatch.finish", "dispatch", "finish", "", 2, 5},
        {"dispatch.leave", NULL, "meet", "", 0, 5},
        {"combine.begin", "combine", "meet", "", 1, 5},
        {"combine.work", "combine", "finish", "", 2, 5},
        {"barrier.begin", "barrier", "meet", "", 0, 9},
        {"barrier.post", NULL, NULL, "", 1, 9},
        {"ceiling.finish", "ceiling", "finish", "", 2, 2},
        {"dispatch_backward.work", "dispatch_backward", "finish", "--direction backward", 0, 5},
        {"combine_backward.work", "combine_backward", "finish", "--direction backward", 1, 5},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        run_case(&cases[i], "kill", "MOXIE_ERR_PEER_LOST", KILL_S_MAX);
    }
}

static void test_stopped(void **state)
{
    (void)state;
    static const bench_case_t cases[] = {
        {"dispatch.work", "dispatch", "finish", "", 0, 5},
        {"combine.begin", "combine", "meet", "", 2, 5},
        {"barrier.begin", "barrier", "meet", "", 1, 9},
        {"combine_backward.post", "combine_backward", "finish", "--direction backward", 1, 5},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        run_case(&cases[i], "stop", "MOXIE_ERR_TIMEOUT", STOP_S_MAX);
    }
}

/* The first calls have ten times the time. */
static void test_stopped_before_they_met(void **state)
{
    (void)state;
    const bench_case_t which = {"join", "group_create", "join", "", 1, 1};
    run_case(&which, "stop", "MOXIE_ERR_TIMEOUT", 10 + STOP_S_MAX);
}

/* With ranks stopped, waiting for them, or killed by the same key. */
static void test_interrupted_in_several_phases(void **state)
{
    (void)state;
    static const char *const phases[] = {"join", "introduce", "window", "dispatch.work",
                                         "barrier.post"};
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
        set_fault(phases[i], (int)i % 3, 1, "stop");
        program_t program = program_start(BENCH "--output-dir res");
        (void)program_child(&program, 2);
        nap_ms(300);
        const double start_s = now_s();
        assert_int_equal(kill(-program.pid, SIGINT), 0);
        program_finish(&program);
        assert_int_equal(program.signal, SIGINT);
        assert_true(now_s() - start_s < 2.0);
        check_no_segments();
        program_check_clean(&program);
        program_release(&program);
    }
}

/* A stopped rank ends with its parent like the others. */
static void test_parent_killed_while_a_rank_is_stopped(void **state)
{
    (void)state;
    set_fault("dispatch.work", 1, 5, "stop");
    program_t program = program_start(BENCH);
    (void)program_child(&program, 2);
    nap_ms(500);
    assert_int_equal(kill(program.pid, SIGKILL), 0);
    program_finish(&program);
    assert_int_equal(program.signal, SIGKILL);
    check_no_segments();
    program_check_clean(&program);
    program_release(&program);
}

static char *read_file(const char *path)
{
    static char text[65536];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    return text;
}

static void test_flight_recorders_are_kept(void **state)
{
    (void)state;
    glob_t found;
    set_fault("combine.work", 1, 5, "kill");
    program_t program = program_run(BENCH "--output-dir res");
    assert_int_equal(program.exit_code, 3);
    assert_non_null(strstr(program.err, "what rank 0 did last:\n  op "));
    assert_non_null(strstr(program.err, "res/failed_"));
    assert_int_equal(glob("res/failed_*/*", 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 2); /* not of the rank that was killed */
    assert_non_null(strstr(found.gl_pathv[0], "/flight_rank0.txt"));
    assert_non_null(strstr(found.gl_pathv[1], "/flight_rank2.txt"));
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *text = read_file(found.gl_pathv[i]);
        assert_non_null(strstr(text, " combine "));
        assert_non_null(strstr(text, "MOXIE_ERR_PEER_LOST"));
        assert_non_null(strstr(text, "\n  rank 1    last to come "));
    }
    globfree(&found);
    assert_int_equal(system("rm -r res"), 0); /* NOLINT(cert-env33-c): our own folder, no input */
    program_check_clean(&program);
    program_release(&program);
}

/* The library itself speaks only when asked to. */
static void test_log(void **state)
{
    (void)state;
    set_fault("combine.work", 1, 5, "kill");
    program_t program = program_run(BENCH);
    assert_null(strstr(program.err, "moxie flight recorder of rank"));
    program_check_clean(&program);
    program_release(&program);
    assert_int_equal(setenv("MOXIE_LOG", "1", 1), 0);
    program = program_run(BENCH);
    assert_int_equal(unsetenv("MOXIE_LOG"), 0);
    assert_non_null(strstr(program.err, "moxie flight recorder of rank 0 of 3"));
    assert_non_null(strstr(program.err, "moxie flight recorder of rank 2 of 3"));
    program_check_clean(&program);
    program_release(&program);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest slow[] = {
        cmocka_unit_test(test_stopped_before_they_met),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_in_every_phase),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_interrupted_in_several_phases),
        cmocka_unit_test(test_parent_killed_while_a_rank_is_stopped),
        cmocka_unit_test(test_flight_recorders_are_kept),
        cmocka_unit_test(test_log),
    };
    if (argc < 2) {
        return 2;
    }
    program_setup(argv[1]);
    const int failed_count = argc > 2 ? cmocka_run_group_tests(slow, NULL, NULL)
                                      : cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
