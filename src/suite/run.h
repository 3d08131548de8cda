/* SPDX-License-Identifier: Apache-2.0 */
/* One run of a suite on this machine: its folder, its ranks, its results. */
#ifndef MOXIE_SUITE_RUN_H
#define MOXIE_SUITE_RUN_H

#include "suite/job.h"
#include "suite/session.h"

/*
 * Runs a job and writes its folder. Whatever becomes of the ranks, a record tells it, schema
 * moxie.suite.run/1 (docs/suite.md).
 *
 * @param[out] record  a new reference; NULL when there is none
 * @return false when the suite cannot go on: its folder cannot be written, or a stop signal came
 *         (failure->signal), and then there may be a record
 */
bool run_job(const suite_session_t *session, const job_t *job, json_t **record, failure_t *failure);

#endif
