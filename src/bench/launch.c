/* SPDX-License-Identifier: Apache-2.0 */
/* Starts ranks with fork, gives them work and watches them: messages over a socket each, ends by
 * SIGCHLD, silence by the clock. */
#include "bench/launch.h"

#include "bench/flight.h"
#include "bench/link.h"
#include "bench/meeting.h"
#include "bench/progress.h"
#include "bench/run.h"
#include "bench/stopping.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Once a rank failed the others have this long to say what they saw; and ranks that have no more
 * work to end. */
enum { GRACE_MS = 2000 };

/* A busy rank says so every second; this is what an overloaded machine may delay it. */
enum { SILENCE_MARGIN_MS = 10000 };

/* How often silence is looked for. */
enum { TICK_MS = 250 };

/* What a rank is told to do: a message of this size. Ranks are forks of the process that made the
 * plan, so that they have it, too. */
typedef struct job {
    const plan_t *plan;
    moxie_knob_setting_t knobs[LAUNCH_KNOB_COUNT_MAX]; /* names are as old as the plan */
    size_t knob_count;
    bool skips_verification;
    char socket_path[sizeof(((meeting_t *)0)->socket_path)];
} job_t;

/* A rank as its parent sees it. */
typedef struct child {
    pid_t pid;         /* 0: not started, or ended and collected */
    pid_t started_pid; /* for messages, also afterwards */
    int fd;            /* -1: closed */
    bool is_at_gate;
    bool is_done;     /* with its job */
    int64_t heard_ms; /* when it last said something */
    char *text;       /* a line that is not complete yet */
    size_t text_count;
} child_t;

struct launch {
    const plan_t *plan;  /* of the job */
    meeting_t meeting;   /* a new one for each job */
    child_t *children;   /* [rank_count] */
    struct pollfd *poll; /* [rank_count + 1], the last one is signal_fd */
    int signal_fd;
    sigset_t old_signals;
    int64_t gates_passed;
    int64_t started_ms;
    int64_t failed_ms; /* when the first failure was seen; 0: none */
    failure_t *failure;
    run_result_t *result;
};

static void note_failure(launch_t *launch, const failure_t *failure)
{
    /* A rank that fails takes the others with it: what they report as a lost peer says less. */
    bool says_more = launch->failed_ms == 0 ||
                     (launch->failure->exit_code == EXIT_PEER && failure->exit_code != EXIT_PEER);
    if (says_more) {
        *launch->failure = *failure;
    } else if (launch->failure->op[0] == '\0') {
        memcpy(launch->failure->op, failure->op, sizeof(failure->op));
        memcpy(launch->failure->phase, failure->phase, sizeof(failure->phase));
    }
    if (launch->failed_ms == 0)
        launch->failed_ms = link_now_ms();
}

static void note_lost(launch_t *launch, int32_t rank, const char *how)
{
    failure_t failure;
    pid_t pid = launch->children[rank].started_pid;
    failure_set(&failure, EXIT_PEER, "rank %d (process %d) %s", rank, (int)pid, how);
    failure.status = MOXIE_ERR_PEER_LOST;
    failure_blame(&failure, rank, pid);
    if (launch->failed_ms != 0 && launch->failure->exit_code == EXIT_PEER) {
        /* A peer saw it first: its op and phase stay, the process is named better here. */
        memcpy(failure.op, launch->failure->op, sizeof(failure.op));
        memcpy(failure.phase, launch->failure->phase, sizeof(failure.phase));
        for (int32_t i = 0; i < launch->failure->peer_count; i++)
            if (launch->failure->status == MOXIE_ERR_PEER_LOST)
                failure_blame(&failure, launch->failure->peers[i].rank,
                              launch->failure->peers[i].pid);
        *launch->failure = failure;
        return;
    }
    note_failure(launch, &failure);
}

static bool join_and_run(const plan_t *plan, const char *socket_path, link_t *link,
                         failure_t *failure)
{
    moxie_group_options_t options = plan_group_options(plan, link->rank, socket_path);
    moxie_group_t *group = NULL;
    if (link->rank == 0 && plan->has_progress) {
        link_progress(link, "starting", 0, 1);
    }
    if (moxie_group_create(&options, &group) != MOXIE_OK) {
        return failure_from_library(failure, link->rank, "joining the group");
    }
    bool is_done = run_rank(plan, group, link, failure);
    if (failure->exit_code == EXIT_PEER) {
        char *flight = flight_read(group);
        (void)link_send(link, "flight", json_string(flight == NULL ? "" : flight));
        free(flight);
    }
    moxie_group_destroy(group);
    return is_done;
}

/* Waits for the next job; false: there is none. The kernel ends this process with its parent. */
static bool take_job(const link_t *link, job_t *job)
{
    ssize_t got = 0;
    do {
        got = recv(link->fd, job, sizeof(*job), MSG_WAITALL);
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(*job);
}

/* Does jobs, each in a group of its own, until there are no more or one fails; the exit code. */
static int serve(link_t *link)
{
    job_t job;
    failure_t failure = {.exit_code = EXIT_DONE};
    while (take_job(link, &job)) {
        plan_t plan = *job.plan;
        plan.knobs = job.knobs;
        plan.knob_count = job.knob_count;
        plan.skips_verification = job.skips_verification;
        link->told_ms = link_now_ms();
        if (!join_and_run(&plan, job.socket_path, link, &failure)) {
            (void)link_send(link, "failure", link_failure_to_json(&failure));
            return failure.exit_code;
        }
        (void)link_send(link, "done", json_integer(0));
    }
    return EXIT_DONE;
}

/* A child leaves its parent's things alone; `opened` children had been started or prepared. */
static void be_child(const launch_t *launch, int32_t opened, pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILED); /* the parent ended before it could be watched */
    for (int32_t other = 0; other < opened; other++)
        (void)close(launch->children[other].fd);
    (void)close(launch->signal_fd);
    (void)signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole terminal: the parent decides */
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The child's side. */
static _Noreturn void be_rank(const launch_t *launch, int32_t rank, int fd, pid_t parent)
{
    be_child(launch, rank, parent);
    link_t link = {.fd = fd, .rank = rank};
    _exit(serve(&link));
}

/* A rank that is a thread: ranks that share a GPU are of one process. */
typedef struct rank_thread {
    link_t link;
    pthread_t thread;
    int exit_code;
} rank_thread_t;

static void *be_thread(void *argument)
{
    rank_thread_t *self = argument;
    self->exit_code = serve(&self->link);
    return NULL;
}

/* The child's side when it is all ranks. */
static _Noreturn void be_all_ranks(const launch_t *launch, const int *fds, pid_t parent)
{
    int32_t rank_count = launch->plan->rank_count;
    int exit_code = EXIT_DONE;
    rank_thread_t *ranks = calloc((size_t)rank_count, sizeof(*ranks));
    be_child(launch, rank_count, parent);
    if (ranks == NULL)
        _exit(EXIT_FAILED);
    for (int32_t rank = 0; rank < rank_count; rank++) {
        ranks[rank].link = (link_t){.fd = fds[rank], .rank = rank};
        if (pthread_create(&ranks[rank].thread, NULL, be_thread, &ranks[rank]) != 0)
            _exit(EXIT_FAILED);
    }
    for (int32_t rank = 0; rank < rank_count; rank++) {
        (void)pthread_join(ranks[rank].thread, NULL);
        exit_code = exit_code == EXIT_DONE ? ranks[rank].exit_code : exit_code;
    }
    _exit(exit_code);
}

/* The first rank stands for the process: its end is that of all. */
static bool start_all_ranks(launch_t *launch)
{
    int fds[MOXIE_RANK_COUNT_MAX];
    int32_t rank_count = launch->plan->rank_count;
    int32_t opened = 0;
    bool is_open = true;
    while (opened < rank_count && is_open) {
        int ends[2];
        is_open = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0;
        if (is_open) {
            launch->children[opened].fd = ends[0];
            launch->children[opened].heard_ms = link_now_ms();
            fds[opened++] = ends[1];
        }
    }
    pid_t parent = getpid();
    pid_t pid = is_open ? fork() : -1;
    if (pid == 0)
        be_all_ranks(launch, fds, parent);
    for (int32_t rank = 0; rank < opened; rank++) {
        (void)close(fds[rank]);
        launch->children[rank].started_pid = pid;
    }
    if (pid < 0)
        return failure_set(launch->failure, EXIT_FAILED, "the ranks cannot be started: %s",
                           strerror(errno));
    launch->children[0].pid = pid;
    return true;
}

static bool start_rank(launch_t *launch, int32_t rank)
{
    int ends[2];
    child_t *child = &launch->children[rank];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return failure_set(launch->failure, EXIT_FAILED, "no socket for rank %d: %s", rank,
                           strerror(errno));
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        be_rank(launch, rank, ends[1], parent);
    }
    (void)close(ends[1]);
    child->fd = ends[0];
    child->heard_ms = link_now_ms();
    if (pid < 0)
        return failure_set(launch->failure, EXIT_FAILED, "rank %d cannot be started: %s", rank,
                           strerror(errno));
    child->pid = pid;
    child->started_pid = pid;
    return true;
}

static void open_gate_when_all_are_there(launch_t *launch)
{
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++)
        if (!launch->children[rank].is_at_gate)
            return;
    launch->gates_passed++;
    meeting_close(&launch->meeting); /* all have met: from here on not even a kill leaves it */
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++) {
        launch->children[rank].is_at_gate = false;
        launch->children[rank].heard_ms = link_now_ms();
    }
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++)
        (void)send(launch->children[rank].fd, "g", 1, MSG_NOSIGNAL);
}

static void take_record(launch_t *launch, const json_t *record)
{
    const char *mismatch = json_string_value(json_object_get(record, "mismatch"));
    (void)snprintf(launch->result->mismatch, sizeof(launch->result->mismatch), "%s",
                   mismatch == NULL ? "" : mismatch);
    launch->result->record = json_incref(json_object_get(record, "document"));
    launch->result->trace = json_incref(json_object_get(record, "trace"));
}

static void take_message(launch_t *launch, int32_t rank, const char *line, size_t length)
{
    json_t *message = json_loadb(line, length, 0, NULL);
    const json_t *progress = json_object_get(message, "progress");
    const json_t *failed = json_object_get(message, "failure");
    const json_t *record = json_object_get(message, "record");
    const char *flight = json_string_value(json_object_get(message, "flight"));
    launch->children[rank].heard_ms = link_now_ms();
    if (json_object_get(message, "gate") != NULL) {
        launch->children[rank].is_at_gate = true;
        open_gate_when_all_are_there(launch);
    } else if (json_object_get(message, "done") != NULL) {
        launch->children[rank].is_done = true;
    } else if (progress != NULL) {
        progress_draw(json_string_value(json_array_get(progress, 0)),
                      json_integer_value(json_array_get(progress, 1)),
                      json_integer_value(json_array_get(progress, 2)));
    } else if (flight != NULL && launch->result->flight[rank] == NULL) {
        launch->result->flight[rank] = strdup(flight);
    } else if (failed != NULL) {
        failure_t failure;
        link_failure_from_json(failed, &failure);
        note_failure(launch, &failure);
    } else if (record != NULL && launch->result->record == NULL) {
        take_record(launch, record);
    }
    json_decref(message);
}

/* Takes the complete lines out of what a child has sent so far. */
static void take_lines(launch_t *launch, int32_t rank)
{
    child_t *child = &launch->children[rank];
    size_t start = 0;
    for (;;) {
        const char *end = memchr(child->text + start, '\n', child->text_count - start);
        if (end == NULL)
            break;
        size_t length = (size_t)(end - child->text) - start;
        take_message(launch, rank, child->text + start, length);
        start += length + 1;
    }
    child->text_count -= start;
    memmove(child->text, child->text + start, child->text_count);
}

static void read_child(launch_t *launch, int32_t rank)
{
    enum { CHUNK_BYTES = 65536 };
    child_t *child = &launch->children[rank];
    char *text = realloc(child->text, child->text_count + CHUNK_BYTES);
    ssize_t got = -1;
    if (text != NULL) {
        child->text = text;
        got = read(child->fd, child->text + child->text_count, CHUNK_BYTES);
    }
    if (got > 0) {
        child->text_count += (size_t)got;
        take_lines(launch, rank);
    } else if (got == 0 || errno != EINTR) {
        (void)close(child->fd);
        child->fd = -1;
    }
}

/* A child has ended: reads what it still said, then judges how it ended. */
static void collect(launch_t *launch, int32_t rank, int status)
{
    child_t *child = &launch->children[rank];
    char how[128];
    child->pid = 0;
    for (int32_t other = 0; other < launch->plan->rank_count; other++) {
        /* of this process: one rank, or all of them */
        while (launch->children[other].started_pid == child->started_pid &&
               launch->children[other].fd >= 0)
            read_child(launch, other);
    }
    if (WIFSIGNALED(status)) {
        (void)snprintf(how, sizeof(how), "was ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
        note_lost(launch, rank, how);
    } else if (WEXITSTATUS(status) != 0 && launch->failed_ms == 0) {
        (void)snprintf(how, sizeof(how), "ended with exit code %d", WEXITSTATUS(status));
        note_lost(launch, rank, how);
    }
}

static int32_t collect_ended(launch_t *launch)
{
    int32_t running = 0;
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++) {
        int status = 0;
        if (launch->children[rank].pid == 0)
            continue;
        if (waitpid(launch->children[rank].pid, &status, WNOHANG) == launch->children[rank].pid)
            collect(launch, rank, status);
        else
            running++;
    }
    return running;
}

/* Every call of a rank has a deadline, and between calls it says that it is busy. */
static void look_for_silence(launch_t *launch)
{
    moxie_group_options_t group = plan_group_options(launch->plan, 0, NULL);
    int64_t limit_us = launch->gates_passed == 0 ? group.first_timeout_us : group.timeout_us * 2;
    int64_t limit_ms = limit_us / 1000 + SILENCE_MARGIN_MS;
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++) {
        const child_t *child = &launch->children[rank];
        bool is_running = launch->children[launch->plan->place.has_threads ? 0 : rank].pid != 0;
        char how[128];
        if (!is_running || child->is_at_gate || child->is_done || launch->failed_ms != 0 ||
            link_now_ms() - child->heard_ms < limit_ms)
            continue;
        (void)snprintf(how, sizeof(how), "gave no sign of life for %lld s",
                       (long long)(limit_ms / 1000));
        note_lost(launch, rank, how);
        launch->failure->status = MOXIE_ERR_TIMEOUT;
    }
}

/* Whoever set the limit wants the machine back: no grace. */
static void look_at_time_limit(launch_t *launch)
{
    int64_t limit_s = launch->plan->time_limit_s;
    if (limit_s == 0 || launch->failed_ms != 0 ||
        link_now_ms() - launch->started_ms < limit_s * 1000)
        return;
    failure_set(launch->failure, EXIT_FAILED, "the time limit of %lld s has passed",
                (long long)limit_s);
    launch->result->is_out_of_time = true;
    launch->failed_ms = link_now_ms() - GRACE_MS;
}

static void take_signal(launch_t *launch)
{
    struct signalfd_siginfo info;
    while (read(launch->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            continue; /* the loop looks at all children anyway */
        failure_set(launch->failure, 128 + (int)info.ssi_signo, "stopped by signal %u (%s)",
                    info.ssi_signo, strsignal((int)info.ssi_signo));
        launch->failure->signal = (int)info.ssi_signo;
        launch->failed_ms = link_now_ms() - GRACE_MS; /* no grace: somebody waits at a keyboard */
    }
}

static void watch_once(launch_t *launch)
{
    int32_t rank_count = launch->plan->rank_count;
    for (int32_t rank = 0; rank < rank_count; rank++)
        launch->poll[rank] = (struct pollfd){.fd = launch->children[rank].fd, .events = POLLIN};
    launch->poll[rank_count] = (struct pollfd){.fd = launch->signal_fd, .events = POLLIN};
    (void)poll(launch->poll, (nfds_t)rank_count + 1, TICK_MS);
    if (launch->poll[rank_count].revents != 0)
        take_signal(launch);
    for (int32_t rank = 0; rank < rank_count; rank++)
        if (launch->poll[rank].revents != 0 && launch->children[rank].fd >= 0)
            read_child(launch, rank);
    look_for_silence(launch);
    look_at_time_limit(launch);
}

/* A rank still runs that is not to blame: what it has to say is worth the wait. */
static bool is_witness_left(const launch_t *launch)
{
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++) {
        bool is_blamed = false;
        for (int32_t i = 0; i < launch->failure->peer_count; i++) {
            is_blamed |= launch->failure->peers[i].rank == rank;
        }
        if (launch->children[rank].pid != 0 && !is_blamed) {
            return true;
        }
    }
    return false;
}

static bool is_done(const launch_t *launch)
{
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++)
        if (!launch->children[rank].is_done)
            return false;
    return true;
}

static void watch(launch_t *launch)
{
    while (collect_ended(launch) > 0 && (launch->failed_ms != 0 || !is_done(launch))) {
        if (launch->failed_ms != 0 &&
            (link_now_ms() - launch->failed_ms >= GRACE_MS || !is_witness_left(launch)))
            return;
        watch_once(launch);
    }
}

/* A rank that has no more work ends by itself, one that failed is ended. */
static void end_child(child_t *child, int64_t patience_ms)
{
    const struct timespec pause = {0, 1000000};
    int64_t until_ms = link_now_ms() + patience_ms;
    while (waitpid(child->pid, NULL, WNOHANG) != child->pid) {
        if (link_now_ms() >= until_ms) {
            (void)kill(child->pid, SIGKILL);
            (void)waitpid(child->pid, NULL, 0);
            return;
        }
        (void)nanosleep(&pause, NULL);
    }
}

static void end_all(launch_t *launch)
{
    int64_t patience_ms = launch->failed_ms == 0 ? GRACE_MS : 0;
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++)
        if (launch->children[rank].fd >= 0)
            (void)close(launch->children[rank].fd);
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++) {
        if (launch->children[rank].pid != 0)
            end_child(&launch->children[rank], patience_ms);
        free(launch->children[rank].text);
    }
}

static bool start_all(launch_t *launch)
{
    if (launch->plan->place.has_threads)
        return start_all_ranks(launch);
    for (int32_t rank = 0; rank < launch->plan->rank_count; rank++)
        if (!start_rank(launch, rank))
            return false;
    return true;
}

static bool prepare(launch_t *launch)
{
    sigset_t signals;
    int32_t rank_count = launch->plan->rank_count;
    stop_signals(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &signals, &launch->old_signals);
    launch->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    launch->children = calloc((size_t)rank_count, sizeof(*launch->children));
    launch->poll = calloc((size_t)rank_count + 1, sizeof(*launch->poll));
    if (launch->signal_fd < 0 || launch->children == NULL || launch->poll == NULL)
        return failure_set(launch->failure, EXIT_FAILED, "the ranks cannot be watched: %s",
                           strerror(errno));
    for (int32_t rank = 0; rank < rank_count; rank++)
        launch->children[rank].fd = -1;
    return true;
}

launch_t *launch_open(const plan_t *plan, failure_t *failure)
{
    launch_t *launch = calloc(1, sizeof(*launch));
    if (launch == NULL) {
        failure_set(failure, EXIT_FAILED, "not enough memory to start the ranks");
        return NULL;
    }
    *launch = (launch_t){.plan = plan, .signal_fd = -1, .failure = failure};
    (void)fflush(NULL); /* or the children would write it again */
    if (prepare(launch) && start_all(launch))
        return launch;
    launch_close(launch);
    return NULL;
}

void launch_close(launch_t *launch)
{
    if (launch == NULL)
        return;
    if (launch->children != NULL)
        end_all(launch);
    free(launch->children);
    free(launch->poll);
    if (launch->signal_fd >= 0)
        (void)close(launch->signal_fd);
    (void)sigprocmask(SIG_SETMASK, &launch->old_signals, NULL);
    progress_clear();
    free(launch);
}

/* The sentence of a rank that did not know the process yet gets it too. */
static void name_process(failure_t *failure, int32_t rank, pid_t pid)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "(process %d)", (int)pid);
    failure_blame(failure, rank, pid);
    if (strstr(failure->sentence, name) == NULL) {
        size_t used = strlen(failure->sentence);
        (void)snprintf(failure->sentence + used, sizeof(failure->sentence) - used,
                       "; it is rank %d %s", rank, name);
    }
}

/* Gives the processes of blamed ranks their numbers, and the failure an operation. */
static void complete_failure(const launch_t *launch)
{
    failure_t *failure = launch->failure;
    for (int32_t i = 0; i < failure->peer_count; i++) {
        int32_t rank = failure->peers[i].rank;
        if (rank >= 0 && rank < launch->plan->rank_count)
            name_process(failure, rank, launch->children[rank].started_pid);
    }
    if (failure->op[0] == '\0') /* no peer was in a call that could tell */
        (void)strcpy(failure->op, "bench");
    if (failure->phase[0] == '\0')
        (void)strcpy(failure->phase, launch->gates_passed == 0 ? "start" : "between calls");
}

/* Tells every rank; one that has ended meanwhile is found by watching. */
static void hand_out(launch_t *launch, const plan_t *plan)
{
    job_t job = {.plan = plan,
                 .knob_count = plan->knob_count,
                 .skips_verification = plan->skips_verification};
    memcpy(job.socket_path, launch->meeting.socket_path, sizeof(job.socket_path));
    for (size_t i = 0; i < plan->knob_count; i++)
        job.knobs[i] = plan->knobs[i];
    for (int32_t rank = 0; rank < plan->rank_count; rank++) {
        child_t *child = &launch->children[rank];
        child->is_at_gate = false;
        child->is_done = false;
        child->heard_ms = link_now_ms();
        (void)send(child->fd, &job, sizeof(job), MSG_NOSIGNAL);
    }
}

bool launch_do(launch_t *launch, const plan_t *plan, run_result_t *out, failure_t *failure)
{
    launch->plan = plan;
    launch->failure = failure;
    launch->result = out;
    launch->gates_passed = 0;
    launch->started_ms = link_now_ms();
    *out = (run_result_t){.record = NULL};
    if (!meeting_open(&launch->meeting, failure))
        return false;
    hand_out(launch, plan);
    watch(launch);
    complete_failure(launch);
    meeting_close(&launch->meeting);
    if (launch->failed_ms == 0 && out->record != NULL)
        return true;
    if (launch->failed_ms == 0)
        failure_set(failure, EXIT_FAILED, "the ranks ended without a result");
    json_decref(out->record);
    json_decref(out->trace);
    out->record = out->trace = NULL;
    return false;
}

bool launch_run(const plan_t *plan, run_result_t *out, failure_t *failure)
{
    *out = (run_result_t){.record = NULL};
    launch_t *launch = launch_open(plan, failure);
    bool is_done = launch != NULL && launch_do(launch, plan, out, failure);
    launch_close(launch);
    return is_done;
}
