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

enum { MEMORY_LIMIT_TEXT_BYTES = 768 };

/* What follows "0.2 GB are available": " of the 0.3 GB that /sys/fs/cgroup/job/memory.max
 * allows", or nothing where no limit is what counts. */
const char *memory_limit_text(char text[MEMORY_LIMIT_TEXT_BYTES]);

#endif
