/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run takes place: the backend, and the GPUs it has. */
#ifndef MOXIE_BENCH_PLACE_H
#define MOXIE_BENCH_PLACE_H

#include "bench/plan.h"

/* Chooses the backend that the options ask for, or the best that works here; refuses options that
 * it does not have. Decides plan->place. */
bool place_choose(plan_t *plan, failure_t *failure);

/* Ranks when nobody says how many. */
int32_t place_rank_count(const plan_t *plan);

/* Whether the ranks fit onto the GPUs: one each, or all as threads of a process on the only one.
 */
bool place_check_ranks(plan_t *plan, failure_t *failure);

/* Whether the process that plans goes on to start the ranks and must not touch a GPU itself. */
bool place_is_aside(const plan_t *plan);

#endif
