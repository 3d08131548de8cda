/* SPDX-License-Identifier: Apache-2.0 */
/* A rank stops in the middle of its payload. The survivors give the group up and make a new one.
 * Then it wakes up and writes the rest: no byte of the new group may change, and it gets an error.
 */
#include "support/check.h"

#include "moxie/moxie.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RANKS = 3, SLEEPER = 2, TOKENS = 512, HIDDEN = 256, ROWS = RANKS * TOKENS };

/* Exchanges of the new group before the sleeper is woken, and in all. */
enum { EXCHANGES_BEFORE = 5, EXCHANGES = 400 };

/* A poisoned rest of the window, which nobody ever writes to. */
enum { GUARD_BYTES = 1 << 20, POISON = 0xA5 };

typedef struct rows {
    float received[ROWS][HIDDEN];
    unsigned char guard[GUARD_BYTES];
} rows_t;

/* What all processes of the test share. */
typedef struct board {
    _Atomic int exchange_count; /* of the new group, by its rank 0 */
    _Atomic int is_awake;       /* the sleeper's call has returned */
    moxie_error_t error;        /* what it returned */
    _Atomic int wrong_count;
    char wrong[300]; /* the first one */
} board_t;

static board_t *board;
static char folder[] = "/tmp/moxie-resume-XXXXXX";
static bool is_backward;

__attribute__((format(printf, 1, 2))) static void tell_wrong(const char *format, ...)
{
    if (atomic_fetch_add(&board->wrong_count, 1) == 0) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(board->wrong, sizeof(board->wrong), format, arguments);
        va_end(arguments);
    }
}

static void must(moxie_status_t status, const char *what)
{
    if (status != MOXIE_OK) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        (void)moxie_last_error(&error);
        tell_wrong("%s: %s (%s)", what, moxie_status_name(status), error.message);
        _exit(1);
    }
}

/* One rank of a group, all its calls on one window. Expert r is on rank r, and every token goes to
 * all of them. */
typedef struct member {
    int32_t rank;
    int32_t rank_count;
    moxie_group_t *group;
    moxie_window_t *window;
    moxie_route_t *route;
    float (*home)[HIDDEN];
} member_t;

static void join(member_t *member, const char *name, int32_t rank, int32_t rank_count)
{
    char path[sizeof(folder) + 32];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    moxie_group_options_t group = MOXIE_GROUP_OPTIONS_INIT;
    *member = (member_t){.rank = rank, .rank_count = rank_count};
    group.rank = rank;
    group.rank_count = rank_count;
    group.backend = "shm";
    group.rendezvous = path;
    group.timeout_us = rank_count == RANKS ? 1000000 : 20000000;
    group.first_timeout_us = 20000000;
    must(moxie_group_create(&group, &member->group), "group_create");
    must(moxie_window_allocate(member->group, sizeof(rows_t), &member->window), "window");
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.expert_count = shape.topk = rank_count;
    shape.hidden = HIDDEN;
    shape.token_count_max = TOKENS;
    must(moxie_route_create(member->group, &shape, &member->route), "route_create");
    int32_t *expert = calloc((size_t)TOKENS * (size_t)rank_count, sizeof(*expert));
    member->home = calloc(TOKENS, sizeof(*member->home));
    if (expert == NULL || member->home == NULL) {
        _exit(1);
    }
    for (int32_t slot = 0; slot < TOKENS * rank_count; slot++) {
        expert[slot] = slot % rank_count;
    }
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS;
    routing.topk_idx = expert;
    must(moxie_route_update(member->route, &routing, NULL), "route_update");
    free(expert);
}

static void leave(member_t *member)
{
    moxie_route_destroy(member->route);
    moxie_window_free(member->window);
    moxie_group_destroy(member->group);
    free(member->home);
}

static float value_of(int32_t rank, int32_t round, int32_t token, int32_t column)
{
    return (float)(rank * 1000003 + round * 10007 + token * 257 + column);
}

/* Dispatch, or the backward pass of combine, which sends the same rows the same way. */
static moxie_status_t exchange(member_t *member, int32_t round)
{
    rows_t *rows = moxie_window_base(member->window);
    for (int32_t token = 0; token < TOKENS; token++) {
        for (int32_t column = 0; column < HIDDEN; column++) {
            member->home[token][column] = value_of(member->rank, round, token, column);
        }
    }
    if (is_backward) {
        moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
        moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
        in.d_out = member->home;
        in.dtype = MOXIE_DTYPE_FP32;
        out.row_capacity = ROWS;
        out.d_y = rows->received;
        return moxie_combine_backward(member->route, &in, &out, NULL);
    }
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    in.x = member->home;
    in.dtype = MOXIE_DTYPE_FP32;
    out.row_capacity = ROWS;
    out.recv_x = rows->received;
    return moxie_dispatch(member->route, &in, &out, NULL);
}

static void check_rows(const member_t *member, int32_t round)
{
    const rows_t *rows = moxie_window_base(member->window);
    for (int32_t row = 0; row < member->rank_count * TOKENS; row++) {
        for (int32_t column = 0; column < HIDDEN; column++) {
            if (rows->received[row][column] !=
                value_of(row / TOKENS, round, row % TOKENS, column)) {
                tell_wrong("round %d: row %d, column %d is %g", round, row, column,
                           (double)rows->received[row][column]);
                return;
            }
        }
    }
}

/* What the exchange does not write stays as it was poisoned. */
static void check_rest(const member_t *member, int32_t round)
{
    const rows_t *rows = moxie_window_base(member->window);
    const unsigned char *at = (const unsigned char *)rows->received[member->rank_count * TOKENS];
    for (; at < rows->guard + GUARD_BYTES; at++) {
        if (*at != POISON) {
            tell_wrong("round %d: byte %td of the window was written to", round,
                       at - (const unsigned char *)rows);
            return;
        }
    }
}

static void be_survivor(int32_t rank)
{
    member_t member;
    moxie_error_t error = MOXIE_ERROR_INIT;
    join(&member, "first", rank, RANKS);
    if (exchange(&member, 0) != MOXIE_ERR_TIMEOUT) {
        tell_wrong("rank %d missed nobody", rank);
    }
    (void)moxie_last_error(&error);
    if (error.peer != SLEEPER) {
        tell_wrong("rank %d blames %d", rank, error.peer);
    }
    leave(&member);
    join(&member, "second", rank, RANKS - 1);
    memset(moxie_window_base(member.window), POISON, moxie_window_bytes(member.window));
    for (int32_t round = 1; round <= EXCHANGES; round++) {
        must(exchange(&member, round), "exchange of the new group");
        check_rows(&member, round);
        if (round % 50 == 0 || round == EXCHANGES_BEFORE) {
            check_rest(&member, round);
        }
        if (rank == 0) {
            atomic_store(&board->exchange_count, round);
        }
    }
    leave(&member);
}

static void be_sleeper(void)
{
    member_t member;
    (void)setenv("MOXIE_FAULT",
                 is_backward ? "combine_backward.work:2:1:stop" : "dispatch.work:2:1:stop", 1);
    join(&member, "first", SLEEPER, RANKS);
    const moxie_status_t status = exchange(&member, 0);
    board->error.size = sizeof(board->error);
    (void)moxie_last_error(&board->error);
    board->error.status = status;
    atomic_store(&board->is_awake, atomic_load(&board->exchange_count) + 1);
    if (moxie_group_barrier(member.group) != MOXIE_ERR_REVOKED) {
        tell_wrong("the sleeper may go on with a group that failed");
    }
    leave(&member);
}

static pid_t start(int32_t rank)
{
    const pid_t parent = getpid();
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)alarm(60);
        if (getppid() != parent) {
            _exit(1);
        }
        if (rank == SLEEPER) {
            be_sleeper();
        } else {
            be_survivor(rank);
        }
        _exit(0);
    }
    return pid;
}

static void resume_in(bool backward)
{
    is_backward = backward;
    *board = (board_t){.wrong_count = 0};
    pid_t pids[RANKS];
    for (int32_t rank = 0; rank < RANKS; rank++) {
        pids[rank] = start(rank);
    }
    int status = 0;
    assert_int_equal(waitpid(pids[SLEEPER], &status, WUNTRACED), pids[SLEEPER]);
    assert_true(WIFSTOPPED(status));
    const struct timespec pause = {.tv_nsec = 200000};
    for (int try = 0; try < 100000 && atomic_load(&board->exchange_count) < EXCHANGES_BEFORE &&
                      atomic_load(&board->wrong_count) == 0;
         try++) {
        (void)nanosleep(&pause, NULL);
    }
    assert_int_equal(kill(pids[SLEEPER], SIGCONT), 0);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        assert_int_equal(waitpid(pids[rank], &status, 0), pids[rank]);
        if (status != 0 && board->wrong_count == 0) {
            fail_msg("rank %d ended with status %x", rank, (unsigned)status);
        }
    }
    if (board->wrong_count != 0) {
        fail_msg("%d times wrong, first: %s", board->wrong_count, board->wrong);
    }
    /* It woke up while the new group was exchanging, and learnt what the others had said of it. */
    assert_in_range(atomic_load(&board->is_awake), EXCHANGES_BEFORE + 1, EXCHANGES);
    assert_int_equal(board->error.status, MOXIE_ERR_TIMEOUT);
    assert_int_equal(board->error.peer, SLEEPER);
}

static void test_resumed_in_dispatch(void **state)
{
    (void)state;
    resume_in(false);
}

static void test_resumed_in_combine_backward(void **state)
{
    (void)state;
    resume_in(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resumed_in_dispatch),
        cmocka_unit_test(test_resumed_in_combine_backward),
    };
    board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED || mkdtemp(folder) == NULL) {
        return 1;
    }
    const int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    return rmdir(folder) != 0 || failed_count != 0;
}
