/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of this process while the ranks of a run, or a command, are started. */
#ifndef MOXIE_SUITE_ENVIRONMENT_H
#define MOXIE_SUITE_ENVIRONMENT_H

#include "suite/job.h"
#include "suite/session.h"

typedef struct environment_change {
    char *name;
    char *before; /* NULL: it was not set */
} environment_change_t;

typedef struct environment {
    environment_change_t *changes;
    size_t count;
    bool is_out_of_memory;
} environment_t;

/* Sets the variables of a run. False: no memory; what was set is still to be taken back. */
bool environment_enter(environment_t *environment, const suite_session_t *session,
                       const job_t *job);

/* Takes variables away. False: no memory; what was taken is still to be put back. */
bool environment_without(environment_t *environment, const char *const names[], size_t count);

/* Takes everything back. */
void environment_leave(environment_t *environment);

/* {"NAME":"value",…} of a run; a new reference. */
json_t *environment_json(const suite_session_t *session, const job_t *job);

#endif
