/* SPDX-License-Identifier: Apache-2.0 */
/* Who started this process: from the variables that each launcher sets, one inside of another. */
#include "support/check.h"

#include "bench/launcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Variables and values in turn. */
#define SRUN                                                                                       \
    "SLURM_PROCID", "2", "SLURM_NTASKS", "4", "SLURM_STEP_ID", "0", "SLURM_JOB_ID", "7",           \
        "SLURM_STEP_NUM_NODES", "1"
#define MPIRUN                                                                                     \
    "OMPI_COMM_WORLD_RANK", "1", "OMPI_COMM_WORLD_SIZE", "3", "OMPI_COMM_WORLD_LOCAL_SIZE", "3",   \
        "PMIX_NAMESPACE", "55", "PMIX_RANK", "1"
#define TORCHRUN                                                                                   \
    "RANK", "0", "WORLD_SIZE", "2", "LOCAL_WORLD_SIZE", "2", "MASTER_ADDR", "host", "MASTER_PORT", \
        "29500"

static void set(const char *const variables[])
{
    assert_int_equal(clearenv(), 0);
    for (int i = 0; variables[i] != NULL; i += 2) {
        assert_int_equal(setenv(variables[i], variables[i + 1], 1), 0);
    }
}

static launcher_t find(const char *const variables[])
{
    launcher_t launcher;
    failure_t failure = {.exit_code = EXIT_DONE};
    set(variables);
    if (!launcher_find(&launcher, &failure)) {
        fail_msg("%s", failure.sentence);
    }
    assert_int_equal(clearenv(), 0);
    return launcher;
}

#define FIND(...) find((const char *const[]){__VA_ARGS__, NULL})

static void check(const launcher_t *launcher, const char *name, int32_t rank, int32_t rank_count)
{
    assert_string_equal(launcher->name, name);
    assert_int_equal(launcher->rank, rank);
    assert_int_equal(launcher->rank_count, rank_count);
    assert_int_equal(strncmp(launcher->job, name, strlen(name)), 0);
    assert_null(strchr(launcher->job, '/'));
}

static void test_each(void **state)
{
    (void)state;
    launcher_t launcher = FIND(SRUN);
    check(&launcher, "srun", 2, 4);
    launcher = FIND(SRUN, "PMIX_RANK", "3", "PMIX_NAMESPACE", "slurm.pmix.7.0");
    check(&launcher, "srun", 3, 4);
    launcher = FIND(MPIRUN);
    check(&launcher, "mpirun", 1, 3);
    launcher = FIND(TORCHRUN);
    check(&launcher, "torchrun", 0, 2);
}

static void test_none(void **state)
{
    (void)state;
    assert_null(FIND("HOME", "/").name);
    assert_null(FIND("PMIX_RANK", "0").name);
    /* A batch script, or a shell in an allocation, is no rank. */
    assert_null(FIND("SLURM_PROCID", "0", "SLURM_NTASKS", "4", "SLURM_JOB_ID", "7").name);
    assert_null(FIND(SRUN, "SLURM_STEP_ID", "4294967290").name);
}

static void test_one_inside_of_another(void **state)
{
    (void)state;
    launcher_t launcher = FIND(SRUN, MPIRUN);
    check(&launcher, "mpirun", 1, 3);
    launcher = FIND(SRUN, TORCHRUN, "TORCHELASTIC_RUN_ID", "none");
    check(&launcher, "torchrun", 0, 2);
    launcher = FIND(SRUN, "RANK", "2", "WORLD_SIZE", "4"); /* what scripts set for PyTorch */
    check(&launcher, "srun", 2, 4);
}

static void test_jobs_have_different_names(void **state)
{
    (void)state;
    launcher_t jobs[] = {
        FIND(TORCHRUN),
        FIND(TORCHRUN, "MASTER_PORT", "29501"),
        FIND(TORCHRUN, "MASTER_ADDR", "../host"),
        FIND(TORCHRUN, "TORCHELASTIC_RUN_ID", "none"),
        FIND(TORCHRUN, "TORCHELASTIC_RUN_ID", "none", "TORCHELASTIC_RESTART_COUNT", "1"),
        FIND(SRUN),
        FIND(SRUN, "SLURM_STEP_ID", "1"),
        FIND(SRUN, "SLURM_JOB_ID", "8"),
        FIND(SRUN, "SLURM_SRUN_COMM_PORT", "8"),
        FIND(MPIRUN),
        FIND(MPIRUN, "PMIX_SERVER_URI2", "55.0;tcp4://127.0.0.1:1"),
        FIND(MPIRUN, "PMIX_NAMESPACE", "a/../b and a name that is longer than all that is left"),
    };
    int count = (int)(sizeof(jobs) / sizeof(jobs[0]));
    for (int i = 0; i < count; i++) {
        assert_null(strchr(jobs[i].job, '/'));
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(jobs[i].job, jobs[j].job);
        }
    }
    launcher_t again = FIND(TORCHRUN, "RANK", "1");
    assert_string_equal(again.job, jobs[0].job);
}

static void test_hosts(void **state)
{
    (void)state;
    failure_t failure;
    launcher_t launcher = FIND(SRUN);
    assert_true(launcher_check_hosts(&launcher, &failure));
    launcher = FIND(SRUN, "SLURM_STEP_NUM_NODES", "2");
    assert_false(launcher_check_hosts(&launcher, &failure));
    assert_int_equal(failure.exit_code, EXIT_UNAVAILABLE);
    launcher = FIND(TORCHRUN, "LOCAL_WORLD_SIZE", "1");
    assert_false(launcher_check_hosts(&launcher, &failure));
    launcher = FIND(TORCHRUN, "LOCAL_WORLD_SIZE", "1", "GROUP_WORLD_SIZE", "2");
    assert_false(launcher_check_hosts(&launcher, &failure));
    assert_non_null(strstr(failure.sentence, "2 ranks on 2 hosts"));
}

/* "rank of count on host index", or why not. */
static const char *narrow(const char *const variables[])
{
    static char text[sizeof(((failure_t *)0)->sentence)];
    launcher_t launcher;
    failure_t failure = {.exit_code = EXIT_DONE};
    set(variables);
    assert_true(launcher_find(&launcher, &failure));
    if (launcher_narrow(&launcher, &failure)) {
        assert_true(launcher_check_hosts(&launcher, &failure));
        (void)snprintf(text, sizeof(text), "%d of %d on %d", launcher.rank, launcher.rank_count,
                       launcher.host_index);
    } else {
        assert_int_equal(failure.exit_code, EXIT_USAGE);
        memcpy(text, failure.sentence, sizeof(text));
    }
    assert_int_equal(clearenv(), 0);
    return text;
}

#define NARROW(...) narrow((const char *const[]){__VA_ARGS__, NULL})

#define STEP(tasks, node, local)                                                                   \
    "SLURM_PROCID", "5", "SLURM_NTASKS", "9", "SLURM_STEP_ID", "0", "SLURM_JOB_ID", "7",           \
        "SLURM_STEP_NUM_NODES", "3", "SLURM_STEP_TASKS_PER_NODE", tasks, "SLURM_NODEID", node,     \
        "SLURM_LOCALID", local

static void test_ranks_of_this_host(void **state)
{
    (void)state;
    assert_string_equal(NARROW("HOME", "/"), "0 of 1 on -1");
    assert_string_equal(NARROW(STEP("4(x2),1", "1", "1")), "1 of 4 on 1");
    assert_string_equal(NARROW(STEP("4(x2),1", "2", "0")), "0 of 1 on 2");
    assert_string_equal(NARROW(STEP("2,4,3", "1", "3")), "3 of 4 on 1");
    assert_string_equal(NARROW(STEP("3(x3)", "0", "2")), "2 of 3 on 0");
    assert_string_equal(NARROW(SRUN), "2 of 4 on -1");
    assert_string_equal(NARROW(MPIRUN), "1 of 3 on -1");
    assert_string_equal(
        NARROW(MPIRUN, "OMPI_COMM_WORLD_LOCAL_SIZE", "2", "OMPI_COMM_WORLD_LOCAL_RANK", "0"),
        "0 of 2 on -1");
    assert_string_equal(NARROW(TORCHRUN, "LOCAL_WORLD_SIZE", "1", "LOCAL_RANK", "0", "GROUP_RANK",
                               "1", "GROUP_WORLD_SIZE", "2"),
                        "0 of 1 on 1");
}

static void test_ranks_of_no_host(void **state)
{
    (void)state;
    static const char no_tasks[] = "does not say how many tasks host";
    assert_non_null(strstr(NARROW(STEP("4(x2),1", "3", "0")), no_tasks));
    assert_non_null(strstr(NARROW(STEP("", "0", "0")), no_tasks));
    assert_non_null(strstr(NARROW(STEP("4(x", "0", "0")), no_tasks));
    assert_non_null(strstr(NARROW(STEP("99(x3)", "0", "0")), no_tasks));
    assert_non_null(strstr(NARROW(STEP("4(x3)", "-1", "0")), "SLURM_NODEID"));
    assert_non_null(strstr(NARROW(STEP("4(x2),1", "0", "4")), "SLURM_LOCALID: '4' is not"));
    assert_non_null(strstr(NARROW(MPIRUN, "OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
                           "mpirun does not say which of its 3 ranks are on this host"));
    assert_non_null(strstr(NARROW(SRUN, "SLURM_STEP_NUM_NODES", "2"),
                           "srun does not say which of its 4 ranks are on this host"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_one_inside_of_another),
        cmocka_unit_test(test_jobs_have_different_names),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_ranks_of_this_host),
        cmocka_unit_test(test_ranks_of_no_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
