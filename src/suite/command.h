/* SPDX-License-Identifier: Apache-2.0 */
/* What a run asks of the benchmark. */
#ifndef MOXIE_SUITE_COMMAND_H
#define MOXIE_SUITE_COMMAND_H

#include "suite/job.h"
#include "suite/session.h"

/* Gives the options, which are initialised, the values of a run. False: one is out of range. */
bool command_set_options(const suite_session_t *session, const job_t *job, options_t *options,
                         failure_t *failure);

/* {"tokens":1024,…}: the settings of a run, defaults too; a new reference. */
json_t *command_parameters(const job_t *job);

/* One object a key of all files that say something of this run, {"key","value","from","effect"},
 * where "from" is FILE:LINE or "default"; a new reference. */
json_t *command_keys(const suite_session_t *session, const job_t *job);

/* Adds the object of one setting to such a list. */
void command_append_setting(json_t *keys, const suite_session_t *session, const job_t *job,
                            setting_id_t id);

#endif
