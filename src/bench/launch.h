/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the ranks of a plan as processes of this machine, watches them and takes their result. */
#ifndef MOXIE_BENCH_LAUNCH_H
#define MOXIE_BENCH_LAUNCH_H

#include "bench/plan.h"

#include <jansson.h>
#include <signal.h>

/* The signals that end a run: SIGINT, SIGTERM, SIGHUP, without those that are ignored (nohup). */
void stop_signals(sigset_t *signals);

/* Result of a run. */
typedef struct launch_result {
    json_t *record;     /* the document, still without machine and version; owned */
    char mismatch[512]; /* "": verified */
} launch_result_t;

/*
 * Runs a plan. Never waits without a bound, leaves no process and no file behind. A stop
 * signal ends it: failure->signal is set and the caller should raise it again.
 */
bool launch_run(const plan_t *plan, launch_result_t *out, failure_t *failure);

#endif
