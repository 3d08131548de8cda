/* SPDX-License-Identifier: Apache-2.0 */
/* What happens on the signals that end a run. */
#ifndef MOXIE_BENCH_STOPPING_H
#define MOXIE_BENCH_STOPPING_H

#include <signal.h>
#include <stdbool.h>

/* The signals that end a run: SIGINT, SIGTERM, SIGHUP, without those that are ignored (nohup). */
void stop_signals(sigset_t *signals);

/*
 * For a rank that nobody watches: from now on a thread waits for a stop signal, which every thread
 * must have blocked, calls clean(ctx) and ends the process by that signal. False: no thread could
 * be made.
 */
bool stopping_watch(void (*clean)(void *ctx), void *ctx);

/* In between a stop signal waits: what clean(ctx) looks at may change. */
void stopping_hold(void);
void stopping_release(void);

#endif
