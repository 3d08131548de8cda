/* SPDX-License-Identifier: Apache-2.0 */
/* What one rank does in its group, from the first row to the result. */
#ifndef MOXIE_BENCH_RUN_H
#define MOXIE_BENCH_RUN_H

#include "bench/link.h"
#include "bench/plan.h"

/* Runs a rank of a group: verify, time, verify again. The result goes through the link. */
bool run_rank(const plan_t *plan, moxie_group_t *group, link_t *link, failure_t *failure);

#endif
