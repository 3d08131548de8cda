/* SPDX-License-Identifier: Apache-2.0 */
/* The two ways to run: watching ranks of our own, or being one among ranks that nobody watches. */
#include "cli/runner.h"

#include "bench/baseline.h"
#include "bench/flight.h"
#include "bench/launch.h"
#include "bench/launched.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "bench/stopping.h"
#include "bench/text_json.h"
#include "bench/watchdog.h"
#include "cli/cli.h"
#include "cli/gpus.h"
#include "suite/command_text.h"

#include <stdio.h>
#include <stdlib.h>

/* What the ranks did before a peer was lost: the lowest one's last calls, and what else is kept. */
static void tell_flights(const runner_t *runner, const plan_t *plan, const run_result_t *result)
{
    int32_t rank = 0;
    while (rank < plan->rank_count && result->flight[rank] == NULL) {
        rank++;
    }
    if (rank < plan->rank_count) {
        flight_print(result->flight[rank], rank, stderr);
    }
    if (runner->keep_flights != NULL) {
        runner->keep_flights(runner->ctx, plan, result);
    }
}

/* Adds to the record what only the process that publishes it knows. */
static void complete(const plan_t *plan, json_t *record)
{
    char *command = command_text(plan->options);
    record_complete(record);
    json_object_set_new(record, "command", text_json(command));
    free(command);
    if (plan->place.is_cuda) { /* the ranks have ended: this process may look at GPUs itself */
        json_object_set_new(json_object_get(record, "machine"), "gpus", gpus_json());
    }
}

static bool publish(const runner_t *runner, const plan_t *plan, const run_result_t *result,
                    failure_t *failure)
{
    complete(plan, result->record);
    return runner->publish(runner->ctx, plan, result, failure) &&
           (result->mismatch[0] == '\0' ||
            failure_set(failure, EXIT_FAILED, "NOT VERIFIED: %s", result->mismatch));
}

/* The ranks are started here, and watched. */
static bool run_here(const runner_t *runner, failure_t *failure)
{
    plan_t plan = {0};
    run_result_t result = {.record = NULL};
    bool is_planned = plan_make(&plan, runner->options, runner->launcher, failure);
    plan.has_progress = progress_is_visible();
    bool is_done = is_planned && runner->open(runner->ctx, &plan, failure) &&
                   launch_run(&plan, &result, failure) && publish(runner, &plan, &result, failure);
    if (failure->exit_code == EXIT_PEER) {
        tell_flights(runner, &plan, &result);
    }
    runner->discard(runner->ctx);
    run_result_release(&result);
    plan_release(&plan);
    return is_done;
}

void runner_tell(const runner_t *runner, const failure_t *failure)
{
    if (failure->exit_code == EXIT_PEER && runner->options->json) {
        json_t *error = record_error(failure);
        (void)record_write(error, stdout);
        json_decref(error);
    }
    if (failure->sentence[0] != '\0') { /* else the ranks have told it */
        (void)cli_fail(runner->name, failure);
    }
}

/* A rank of a launcher, as threads besides the main one see it. */
typedef struct job {
    runner_t runner;
    launched_t launched;
} job_t;

/* For stop signals. */
static void clean_launched(void *ctx)
{
    launched_clean(ctx);
}

/*
 * Only rank 0 writes. What cannot be written is refused early, but nothing stays there for the run:
 * launchers kill almost without a warning.
 */
static bool try_outputs(const runner_t *runner, const plan_t *plan, failure_t *failure)
{
    if (plan->launcher.rank != 0) {
        return true;
    }
    stopping_hold();
    bool is_done = runner->open(runner->ctx, plan, failure);
    runner->discard(runner->ctx);
    stopping_release();
    return is_done;
}

/* A stop signal waits until all of it is there, or nothing. */
static void publish_launched(const runner_t *runner, const plan_t *plan, const run_result_t *result,
                             failure_t *failure)
{
    if (plan->launcher.rank != 0) {
        return;
    }
    stopping_hold();
    (void)(runner->open(runner->ctx, plan, failure) && publish(runner, plan, result, failure));
    runner->discard(runner->ctx);
    (void)fflush(stdout); /* launchers may end this rank as soon as another one has ended */
    stopping_release();
}

/* All of a rank: what it cannot do the others are told, so that all end alike. */
static bool run_launched(job_t *job, failure_t *failure)
{
    const runner_t *runner = &job->runner;
    plan_t plan = {0};
    run_result_t result = {.record = NULL};
    failure_t meeting = {.exit_code = EXIT_DONE};
    bool is_planned = failure->exit_code == EXIT_DONE &&
                      plan_make(&plan, runner->options, runner->launcher, failure);
    plan.has_progress = progress_is_visible();
    bool is_ready = is_planned && try_outputs(runner, &plan, failure);
    bool has_met = launched_meet(&job->launched, runner->launcher, runner->options,
                                 is_ready ? &plan : NULL, &meeting);
    if (!has_met && (is_ready || job->launched.is_agreed)) {
        *failure = meeting;
    }
    bool is_run = has_met && launched_agree(&job->launched, failure) &&
                  launched_run(&job->launched, &plan, &result, failure);
    if (is_run) {
        publish_launched(runner, &plan, &result, failure);
        is_run = launched_agree(&job->launched, failure);
    }
    run_result_release(&result);
    plan_release(&plan);
    return is_run;
}

/* Under a launcher each rank has only its own recorder. */
static void tell_own_flight(const launched_t *launched, const failure_t *failure)
{
    char *flight = failure->exit_code == EXIT_PEER && launched->group != NULL
                       ? flight_read(launched->group)
                       : NULL;
    if (flight != NULL) {
        flight_print(flight, launched->launcher.rank, stderr);
    }
    free(flight);
}

/* Tells of a failure, if that is up to this rank. */
static void tell_of_job(job_t *job, failure_t *failure, voice_t least)
{
    voice_t voice = launched_voice(&job->launched, failure);
    voice = voice < least ? least : voice;
    if (voice == VOICE_ALL) {
        tell_own_flight(&job->launched, failure);
        runner_tell(&job->runner, failure);
    } else if (voice == VOICE_ERROR) {
        (void)cli_fail(job->runner.name, failure);
    }
}

/* The main thread is inside MPI and will not come back. */
static void give_up(void *ctx, failure_t *failure)
{
    job_t *job = ctx;
    tell_of_job(job, failure, VOICE_ERROR); /* deadlines of ranks are not in step */
    launched_clean(&job->launched);
    (void)fflush(stdout);
    launched_stay(&job->launched, failure);
}

/* This process is one rank, which a launcher started. */
static void be_launched(const runner_t *runner, failure_t *failure)
{
    static job_t job; /* a stop signal looks at it until the process ends */
    const launcher_t *launcher = runner->launcher;
    job.runner = *runner;
    if (!stopping_watch(clean_launched, &job.launched)) {
        failure_set(failure, EXIT_FAILED, "rank %d: no thread for signals", launcher->rank);
    }
    if (baseline_is_mpi(runner->options) &&
        !watchdog_watch(launcher->rank, launcher->rank_count, give_up, &job)) {
        failure_set(failure, EXIT_FAILED, "rank %d: no thread for deadlines", launcher->rank);
    }
    if (!run_launched(&job, failure)) {
        tell_of_job(&job, failure, VOICE_NONE);
    }
    launched_leave(&job.launched, failure);
}

void runner_run(const runner_t *runner, failure_t *failure)
{
    if (runner->launcher->name != NULL) {
        be_launched(runner, failure);
    } else if (failure->exit_code != EXIT_DONE || !run_here(runner, failure)) {
        runner_tell(runner, failure);
    }
}
