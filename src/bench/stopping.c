/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that waits for stop signals: a rank inside a collective call could not. */
#include "bench/stopping.h"

#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

/* A process has one disposition of signals, so this is the process's too. */
static struct {
    pthread_mutex_t mutex;
    void (*clean)(void *ctx);
    void *ctx;
} watch = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void stop_signals(sigset_t *signals)
{
    static const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
    (void)sigemptyset(signals);
    for (size_t i = 0; i < sizeof(stopping) / sizeof(stopping[0]); i++) {
        struct sigaction action;
        if (sigaction(stopping[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
            (void)sigaddset(signals, stopping[i]);
        }
    }
}

static void *wait_for_signal(void *unused)
{
    sigset_t signals;
    int number = 0;
    (void)unused;
    stop_signals(&signals);
    if (sigwait(&signals, &number) != 0) {
        return NULL;
    }
    stopping_hold(); /* for good */
    watch.clean(watch.ctx);
    (void)signal(number, SIG_DFL);
    (void)pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    (void)kill(getpid(), number);
    return NULL;
}

bool stopping_watch(void (*clean)(void *ctx), void *ctx)
{
    pthread_t thread;
    watch.clean = clean;
    watch.ctx = ctx;
    if (pthread_create(&thread, NULL, wait_for_signal, NULL) != 0) {
        return false;
    }
    (void)pthread_detach(thread);
    return true;
}

void stopping_hold(void)
{
    (void)pthread_mutex_lock(&watch.mutex);
}

void stopping_release(void)
{
    (void)pthread_mutex_unlock(&watch.mutex);
}
