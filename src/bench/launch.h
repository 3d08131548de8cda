/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the ranks of a plan as processes of this machine, watches them and takes their results. */
#ifndef MOXIE_BENCH_LAUNCH_H
#define MOXIE_BENCH_LAUNCH_H

#include "bench/link.h"
#include "bench/plan.h"

/* Knobs that a plan may set. */
enum { LAUNCH_KNOB_COUNT_MAX = 16 };

/* Ranks that wait for work. To start one takes longer than what it does: on a GPU seconds. */
typedef struct launch launch_t;

/*
 * Starts ranks for a plan, and for any plan that is there already and differs in its knobs, its
 * routing or in what it verifies. NULL: they could not be started.
 */
launch_t *launch_open(const plan_t *plan, failure_t *failure);

/*
 * Runs a plan in a new group of the ranks. Never waits without a bound, leaves no file behind. A
 * stop signal ends it: failure->signal is set and the caller should raise it again. After any
 * failure the ranks are no use any more.
 */
bool launch_do(launch_t *launch, const plan_t *plan, run_result_t *out, failure_t *failure);

/* Ends the ranks. NULL is allowed. */
void launch_close(launch_t *launch);

/* All three, for one run. */
bool launch_run(const plan_t *plan, run_result_t *out, failure_t *failure);

#endif
