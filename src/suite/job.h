/* SPDX-License-Identifier: Apache-2.0 */
/* One run of one test: an entry of a scenario, an iteration, and one value of each sweep. */
#ifndef MOXIE_SUITE_JOB_H
#define MOXIE_SUITE_JOB_H

#include "suite/scenario.h"

typedef struct job {
    const entry_t *entry;
    int32_t iteration; /* from 0 on */
    int32_t step;      /* of a sweep from 1 on; 0: there is none */
    int32_t node_count;
    int32_t value_index[SETTING_COUNT]; /* which value of each setting */
    int32_t *variable_index;            /* [variables of the test] and of each variable; owned */
    char *folder;                       /* "Tests.1/0", in a sweep "Tests.1/0/3"; owned */
} job_t;

typedef struct jobs {
    job_t *list;
    int32_t count;
} jobs_t;

/* All runs of a scenario in their order: the last sweep varies fastest. False: no memory. */
bool jobs_make(const scenario_t *scenario, jobs_t *out);

void jobs_release(jobs_t *jobs);

/* The value of a setting in a run. */
setting_value_t job_value(const job_t *job, setting_id_t id);

/* The value of a variable of the test, by the variable's index. */
const char *job_variable(const job_t *job, int32_t index);

#endif
