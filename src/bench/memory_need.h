/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a plan fits into the machine. */
#ifndef MOXIE_BENCH_MEMORY_NEED_H
#define MOXIE_BENCH_MEMORY_NEED_H

#include "bench/plan.h"

/* Refuses sizes whose inputs and routings alone do not fit, before a routing is made. */
bool memory_check_inputs(const plan_t *plan, failure_t *failure);

/* Chooses the numbers of input sets and refuses a plan whose sum is more than there is. */
bool memory_check_plan(plan_t *plan, failure_t *failure);

/* Bytes as a person reads them: "23.4 GB". */
const char *memory_text(uint64_t bytes, char text[32]);

#endif
