/* SPDX-License-Identifier: Apache-2.0 */
/* A run as a job of Slurm: what its folder has before it starts, and what becomes of it. */
#ifndef MOXIE_SUITE_BATCH_H
#define MOXIE_SUITE_BATCH_H

#include "suite/job.h"
#include "suite/session.h"
#include "suite/slurm.h"

/* What happened to a run. */
typedef struct batch_end {
    int64_t id;            /* 0: Slurm did not take the job */
    slurm_job_t slurm;     /* of a job that was taken */
    const char *why_never; /* it never started, and why; NULL: it started, or nobody knows */
    const char *ended_by;  /* the test whose end ended it, as end_post_comp says; NULL: none */
    const char *why_left;  /* nobody waited for its end, and why; NULL: it is over */
} batch_end_t;

/* Writes everything that the job reads. */
bool batch_prepare(const suite_session_t *session, const job_t *job, failure_t *failure);

/* Judges a run by its job's state and its verified results, and writes slurm-job.toml, report.csv
 * and record.json; `*record` is a new reference. */
bool batch_conclude(const suite_session_t *session, const job_t *job, const batch_end_t *end,
                    json_t **record, failure_t *failure);

/* The record of a run that is only planned, written as well; a new reference. */
bool batch_plan(const suite_session_t *session, const job_t *job, json_t **record,
                failure_t *failure);

/* The folder of a run. */
void batch_folder(const suite_session_t *session, const job_t *job, char out[PATH_MAX]);

#endif
