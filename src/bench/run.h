/* SPDX-License-Identifier: Apache-2.0 */
/* What one rank does from joining the group to the result. */
#ifndef MOXIE_BENCH_RUN_H
#define MOXIE_BENCH_RUN_H

#include "bench/link.h"
#include "bench/plan.h"

/* Runs a rank: verify, time, verify again. Rank 0 sends the record through the link. */
bool run_rank(const plan_t *plan, int32_t rank, const char *rendezvous, link_t *link,
              failure_t *failure);

#endif
