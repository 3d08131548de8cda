/* SPDX-License-Identifier: Apache-2.0 */
/* What became of a job: its state in Slurm alone does not say that it measured anything. */
#ifndef MOXIE_SUITE_OUTCOME_H
#define MOXIE_SUITE_OUTCOME_H

#include "suite/batch.h"
#include "suite/complaint.h"

typedef struct outcome {
    const char *status; /* docs/suite.md has them all */
    char reason[1024];  /* "" of what passed */
} outcome_t;

/*
 * Judges a job.
 *
 * @param groups       what its ranks left: the records of those that were measured
 * @param group_count  how many of them there should be
 * @param complaint    what its standard error says
 */
void outcome_judge(const batch_end_t *end, const json_t *groups, int32_t group_count,
                   const complaint_t *complaint, outcome_t *out);

#endif
