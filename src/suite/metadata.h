/* SPDX-License-Identifier: Apache-2.0 */
/* What a run was, in the files that CloudAI writes about its jobs. */
#ifndef MOXIE_SUITE_METADATA_H
#define MOXIE_SUITE_METADATA_H

#include "suite/job.h"
#include "suite/session.h"

#include <time.h>

/* How a run ended. */
typedef struct metadata_end {
    const char *state; /* "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED" */
    time_t start;
    time_t end;
    int exit_code;
} metadata_end_t;

/* Writes metadata/node-HOST.toml. */
bool metadata_write_node(const suite_session_t *session, const job_t *job, const char *folder,
                         failure_t *failure);

/* Writes test-run.toml: the test with every default written out. */
bool metadata_write_test(const job_t *job, const char *folder, const char *command,
                         failure_t *failure);

/* Writes slurm-job.toml; the job's number is that of this process. */
bool metadata_write_job(const job_t *job, const char *folder, const char *command,
                        const metadata_end_t *end, failure_t *failure);

#endif
