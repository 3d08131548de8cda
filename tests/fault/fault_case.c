/* SPDX-License-Identifier: Apache-2.0 */
/* Runs cases: a process that watches, and the ranks below it. */
#include "fault/fault_case.h"

#include "fault/fault_rank.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Cases at a time, and how long one may take in all. */
enum { PARALLEL_COUNT = 8, CASE_LIMIT_S = 30 };

/* A case that was late is played again alone: what others make of the machine passes, a defect of
 * this library comes back each time. */
enum { REPEAT_COUNT = 3 };

/* A deadline may be passed by so much, or by a tenth. */
enum { MARGIN_US = 250000 };

/* Leaving a group waits for nobody; this is what a busy machine may make of it. */
enum { DESTROY_US_MAX = 200000 };

typedef enum verdict { VERDICT_NONE, VERDICT_GOOD, VERDICT_LATE, VERDICT_BAD } verdict_t;

/* A case and what its watcher found, in memory that all processes share. */
typedef struct trial {
    fault_case_t which;
    verdict_t verdict;
    char why[600];
    int64_t over_us;  /* TIMEOUT: the most by which a survivor passed its deadline */
    int64_t found_us; /* PEER_LOST: the longest that a survivor took */
    fault_result_t results[FAULT_RANK_COUNT_MAX];
} trial_t;

typedef struct thread_rank {
    const fault_case_t *which;
    int32_t rank;
    const char *socket;
    fault_result_t *result;
} thread_rank_t;

static const char *const step_names[STEP_COUNT] = {"group_create",
                                                   "window_allocate",
                                                   "route_update",
                                                   "dispatch",
                                                   "combine",
                                                   "dispatch_backward",
                                                   "combine_backward",
                                                   "low_latency_dispatch",
                                                   "low_latency_dispatch",
                                                   "low_latency_combine",
                                                   "barrier"};
static const char *const action_names[ACTION_COUNT] = {"kill", "stop", "absent", "absent thread"};

const char *const *fault_phases(fault_step_t step)
{
    static const char *const creation[] = {"join", "introduce", NULL};
    static const char *const window[] = {"window", NULL};
    static const char *const meeting[] = {"begin", "post", NULL};
    static const char *const exchange[] = {"begin", "post", "work", "finish", "leave", NULL};
    switch (step) {
    case STEP_CREATE:
        return creation;
    case STEP_WINDOW:
        return window;
    case STEP_UPDATE:
    case STEP_BARRIER:
        return meeting;
    default:
        return exchange;
    }
}

static void describe(const fault_case_t *which, char *text, size_t bytes)
{
    (void)snprintf(text, bytes, "%s %s %s of rank %d of %d, round %d", step_names[which->step],
                   which->phase, action_names[which->action], which->rank, which->rank_count,
                   which->round);
}

/* Where survivors must find out. A rank that had done its part before is missed by the next call.
 */
typedef struct expectation {
    moxie_status_t status;
    fault_step_t step;
    const char *phase;
} expectation_t;

/* Where a rank that does not come to a call is missed: in low latency a dispatch waits for no call,
 * but for the rows, or for a sign that the slots are free. */
static const char *missed_in(fault_step_t step)
{
    switch (step) {
    case STEP_LOW_LATENCY_DISPATCH:
        return "receive";
    case STEP_LOW_LATENCY_REPEAT:
        return "credit";
    default:
        return "meet";
    }
}

static expectation_t expect_operation(const fault_case_t *which)
{
    expectation_t expected = {.status = which->action == ACTION_KILL ? MOXIE_ERR_PEER_LOST
                                                                     : MOXIE_ERR_TIMEOUT,
                              .step = which->step};
    const bool is_dispatch =
        which->step == STEP_LOW_LATENCY_DISPATCH || which->step == STEP_LOW_LATENCY_REPEAT;
    const bool is_exchange = which->step != STEP_UPDATE && which->step != STEP_BARRIER;
    const bool is_next =
        strcmp(which->phase, "leave") == 0 || (strcmp(which->phase, "post") == 0 && !is_exchange);
    if (is_next) {
        expected.step = which->step == STEP_BARRIER ? STEP_UPDATE : which->step + 1;
        expected.phase = missed_in(expected.step);
    } else if (is_exchange && which->phase[0] != '\0' && strcmp(which->phase, "begin") != 0) {
        expected.phase = is_dispatch ? "receive" : "finish";
    } else {
        expected.phase = missed_in(which->step);
    }
    return expected;
}

static expectation_t expect(const fault_case_t *which)
{
    if (which->step > STEP_WINDOW) {
        return expect_operation(which);
    }
    expectation_t expected = {.status = MOXIE_ERR_TIMEOUT, .step = which->step};
    if (which->step == STEP_WINDOW) {
        expected.phase = "agree";
    } else if (strcmp(which->phase, "introduce") == 0) {
        expected.phase = "introduce";
    } else {
        expected.phase = "join";
    }
    /* Before it has joined nobody knows its process. */
    if (which->action == ACTION_KILL && strcmp(which->phase, "join") != 0) {
        expected.status = MOXIE_ERR_PEER_LOST;
    }
    return expected;
}

static void judge_survivor(trial_t *trial, int32_t rank)
{
    const fault_case_t *which = &trial->which;
    const fault_result_t *result = &trial->results[rank];
    const moxie_error_t *error = &result->error;
    const expectation_t expected = expect(which);
    const fault_deadlines_t deadlines = fault_deadlines(which);
    const int64_t deadline_us = which->step <= STEP_WINDOW ? deadlines.first_us : deadlines.each_us;
    const int64_t margin_us = deadline_us / 10 > MARGIN_US ? deadline_us / 10 : MARGIN_US;
    if (!result->is_done || error->status != expected.status || error->peer != which->rank ||
        result->step != expected.step || strcmp(error->op, step_names[expected.step]) != 0 ||
        strcmp(error->phase, expected.phase) != 0) {
        trial->verdict = VERDICT_BAD;
        (void)snprintf(trial->why, sizeof(trial->why),
                       "rank %d %s: %s in %s, op '%s', phase '%s', peer %d after %lld ms (%s); "
                       "expected %s in %s, phase '%s'",
                       rank, result->is_done ? "got" : "DID NOT END",
                       moxie_status_name(error->status), step_names[result->step], error->op,
                       error->phase, error->peer, (long long)(result->took_us / 1000),
                       error->message, moxie_status_name(expected.status),
                       step_names[expected.step], expected.phase);
        return;
    }
    if (result->fd_leak_count != 0) {
        trial->verdict = VERDICT_BAD;
        (void)snprintf(trial->why, sizeof(trial->why),
                       "rank %d has %d descriptors more than before", rank, result->fd_leak_count);
        return;
    }
    if (trial->verdict == VERDICT_GOOD &&
        (result->took_us > deadline_us + margin_us || result->destroy_us > DESTROY_US_MAX ||
         (expected.status == MOXIE_ERR_PEER_LOST && result->took_us > deadline_us / 2))) {
        trial->verdict = VERDICT_LATE;
        (void)snprintf(trial->why, sizeof(trial->why),
                       "rank %d took %lld us, then %lld us to leave", rank,
                       (long long)result->took_us, (long long)result->destroy_us);
    }
    if (expected.status == MOXIE_ERR_TIMEOUT && result->took_us - deadline_us > trial->over_us) {
        trial->over_us = result->took_us - deadline_us;
    }
    if (expected.status == MOXIE_ERR_PEER_LOST && result->took_us > trial->found_us) {
        trial->found_us = result->took_us;
    }
}

/* Which call of its name it is. */
static int32_t call_number(const fault_case_t *which)
{
    switch (which->step) {
    case STEP_CREATE:
    case STEP_WINDOW:
        return 1;
    case STEP_LOW_LATENCY_DISPATCH:
        return 2 * which->round - 1;
    case STEP_LOW_LATENCY_REPEAT:
        return 2 * which->round;
    default:
        return which->round;
    }
}

static void set_fault(const fault_case_t *which)
{
    char fault[96];
    const char *op = which->step <= STEP_WINDOW ? "" : step_names[which->step];
    (void)snprintf(fault, sizeof(fault), "%s%s%s:%d:%d:%s", op, op[0] != '\0' ? "." : "",
                   which->phase, which->rank, call_number(which), action_names[which->action]);
    (void)setenv("MOXIE_FAULT", fault, 1);
}

static void be_rank(trial_t *trial, int32_t rank, const char *socket)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (trial->which.action < ACTION_ABSENT) {
        set_fault(&trial->which);
    }
    fault_rank_play(&trial->which, rank, socket, &trial->results[rank]);
    _exit(0);
}

static void *be_thread(void *arg)
{
    const thread_rank_t *mine = arg;
    fault_rank_play(mine->which, mine->rank, mine->socket, mine->result);
    return NULL;
}

/* The absent thread ends with the process. */
static void play_threads(trial_t *trial, const char *socket)
{
    pthread_t threads[FAULT_RANK_COUNT_MAX];
    thread_rank_t ranks[FAULT_RANK_COUNT_MAX];
    for (int32_t rank = 0; rank < trial->which.rank_count; rank++) {
        ranks[rank] = (thread_rank_t){&trial->which, rank, socket, &trial->results[rank]};
        if (pthread_create(&threads[rank], NULL, be_thread, &ranks[rank]) != 0) {
            _exit(1);
        }
    }
    for (int32_t rank = 0; rank < trial->which.rank_count; rank++) {
        if (rank != trial->which.rank) {
            (void)pthread_join(threads[rank], NULL);
        }
    }
}

/* The culprit must have come to where the fault is, and is ended if it is still there. */
static void check_culprit(trial_t *trial, pid_t pid)
{
    int status = 0;
    if (trial->which.action == ACTION_KILL) {
        (void)waitpid(pid, &status, 0);
    } else {
        const bool is_stop = trial->which.action == ACTION_STOP;
        const bool is_there = waitpid(pid, &status, WNOHANG | WUNTRACED) == (is_stop ? pid : 0);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, is_there && !is_stop ? &status : NULL, 0);
    }
    const bool is_as_meant = trial->which.action == ACTION_STOP
                                 ? WIFSTOPPED(status)
                                 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!is_as_meant) {
        trial->verdict = VERDICT_BAD;
        (void)snprintf(trial->why, sizeof(trial->why), "the culprit never got there (status %x)",
                       (unsigned)status);
    }
}

static void play_processes(trial_t *trial, const char *socket)
{
    pid_t pids[FAULT_RANK_COUNT_MAX];
    for (int32_t rank = 0; rank < trial->which.rank_count; rank++) {
        pids[rank] = fork();
        if (pids[rank] == 0) {
            be_rank(trial, rank, socket);
        }
    }
    for (int32_t rank = 0; rank < trial->which.rank_count; rank++) {
        if (rank != trial->which.rank) {
            (void)waitpid(pids[rank], NULL, 0);
        }
    }
    check_culprit(trial, pids[trial->which.rank]);
}

/* A process of its own: plays the case, and judges. */
static _Noreturn void watch(trial_t *trial)
{
    char folder[] = "/tmp/moxie-fault-XXXXXX";
    char socket[sizeof(folder) + 8];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)alarm(CASE_LIMIT_S);
    if (mkdtemp(folder) == NULL) {
        _exit(1);
    }
    (void)snprintf(socket, sizeof(socket), "%s/meet", folder);
    trial->verdict = VERDICT_GOOD;
    if (trial->which.action == ACTION_ABSENT_THREAD) {
        play_threads(trial, socket);
    } else {
        play_processes(trial, socket);
    }
    for (int32_t rank = 0; rank < trial->which.rank_count; rank++) {
        if (rank != trial->which.rank) {
            judge_survivor(trial, rank);
        }
    }
    if (rmdir(folder) != 0) {
        trial->verdict = VERDICT_BAD;
        (void)snprintf(trial->why, sizeof(trial->why), "something was left in %s", folder);
    }
    _exit(0);
}

/* Runs the trials that have the verdict, so many at a time. Returns how many it was. */
static size_t run_trials(trial_t *trials, size_t count, verdict_t which, int parallel_count)
{
    size_t trial_count = 0;
    int running_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (trials[i].verdict != which) {
            continue;
        }
        if (running_count == parallel_count) {
            (void)wait(NULL);
            running_count--;
        }
        trials[i] = (trial_t){.which = trials[i].which, .verdict = VERDICT_BAD};
        (void)strcpy(trials[i].why, "the case did not end");
        if (fork() == 0) {
            watch(&trials[i]);
        }
        running_count++;
        trial_count++;
    }
    for (; running_count > 0; running_count--) {
        (void)wait(NULL);
    }
    return trial_count;
}

int fault_run(const fault_case_t *cases, size_t case_count)
{
    int failed_count = 0;
    int64_t over_us = 0;
    int64_t found_us = 0;
    const size_t bytes = case_count * sizeof(trial_t);
    trial_t *trials = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (trials == MAP_FAILED) {
        return 1;
    }
    for (size_t i = 0; i < case_count; i++) {
        trials[i].which = cases[i];
    }
    (void)fflush(NULL);
    (void)run_trials(trials, case_count, VERDICT_NONE, PARALLEL_COUNT);
    size_t repeat_count = 0;
    for (int i = 0; i < REPEAT_COUNT; i++) {
        repeat_count += run_trials(trials, case_count, VERDICT_LATE, 1);
    }
    for (size_t i = 0; i < case_count; i++) {
        char text[128];
        describe(&trials[i].which, text, sizeof(text));
        if (trials[i].verdict != VERDICT_GOOD) {
            failed_count++;
            (void)printf("FAILED: %s: %s\n", text, trials[i].why);
        }
        over_us = trials[i].over_us > over_us ? trials[i].over_us : over_us;
        found_us = trials[i].found_us > found_us ? trials[i].found_us : found_us;
    }
    (void)printf(
        "%zu cases, %zu times one played again, %d failed; a deadline was passed by %.1f ms "
        "at most, a dead process found after %.1f ms at most\n",
        case_count, repeat_count, failed_count, (double)over_us / 1e3, (double)found_us / 1e3);
    (void)munmap(trials, bytes);
    return failed_count;
}
