/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the benchmark wherever its ranks are: started here, or this process is one of a launcher's.
 * The subcommand decides what becomes of the result. */
#ifndef MOXIE_CLI_RUNNER_H
#define MOXIE_CLI_RUNNER_H

#include "bench/launcher.h"
#include "bench/link.h"
#include "bench/plan.h"

typedef struct runner {
    const char *name; /* of the subcommand, for messages */
    const options_t *options;
    const launcher_t *launcher;
    void *ctx; /* of the functions below; only the process that writes is asked */

    /* Before the run: refuses what could not be written after it. */
    bool (*open)(void *ctx, const plan_t *plan, failure_t *failure);

    /* After it, with the complete record, verified or not; of a mismatch the runner itself makes a
     * failure. */
    bool (*publish)(void *ctx, const plan_t *plan, const run_result_t *result, failure_t *failure);

    /* A peer was lost: keeps what its ranks did last. NULL: it is printed only. */
    void (*keep_flights)(void *ctx, const plan_t *plan, const run_result_t *result);

    /* In the end: removes what was opened and is not published. */
    void (*discard)(void *ctx);
} runner_t;

/*
 * Plans, runs and publishes; tells of a failure on standard error, and of a lost peer in JSON where
 * the options ask for it. Stop signals must be blocked.
 *
 * @param[in,out] failure  of this process so far: a rank of a launcher meets the others all the
 *                         same, to tell them. failure->signal should be raised again.
 */
void runner_run(const runner_t *runner, failure_t *failure);

/* Tells of a failure of a process that does not get as far as that. */
void runner_tell(const runner_t *runner, const failure_t *failure);

#endif
