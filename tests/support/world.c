/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as processes or threads. */

#include "support/world.h"

#include "support/check.h"

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

#define REPORT_BYTES 8192

typedef struct world {
    const world_options_t *options;
    world_fn fn;
    world_rank_t *ranks; /* [rank_count], in memory that all ranks share */
} world_t;

world_mode_t world_mode_from_environment(void)
{
    const char *mode = getenv("MOXIE_TEST_RANKS");
    return mode != NULL && strcmp(mode, "threads") == 0 ? WORLD_THREADS : WORLD_PROCESSES;
}

void world_fail(world_rank_t *self, const char *format, ...)
{
    if (self->failed) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->failure, sizeof(self->failure), format, arguments);
    va_end(arguments);
    self->failed = true;
}

bool world_expect(world_rank_t *self, const char *what, moxie_status_t status,
                  moxie_status_t wanted)
{
    if (status == wanted) {
        return true;
    }
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    world_fail(self, "%s: %s (%s), not %s", what, moxie_status_name(status),
               status == MOXIE_OK ? "" : error.message, moxie_status_name(wanted));
    return false;
}

moxie_group_t *world_group_with(world_rank_t *self, const char *name,
                                const moxie_group_options_t *options)
{
    char socket[256];
    snprintf(socket, sizeof(socket), "%s/%s", self->folder, name);
    moxie_group_options_t mine = *options;
    mine.rank = self->rank;
    mine.rank_count = self->options->rank_count;
    mine.backend = self->options->backend;
    mine.rendezvous = socket;
    moxie_group_t *group = NULL;
    world_expect(self, "group_create", moxie_group_create(&mine, &group), MOXIE_OK);
    if (group != NULL && self->device == NULL) {
        self->device = device_open(group);
        if (device_is_remote(self->device)) {
            /* Memory is not allocated while a kernel of another rank on this GPU waits for us. */
            world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
        }
    }
    return group;
}

moxie_group_t *world_group(world_rank_t *self, const char *name)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.first_timeout_us = 30000000;
    return world_group_with(self, name, &options);
}

static void run_rank(world_fn fn, world_rank_t *self)
{
    fn(self);
    device_close(self->device);
    self->device = NULL;
}

/* exit(), not _exit(): leak checkers and coverage write their findings there. */
static void run_child(world_t *world, int32_t rank, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        exit(1);
    }
    alarm(world->options->deadline_s);
    run_rank(world->fn, &world->ranks[rank]);
    exit(0);
}

static void run_processes(world_t *world)
{
    const int32_t rank_count = world->options->rank_count;
    const pid_t parent = getpid();
    pid_t *children = calloc((size_t)rank_count, sizeof(*children));
    assert_non_null(children);
    fflush(NULL);
    for (int32_t rank = 0; rank < rank_count; rank++) {
        children[rank] = fork();
        if (children[rank] == 0) {
            run_child(world, rank, parent);
        }
    }
    for (int32_t rank = 0; rank < rank_count; rank++) {
        int status = 0;
        if (children[rank] < 0 || waitpid(children[rank], &status, 0) != children[rank]) {
            world_fail(&world->ranks[rank], "no process");
        } else if (WIFSIGNALED(status) && world->ranks[rank].may_be_killed) {
            continue;
        } else if (WIFSIGNALED(status)) {
            world_fail(&world->ranks[rank], "ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
        } else if (WEXITSTATUS(status) != 0) {
            world_fail(&world->ranks[rank], "exit code %d", WEXITSTATUS(status));
        }
    }
    free(children);
}

typedef struct thread_arg {
    world_fn fn;
    world_rank_t *self;
} thread_arg_t;

static void *run_thread(void *arg)
{
    const thread_arg_t *mine = arg;
    run_rank(mine->fn, mine->self);
    return NULL;
}

/* A thread that hangs cannot be ended: the whole test program says so and ends. */
static void join_or_die(pthread_t thread, const struct timespec *deadline, int32_t rank)
{
    if (pthread_timedjoin_np(thread, NULL, deadline) == 0) {
        return;
    }
    fprintf(stderr, "rank %d (a thread) did not end in time\n", rank);
    _exit(1);
}

static void run_threads(world_t *world)
{
    const int32_t rank_count = world->options->rank_count;
    pthread_t *threads = calloc((size_t)rank_count, sizeof(*threads));
    thread_arg_t *args = calloc((size_t)rank_count, sizeof(*args));
    assert_true(threads != NULL && args != NULL);
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += (time_t)world->options->deadline_s;
    for (int32_t rank = 0; rank < rank_count; rank++) {
        args[rank] = (thread_arg_t){world->fn, &world->ranks[rank]};
        assert_int_equal(pthread_create(&threads[rank], NULL, run_thread, &args[rank]), 0);
    }
    for (int32_t rank = 0; rank < rank_count; rank++) {
        join_or_die(threads[rank], &deadline, rank);
    }
    free(args);
    free(threads);
}

/* Every failed rank's first failure, a line each. */
static bool report(const world_t *world, char *text)
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t rank = 0; rank < world->options->rank_count; rank++) {
        if (world->ranks[rank].failed && used < REPORT_BYTES) {
            used += (size_t)snprintf(text + used, REPORT_BYTES - used, "\n  rank %d of %d: %s",
                                     rank, world->options->rank_count, world->ranks[rank].failure);
        }
    }
    return used > 0;
}

void world_run(const world_options_t *options, world_fn fn, void *arg)
{
    char folder[] = "/tmp/moxie-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    const size_t bytes = (size_t)options->rank_count * sizeof(world_rank_t);
    world_t world = {options, fn, NULL};
    world.ranks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(world.ranks != MAP_FAILED);
    for (int32_t rank = 0; rank < options->rank_count; rank++) {
        world.ranks[rank] =
            (world_rank_t){.rank = rank, .options = options, .folder = folder, .arg = arg};
    }
    if (options->mode == WORLD_THREADS) {
        run_threads(&world);
    } else {
        run_processes(&world);
    }
    static char text[REPORT_BYTES];
    const bool failed = report(&world, text);
    munmap(world.ranks, bytes);
    /* Sockets are gone as soon as all have joined, so the folder is empty. */
    const bool left_behind = rmdir(folder) != 0;
    if (failed) {
        fail_msg("%s", text);
    }
    if (left_behind) {
        fail_msg("something was left in %s", folder);
    }
}
