/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a run, schema moxie.suite.run/1 (docs/suite.md). */
#ifndef MOXIE_SUITE_RUN_RECORD_H
#define MOXIE_SUITE_RUN_RECORD_H

#include "suite/job.h"
#include "suite/session.h"

/* What is known of a run before it starts; a new reference. */
json_t *run_record_begin(const suite_session_t *session, const job_t *job, const char *status,
                         const char *reason);

/* Writes FOLDER/record.json, and its rows: FOLDER/report.csv. */
bool run_record_write(const suite_session_t *session, const json_t *record, const char *folder,
                      failure_t *failure);

#endif
