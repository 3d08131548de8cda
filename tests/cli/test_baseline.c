/* SPDX-License-Identifier: Apache-2.0 */
/* Baselines over the real mpirun: verified results, and a bounded, named end of runs that fail. */
#include "support/check.h"

#include "cli/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SMALL   "bench --tokens 48 --hidden 96 --iterations 3 --warmups 1 --json "
#define ENDLESS "bench --ranks 3 --tokens 64 --hidden 64 --iterations 1000000 --timeout 3 --json "

enum { RANK_COUNT = 3 };

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

/* The folder where ranks of a launcher meet stays for the next job; nothing is left in it. */
static void check_clean(const program_t *program)
{
    assert_true(rmdir("../run/moxie") == 0 || errno == ENOENT);
    program_check_clean(program);
}

static void check_call(const json_t *call)
{
    double p50 = json_number_value(json_object_get(json_object_get(call, "time_us"), "p50"));
    double share = json_number_value(json_object_get(call, "alltoallv_share"));
    assert_true(p50 > 0.0);
    assert_true(share > 0.0 && share < 1.5); /* medians of two distributions */
    assert_true(json_number_value(json_object_get(call, "speedup")) > 0.0);
    assert_true(json_is_null(json_object_get(call, "wait_us")));
    assert_true(json_number_value(json_object_get(call, "logical_bytes")) > 0.0);
    assert_true(json_array_size(json_object_get(call, "per_rank")) > 0);
}

static void check_run(const char *arguments, const char *name)
{
    program_t program = program_run(arguments);
    if (program.exit_code != 0) {
        fail_msg("%s: exit code %d: %s", arguments, program.exit_code, program.err);
    }
    json_t *record = program_json(&program);
    const json_t *baseline = json_object_get(record, "baseline");
    assert_true(json_is_true(json_object_get(record, "verified")));
    assert_string_equal(json_string_value(json_object_get(baseline, "name")), name);
    assert_non_null(strstr(json_string_value(json_object_get(baseline, "library")), "MPI"));
    check_call(json_object_get(baseline, "dispatch"));
    check_call(json_object_get(baseline, "combine"));
    assert_true(json_is_object(json_object_get(json_object_get(record, "dispatch"), "wait_us")));
    json_decref(record);
    check_clean(&program);
    program_release(&program);
}

static void test_verified(void **state)
{
    (void)state;
    check_run(SMALL "--ranks 3 --baseline mpi --layout expert_major --routing zipf:1.5", "mpi");
    check_run(SMALL "--ranks 3 --baseline mpi-dedup --layout expert_major --routing zipf:1.5",
              "mpi-dedup");
    check_run(SMALL "--ranks 2 --baseline mpi-dedup", "mpi-dedup");
}

static void test_verified_odd(void **state)
{
    (void)state;
    check_run(SMALL "--ranks 1 --baseline mpi --layout expert_major", "mpi");
    check_run(SMALL "--ranks 4 --baseline mpi --layout expert_major --experts 6 --topk 5 "
                    "--hidden 37 --route cached",
              "mpi");
    check_run(SMALL "--ranks 4 --baseline mpi-dedup --layout expert_major --experts 6 --topk 5 "
                    "--hidden 37 --route cached",
              "mpi-dedup");
    /* more ranks than experts: some receive nothing */
    check_run(SMALL "--ranks 4 --baseline mpi-dedup --experts 3 --topk 2", "mpi-dedup");
    check_run(SMALL "--ranks 4 --baseline mpi --layout expert_major --experts 3 --topk 2", "mpi");
    check_run(SMALL "--ranks 4 --baseline mpi-dedup --layout expert_major --experts 3 --topk 2",
              "mpi-dedup");
}

/* Rows large and many enough to be written past the caches. */
static void test_verified_streamed(void **state)
{
    (void)state;
    assert_int_equal(setenv("MOXIE_STREAM_MIN_BYTES", "0", 1), 0);
    check_run(SMALL "--ranks 2 --hidden 256 --baseline mpi --layout expert_major", "mpi");
    check_run(SMALL "--ranks 2 --hidden 256 --baseline mpi-dedup --layout expert_major",
              "mpi-dedup");
    check_run(SMALL "--ranks 2 --hidden 256 --baseline mpi-dedup", "mpi-dedup");
    assert_int_equal(unsetenv("MOXIE_STREAM_MIN_BYTES"), 0);
}

static void test_table(void **state)
{
    (void)state;
    program_t program = program_run("bench --ranks 2 --tokens 48 --hidden 96 --iterations 3 "
                                    "--baseline mpi-dedup");
    assert_int_equal(program.exit_code, 0);
    assert_non_null(strstr(program.out, "mpi-dedup dispatch"));
    assert_non_null(strstr(program.out, "mpi-dedup combine"));
    program_release(&program);
}

static void check_refused(const char *arguments, int exit_code, const char *sentence)
{
    program_t program = program_run(arguments);
    assert_int_equal(program.exit_code, exit_code);
    assert_string_equal(program.out, "");
    if (strstr(program.err, sentence) == NULL) {
        fail_msg("%s: no '%s' in: %s", arguments, sentence, program.err);
    }
    check_clean(&program);
    program_release(&program);
}

static void test_refused(void **state)
{
    (void)state;
    check_refused(SMALL "--baseline mpi", 2, "add --layout expert_major");
    check_refused(SMALL "--baseline mpi-dedup --direction backward", 2, "has no backward");
    const char *old_path = getenv("PATH");
    char *path = strdup(old_path == NULL ? "" : old_path);
    assert_non_null(path);
    assert_int_equal(setenv("PATH", "/nowhere", 1), 0);
    check_refused(SMALL "--baseline mpi-dedup", 77, "install openmpi-bin");
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
    assert_int_equal(setenv("OMPI_MCA_btl", "nonsense", 1), 0); /* MPI itself does not start */
    program_t program = program_run(SMALL "--ranks 2 --baseline mpi-dedup");
    assert_int_equal(program.exit_code, 1);
    assert_string_equal(program.out, "");
    assert_true(strlen(program.err) > 0);
    program_release(&program);
    assert_int_equal(unsetenv("OMPI_MCA_btl"), 0);
}

/* The ranks are children of mpirun, which is the child of the program. */
static void find_ranks(const program_t *program, pid_t ranks[RANK_COUNT])
{
    const program_t mpirun = {.pid = program_child(program, 0)};
    for (int rank = 0; rank < RANK_COUNT; rank++) {
        ranks[rank] = program_child(&mpirun, rank);
    }
}

static void check_gone(program_t *program, const pid_t ranks[RANK_COUNT])
{
    for (int rank = 0; rank < RANK_COUNT; rank++) {
        for (int try = 0; try < 400 && kill(ranks[rank], 0) == 0; try++) {
            nap_ms(10);
        }
        assert_int_equal(kill(ranks[rank], 0), -1);
        assert_int_equal(errno, ESRCH);
    }
    check_clean(program);
    program_release(program);
}

static void test_interrupt(void **state)
{
    (void)state;
    pid_t ranks[RANK_COUNT];
    program_t program = program_start(ENDLESS "--baseline mpi-dedup");
    find_ranks(&program, ranks);
    nap_ms(1000);
    double start_s = now_s();
    assert_int_equal(kill(-program.pid, SIGINT), 0);
    program_finish(&program);
    assert_int_equal(program.signal, SIGINT);
    assert_true(now_s() - start_s < 8.0);
    assert_string_equal(program.out, "");
    check_gone(&program, ranks);
}

static void test_killed_parent(void **state)
{
    (void)state;
    pid_t ranks[RANK_COUNT];
    program_t program = program_start(ENDLESS "--baseline mpi-dedup");
    find_ranks(&program, ranks);
    nap_ms(1000);
    assert_int_equal(kill(program.pid, SIGKILL), 0);
    program_finish(&program);
    check_gone(&program, ranks);
}

/* A rank that is killed or stopped, most likely inside MPI: exit code 3, one document. */
static void end_rank(int number, double seconds_max)
{
    pid_t ranks[RANK_COUNT];
    program_t program =
        program_start(ENDLESS "--baseline mpi --layout expert_major --hidden 4096 --tokens 256");
    find_ranks(&program, ranks);
    nap_ms(3000);
    double start_s = now_s();
    assert_int_equal(kill(ranks[1], number), 0);
    program_finish(&program);
    assert_true(now_s() - start_s < seconds_max);
    if (program.exit_code != 3) {
        fail_msg("exit code %d: %s", program.exit_code, program.err);
    }
    json_t *document = program_json(&program);
    const json_t *peers = json_object_get(json_object_get(document, "error"), "peers");
    assert_true(json_is_array(peers));
    json_decref(document);
    assert_true(strlen(program.err) > 0);
    check_gone(&program, ranks);
}

static void test_killed_rank(void **state)
{
    (void)state;
    end_rank(SIGKILL, 15.0);
}

static void test_stopped_rank(void **state)
{
    (void)state;
    end_rank(SIGSTOP, 25.0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verified),          cmocka_unit_test(test_verified_odd),
        cmocka_unit_test(test_verified_streamed), cmocka_unit_test(test_table),
        cmocka_unit_test(test_refused),           cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_killed_parent),     cmocka_unit_test(test_killed_rank),
        cmocka_unit_test(test_stopped_rank),
    };
    if (argc != 3) {
        return 2;
    }
    if (access(argv[2], R_OK) != 0) {
        (void)printf("skipped: the plug-in %s was not built, libopenmpi-dev is missing\n", argv[2]);
        return 77;
    }
    if (system("mpirun --version >/dev/null 2>&1") != 0) { /* NOLINT(cert-env33-c): no input */
        (void)printf("skipped: there is no mpirun, openmpi-bin is missing\n");
        return 77;
    }
    program_setup(argv[1]);
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
