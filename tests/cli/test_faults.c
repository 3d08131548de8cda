/* SPDX-License-Identifier: Apache-2.0 */
/* Stopped by a person, or a rank lost: bounded, named, nothing left behind. */
#include "support/check.h"

#include "cli/program.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Runs until it is stopped. */
#define ENDLESS                                                                                    \
    "bench --ranks 3 --tokens 64 --hidden 64 --iterations 1000000 --timeout 2 --output-dir res "   \
    "--record-routing recorded "

static void nap_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void stop_after(int number, long ms)
{
    program_t program = program_start(ENDLESS);
    (void)program_child(&program, 2);
    nap_ms(ms);
    double start_s = now_s();
    assert_int_equal(kill(-program.pid, number), 0); /* as a terminal does: the whole group */
    program_finish(&program);
    assert_int_equal(program.signal, number);
    assert_true(now_s() - start_s < 2.0);
    assert_string_equal(program.out, "");
    program_check_clean(&program);
    program_release(&program);
}

static void test_interrupt(void **state)
{
    (void)state;
    stop_after(SIGINT, 0);
    stop_after(SIGINT, 30);
    stop_after(SIGINT, 500);
}

static void test_terminate_parent_only(void **state)
{
    (void)state;
    program_t program = program_start(ENDLESS);
    (void)program_child(&program, 2);
    nap_ms(300);
    assert_int_equal(kill(program.pid, SIGTERM), 0);
    program_finish(&program);
    assert_int_equal(program.signal, SIGTERM);
    program_check_clean(&program);
    program_release(&program);
}

/* What a lost rank leaves on purpose: what the others did before. */
static void remove_flights(void)
{
    assert_int_equal(system("rm -rf res"), 0); /* NOLINT(cert-env33-c): our own folder, no input */
}

static void check_error(program_t *program, const char *status, int rank, pid_t pid)
{
    assert_int_equal(program->exit_code, 3);
    json_t *document = program_json(program);
    const json_t *error = json_object_get(document, "error");
    const json_t *peer = json_array_get(json_object_get(error, "peers"), 0);
    assert_string_equal(json_string_value(json_object_get(error, "status")), status);
    assert_true(json_string_length(json_object_get(error, "op")) > 0);
    assert_true(json_string_length(json_object_get(error, "phase")) > 0);
    assert_int_equal(json_integer_value(json_object_get(peer, "rank")), rank);
    assert_int_equal(json_integer_value(json_object_get(peer, "pid")), pid);
    json_decref(document);
    assert_non_null(strstr(program->err, "rank 1 (process "));
    remove_flights();
    program_check_clean(program);
    program_release(program);
}

static void test_killed_rank(void **state)
{
    (void)state;
    for (long ms = 0; ms <= 400; ms += 100) {
        program_t program = program_start(ENDLESS "--json");
        pid_t rank = program_child(&program, 1);
        nap_ms(ms);
        assert_int_equal(kill(rank, SIGKILL), 0);
        program_finish(&program);
        check_error(&program, "MOXIE_ERR_PEER_LOST", 1, rank);
    }
}

static void test_stopped_rank(void **state)
{
    (void)state;
    program_t program = program_start(ENDLESS "--json");
    pid_t rank = program_child(&program, 1);
    nap_ms(500);
    double start_s = now_s();
    assert_int_equal(kill(rank, SIGSTOP), 0);
    program_finish(&program);
    assert_true(now_s() - start_s < 20.0);
    check_error(&program, "MOXIE_ERR_TIMEOUT", 1, rank);
}

/* Not even the end of the starting process leaves ranks behind. */
static void test_killed_parent(void **state)
{
    (void)state;
    program_t program = program_start("bench --ranks 3 --tokens 64 --hidden 64 --iterations "
                                      "1000000");
    (void)program_child(&program, 2);
    nap_ms(500);
    assert_int_equal(kill(program.pid, SIGKILL), 0);
    program_finish(&program);
    assert_int_equal(program.signal, SIGKILL);
    program_check_clean(&program);
    program_release(&program);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interrupt),     cmocka_unit_test(test_terminate_parent_only),
        cmocka_unit_test(test_killed_rank),   cmocka_unit_test(test_stopped_rank),
        cmocka_unit_test(test_killed_parent),
    };
    if (argc != 2)
        return 2;
    program_setup(argv[1]);
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
