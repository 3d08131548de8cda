/* SPDX-License-Identifier: Apache-2.0 */
/* What stored settings are asked for: the plan in the words of the store. */
#ifndef MOXIE_BENCH_TUNED_H
#define MOXIE_BENCH_TUNED_H

#include "bench/plan.h"
#include "store/settings.h"

/* The key of a plan; its machine is "": whoever needs it asks in a process of its own, since the
 * driver of GPUs may not start in one that will fork. */
void tuned_key(const plan_t *plan, settings_key_t *key);

/* Notes in the plan which shape its groups will be of, as the library is told. */
void tuned_describe(plan_t *plan);

#endif
