/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that does not come, dies or is stopped: the others learn whom they missed at the deadline,
 * leave the group, and exchange in a new one in the same processes. Argument: processes or threads,
 * without one both. On cuda, or on the backend that MOXIE_TEST_BACKEND names. */
#include "cuda/flight.h"
#include "support/backends.h"
#include "support/check.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RANK_COUNT = 3, DEADLINE_MS = 1500, SLACK_MS = 1000, NEW_EXCHANGES = 5 };

typedef enum loss {
    LOSS_ABSENT, /* never calls */
    LOSS_KILLED, /* before the others call */
    LOSS_KILLED_LATER,
    LOSS_STOPPED,
} loss_t;

/* In memory that all ranks share. */
typedef struct fault {
    loss_t loss;
    int32_t victim;
    _Atomic int32_t survivors_done;
} fault_t;

static found_backend_t backend;
static world_mode_t mode;
static int32_t rank_count;

static const scenario_t shape = {.seed = 9500,
                                 .hidden = 96,
                                 .expert_count = 12,
                                 .topk = 4,
                                 .token_count_max = 24,
                                 .tokens = TOKENS_FULL,
                                 .layout = MOXIE_LAYOUT_EXPERT_MAJOR,
                                 .alignment = 8};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(int64_t time_ms)
{
    const struct timespec pause = {time_ms / 1000, time_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static moxie_group_t *make_group(world_rank_t *self, const char *name)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.timeout_us = DEADLINE_MS * INT64_C(1000);
    options.first_timeout_us = 60000000;
    return world_group_with(self, name, &options);
}

static bool is_expected(loss_t loss, moxie_status_t status)
{
    return status == MOXIE_ERR_TIMEOUT ||
           (status == MOXIE_ERR_PEER_LOST && (loss == LOSS_KILLED || loss == LOSS_KILLED_LATER));
}

/* The calls fail in time, and say where and because of whom. */
static void miss_the_victim(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    const fault_t *fault = self->arg;
    flight_load(flight, 1);
    const int64_t start_ms = now_ms();
    const moxie_status_t status = flight_settle(flight, flight_launch(flight));
    const int64_t time_ms = now_ms() - start_ms;
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    if (!is_expected(fault->loss, status)) {
        world_fail(self, "without rank %d: %s (%s)", fault->victim, moxie_status_name(status),
                   status == MOXIE_OK ? "" : error.message);
    } else if (error.peer != fault->victim || error.op[0] == '\0' || error.phase[0] == '\0') {
        world_fail(self, "the error names rank %d, op \"%s\", phase \"%s\", not rank %d: %s",
                   error.peer, error.op, error.phase, fault->victim, error.message);
    } else if (time_ms > DEADLINE_MS + SLACK_MS) {
        world_fail(self, "it took %d ms to learn it, with a deadline of %d ms", (int)time_ms,
                   DEADLINE_MS);
    } else if (moxie_group_status(group) == MOXIE_OK) {
        world_fail(self, "the group says that it works");
    }
}

/* Threads share a context, whose memory is not freed beside another rank's kernel: it may be
 * another deadline until all have left. */
static void leave(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    const int64_t limit_ms = mode == WORLD_THREADS ? DEADLINE_MS + SLACK_MS : SLACK_MS;
    const int64_t start_ms = now_ms();
    flight_close(flight);
    moxie_group_destroy(group);
    if (now_ms() - start_ms > limit_ms) {
        world_fail(self, "it took %d ms to leave the group", (int)(now_ms() - start_ms));
    }
}

/* The survivors, numbered anew. */
static void start_again(world_rank_t *self)
{
    const fault_t *fault = self->arg;
    world_options_t options = *self->options;
    options.rank_count--;
    world_rank_t again = *self;
    again.options = &options;
    again.rank -= self->rank > fault->victim;
    moxie_group_t *group = make_group(&again, "again");
    flight_t flight = {.self = NULL};
    bool good =
        group != NULL && flight_open(&flight, &again, group, &shape,
                                     flight_rows_max(&again, &shape), device_stream(again.device));
    for (uint64_t variant = 1; good && variant <= NEW_EXCHANGES; variant++) {
        good = flight_play(&flight, variant);
    }
    flight_close(&flight);
    moxie_group_destroy(group);
    if (!good) {
        world_fail(self, "among the survivors: %s", again.failure);
    }
}

static void survive(world_rank_t *self, moxie_group_t *group, flight_t *flight, pid_t victim)
{
    fault_t *fault = self->arg;
    miss_the_victim(self, group, flight);
    leave(self, group, flight);
    if (!self->failed) {
        start_again(self);
    }
    if (atomic_fetch_add(&fault->survivors_done, 1) + 2 == rank_count &&
        fault->loss == LOSS_STOPPED) {
        kill(victim, SIGCONT);
    }
}

/* Whoever comes back late is told, and disturbs nobody. */
static void be_lost(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    fault_t *fault = self->arg;
    switch (fault->loss) {
    case LOSS_ABSENT:
        for (int i = 0; i < 3000 && atomic_load(&fault->survivors_done) + 1 < rank_count; i++) {
            pause_ms(10);
        }
        break;
    case LOSS_KILLED_LATER:
        pause_ms(DEADLINE_MS / 4);
        self->may_be_killed = true;
        raise(SIGKILL);
        break;
    case LOSS_KILLED:
        self->may_be_killed = true;
        raise(SIGKILL);
        break;
    case LOSS_STOPPED:
        raise(SIGSTOP);
        flight_load(flight, 1);
        if (flight_settle(flight, flight_launch(flight)) == MOXIE_OK) {
            world_fail(self, "a rank that was stopped exchanges with ranks that have left");
        }
        break;
    }
    flight_close(flight);
    moxie_group_destroy(group);
}

static void play(world_rank_t *self)
{
    const fault_t *fault = self->arg;
    moxie_group_t *group = make_group(self, "first");
    if (group == NULL) {
        return;
    }
    flight_t flight = {.self = NULL};
    pid_t pids[RANK_COUNT] = {0};
    const pid_t mine = getpid();
    if (!flight_open(&flight, self, group, &shape, flight_rows_max(self, &shape),
                     device_stream(self->device)) ||
        !flight_play(&flight, 0) ||
        !world_expect(self, "allgather", moxie_group_allgather(group, &mine, sizeof(mine), pids),
                      MOXIE_OK)) {
        flight_close(&flight);
        moxie_group_destroy(group);
    } else if (self->rank == fault->victim) {
        be_lost(self, group, &flight);
    } else {
        survive(self, group, &flight, pids[fault->victim]);
    }
}

static void run(loss_t loss)
{
    if (mode == WORLD_THREADS && loss != LOSS_ABSENT) {
        skip(); /* threads do not die alone */
    }
    const world_options_t options = {
        .rank_count = rank_count, .mode = mode, .backend = backend.info.name, .deadline_s = 60};
    const int32_t victims[] = {rank_count - 1, 0};
    for (size_t i = 0; i < 2; i++) {
        fault_t *fault =
            mmap(NULL, sizeof(*fault), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(fault != MAP_FAILED);
        fault->loss = loss;
        fault->victim = victims[i];
        world_run(&options, play, fault);
        munmap(fault, sizeof(*fault));
    }
}

static void test_an_absent_rank(void **state)
{
    (void)state;
    run(LOSS_ABSENT);
}

static void test_a_killed_rank(void **state)
{
    (void)state;
    run(LOSS_KILLED);
}

static void test_a_rank_killed_while_others_wait(void **state)
{
    (void)state;
    run(LOSS_KILLED_LATER);
}

static void test_a_stopped_rank(void **state)
{
    (void)state;
    run(LOSS_STOPPED);
}

/* Tests that failed; -1 when they cannot run here. */
static int run_as(world_mode_t as)
{
    char lack[MOXIE_ERROR_MESSAGE_BYTES];
    mode = as;
    rank_count = RANK_COUNT;
    if (mode == WORLD_PROCESSES && backend.device_count == 2) {
        rank_count = 2; /* one survivor, who makes a group of one */
    }
    if (backends_lack(&backend, mode, rank_count, lack, sizeof(lack))[0] != '\0') {
        printf("SKIPPED: backend %s: %s\n", backend.info.name, lack);
        return -1;
    }
    printf("%d ranks as %s\n", rank_count, mode == WORLD_THREADS ? "threads" : "processes");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_absent_rank),
        cmocka_unit_test(test_a_killed_rank),
        cmocka_unit_test(test_a_rank_killed_while_others_wait),
        cmocka_unit_test(test_a_stopped_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    device_prepare_process();
    const char *name = backends_wanted("cuda");
    if (!backends_find(name, &backend)) {
        printf("SKIPPED: the library has no backend %s\n", name);
        return EXIT_SKIPPED;
    }
    return backends_run_modes(argc > 1 ? argv[1] : NULL, run_as);
}
