/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that looks at one deadline now and then, so that arming costs a few stores. */
#include "bench/watchdog.h"

#include "bench/pulse.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD_MS = 100 };

/* A rank that was silent for so long while this one waited is to blame. */
enum { SILENCE_MS = 900 };

/* A process has one main thread, and so at most one call of a baseline at a time. */
static struct {
    void (*expired)(void *ctx, failure_t *failure);
    void *ctx;
    int pulse_fd;
    int32_t rank;
    int32_t rank_count;
    _Atomic int64_t deadline_ms; /* 0: none; the fields below are of the armed operation */
    int64_t timeout_us;
    const char *name;
    const char *op;
} watch;

/* The ranks that gave no sign of life, as far as that is known. */
static void blame_silent(failure_t *failure)
{
    for (int32_t rank = 0; watch.pulse_fd >= 0 && rank < watch.rank_count; rank++) {
        pulse_t pulse = pulse_of(watch.pulse_fd, rank);
        if (rank != watch.rank && link_now_ms() - pulse.beat_ms > SILENCE_MS) {
            size_t length = strlen(failure->sentence);
            (void)snprintf(failure->sentence + length, sizeof(failure->sentence) - length,
                           "; rank %d (process %d) gives no sign of life", rank, (int)pulse.pid);
            failure_blame(failure, rank, (pid_t)pulse.pid);
        }
    }
}

static _Noreturn void report(void)
{
    failure_t failure;
    failure_set(&failure, EXIT_PEER, "rank %d: baseline %s, %s: MPI did not complete within %lld s",
                watch.rank, watch.name, watch.op, (long long)(watch.timeout_us / 1000000));
    failure.status = MOXIE_ERR_TIMEOUT;
    failure.detected_by = -1;
    (void)snprintf(failure.op, sizeof(failure.op), "%s", watch.op);
    (void)snprintf(failure.phase, sizeof(failure.phase), "baseline");
    blame_silent(&failure);
    watch.expired(watch.ctx, &failure);
    _exit(failure.exit_code);
}

static void *look(void *unused)
{
    const struct timespec pause = {0, PERIOD_MS * 1000000L};
    (void)unused;
    for (;;) {
        if (watch.pulse_fd >= 0) {
            pulse_beat(watch.pulse_fd, watch.rank);
        }
        int64_t deadline_ms = atomic_load_explicit(&watch.deadline_ms, memory_order_acquire);
        if (deadline_ms != 0 && link_now_ms() > deadline_ms) {
            report();
        }
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

bool watchdog_watch(int32_t rank, int32_t rank_count, void (*expired)(void *, failure_t *),
                    void *ctx)
{
    pthread_t thread;
    watch.expired = expired;
    watch.ctx = ctx;
    watch.rank = rank;
    watch.rank_count = rank_count;
    watch.pulse_fd = pulse_find();
    if (pthread_create(&thread, NULL, look, NULL) != 0) {
        return false;
    }
    (void)pthread_detach(thread);
    return true;
}

void watchdog_arm(const session_t *session, const char *op, int64_t timeout_us)
{
    watch.timeout_us = timeout_us;
    watch.name = session->baseline.name;
    watch.op = op;
    atomic_store_explicit(&watch.deadline_ms, link_now_ms() + timeout_us / 1000,
                          memory_order_release);
}

void watchdog_disarm(void)
{
    atomic_store_explicit(&watch.deadline_ms, 0, memory_order_release);
}
