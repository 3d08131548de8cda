/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs of a suite in Slurm's queue: all of them are submitted at once, and followed until none
 * is left. */
#ifndef MOXIE_SUITE_QUEUE_H
#define MOXIE_SUITE_QUEUE_H

#include "suite/job.h"
#include "suite/session.h"

/* Takes the record of a run that is over. False, with a failure: the suite cannot go on. */
typedef bool (*queue_keep_t)(void *ctx, const json_t *record, failure_t *failure);

/*
 * Writes the folders of all runs, submits them (but for a dry run), follows their jobs and gives
 * keep() a record of each as it ends. Stop signals must be blocked: when one comes, a person at a
 * terminal is asked whether the jobs are cancelled, and without a terminal they are;
 * failure->signal is set then, and every run has got a record all the same.
 */
bool queue_run(const suite_session_t *session, const jobs_t *jobs, queue_keep_t keep, void *ctx,
               failure_t *failure);

#endif
