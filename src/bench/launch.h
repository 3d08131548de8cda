/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the ranks of a plan as processes of this machine, watches them and takes their result. */
#ifndef MOXIE_BENCH_LAUNCH_H
#define MOXIE_BENCH_LAUNCH_H

#include "bench/link.h"
#include "bench/plan.h"

/*
 * Runs a plan. Never waits without a bound, leaves no process and no file behind. A stop
 * signal ends it: failure->signal is set and the caller should raise it again.
 */
bool launch_run(const plan_t *plan, run_result_t *out, failure_t *failure);

#endif
