/* SPDX-License-Identifier: Apache-2.0 */
/* The folder benchmark_… of a run that was measured. */
#ifndef MOXIE_SUITE_RESULTS_H
#define MOXIE_SUITE_RESULTS_H

#include "bench/link.h"
#include "bench/plan.h"

/* Writes results.json, which is `list` (suite/figures.h), the matrices, and trace.json when there
 * is a timeline. */
bool results_write(const plan_t *plan, const json_t *list, const json_t *trace, const char *folder,
                   failure_t *failure);

/* Writes a document into a folder. */
bool results_write_json(const char *folder, const char *name, const json_t *document,
                        failure_t *failure);

#endif
