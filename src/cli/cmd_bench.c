/* SPDX-License-Identifier: Apache-2.0 */
/* moxie bench: options, plan, run, and what becomes of the result. */
#include "bench/baseline.h"
#include "bench/device.h"
#include "bench/flight.h"
#include "bench/launch.h"
#include "bench/launched.h"
#include "bench/mpirun.h"
#include "bench/output.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "bench/recording.h"
#include "bench/stopping.h"
#include "bench/table.h"
#include "bench/text_json.h"
#include "bench/trace.h"
#include "bench/watchdog.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/flags.h"
#include "cli/gpus.h"
#include "suite/command_text.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* What the run writes beside standard output. */
typedef struct outputs {
    output_folder_t folder;
    output_file_t recording;
    output_file_t trace;
} outputs_t;

static bool open_outputs(outputs_t *outputs, const plan_t *plan, failure_t *failure)
{
    const options_t *options = plan->options;
    if (options->output_dir != NULL && !output_folder_open(&outputs->folder, options->output_dir,
                                                           plan->where[OPTION_OUTPUT_DIR], failure))
        return false;
    return (options->record_routing == NULL ||
            output_file_open(&outputs->recording, options->record_routing,
                             plan->where[OPTION_RECORD_ROUTING], failure)) &&
           (options->trace == NULL ||
            output_file_open(&outputs->trace, options->trace, plan->where[OPTION_TRACE], failure));
}

static void discard_outputs(outputs_t *outputs)
{
    output_folder_discard(&outputs->folder);
    output_file_discard(&outputs->recording);
    output_file_discard(&outputs->trace);
}

static bool write_recording(outputs_t *outputs, const plan_t *plan, failure_t *failure)
{
    file_bytes_t bytes;
    if (outputs->recording.stream == NULL)
        return true;
    if (!recording_format(&plan->routing, &bytes))
        return failure_set(failure, EXIT_FAILED, "not enough memory for the recording");
    (void)fwrite(bytes.bytes, 1, bytes.count, outputs->recording.stream);
    file_release(&bytes);
    return output_file_commit(&outputs->recording, failure);
}

static bool write_trace(outputs_t *outputs, const json_t *trace, failure_t *failure)
{
    if (outputs->trace.stream == NULL)
        return true;
    (void)trace_write(trace, outputs->trace.stream);
    return output_file_commit(&outputs->trace, failure);
}

/* "<what>_<shape>_<routing>": of a routing's file only the name, and no characters that a shell or
 * a file system could take for something else. */
static void folder_prefix(const plan_t *plan, const char *what, char *out, size_t size)
{
    const char *routing = plan->options->routing;
    const char *slash = strrchr(routing, '/');
    int kind_length = (int)strcspn(routing, ":");
    if (slash == NULL)
        (void)snprintf(out, size, "%s_%s_%s", what, plan->shape_name, routing);
    else
        (void)snprintf(out, size, "%s_%s_%.*s-%s", what, plan->shape_name, kind_length, routing,
                       slash + 1);
    for (char *c = out; *c != '\0'; c++)
        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", *c) == NULL)
            *c = '-';
}

static bool write_folder(outputs_t *outputs, const plan_t *plan, const json_t *record,
                         failure_t *failure)
{
    char prefix[160];
    if (outputs->folder.partial_path[0] == '\0')
        return true;
    FILE *json = output_folder_file(&outputs->folder, "bench.json", failure);
    FILE *text = json == NULL ? NULL : output_folder_file(&outputs->folder, "bench.txt", failure);
    if (json == NULL || text == NULL) {
        if (json != NULL)
            (void)fclose(json);
        return false;
    }
    bool is_written = record_write(record, json);
    table_write(record, plan->shape_name, text);
    is_written = ferror(text) == 0 && is_written;
    is_written = fclose(json) == 0 && is_written;
    is_written = fclose(text) == 0 && is_written;
    if (!is_written)
        return failure_set(failure, EXIT_FAILED, "%s: the results could not be written",
                           plan->options->output_dir);
    folder_prefix(plan, "bench", prefix, sizeof(prefix));
    return output_folder_commit(&outputs->folder, prefix, failure);
}

/* A file for each rank that could still say something; false when there is none, or no folder. */
static bool write_flights(outputs_t *outputs, const plan_t *plan, const run_result_t *result)
{
    char prefix[160];
    failure_t unused;
    bool is_written = false;
    for (int32_t rank = 0; rank < plan->rank_count && outputs->folder.partial_path[0] != '\0';
         rank++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "flight_rank%d.txt", rank);
        FILE *file = result->flight[rank] == NULL
                         ? NULL
                         : output_folder_file(&outputs->folder, name, &unused);
        if (file != NULL) {
            is_written |= fputs(result->flight[rank], file) >= 0;
            (void)fclose(file);
        }
    }
    folder_prefix(plan, "failed", prefix, sizeof(prefix));
    return is_written && output_folder_commit(&outputs->folder, prefix, &unused);
}

/* What the ranks did before a peer was lost: the lowest one's last calls, and files of all. */
static void tell_flights(outputs_t *outputs, const plan_t *plan, const run_result_t *result)
{
    int32_t rank = 0;
    while (rank < plan->rank_count && result->flight[rank] == NULL) {
        rank++;
    }
    if (rank < plan->rank_count) {
        flight_print(result->flight[rank], rank, stderr);
    }
    if (write_flights(outputs, plan, result)) {
        (void)fprintf(stderr, "the ranks' flight recorders are in %s\n", outputs->folder.path);
    }
}

static bool publish(outputs_t *outputs, const plan_t *plan, const run_result_t *result,
                    failure_t *failure)
{
    char *command = command_text(plan->options);
    record_complete(result->record);
    json_object_set_new(result->record, "command", text_json(command));
    free(command);
    if (plan->place.is_cuda) { /* the ranks have ended: this process may look at GPUs itself */
        json_object_set_new(json_object_get(result->record, "machine"), "gpus", gpus_json());
    }
    if (!write_recording(outputs, plan, failure) || !write_trace(outputs, result->trace, failure) ||
        !write_folder(outputs, plan, result->record, failure))
        return false;
    if (plan->options->json) {
        (void)record_write(result->record, stdout);
    } else {
        table_write(result->record, plan->shape_name, stdout);
        if (plan->options->output_dir != NULL)
            (void)printf("results   are in %s\n", outputs->folder.path);
    }
    return result->mismatch[0] == '\0' ||
           failure_set(failure, EXIT_FAILED, "NOT VERIFIED: %s", result->mismatch);
}

/* The ranks are started here, and watched. */
static bool run_here(const options_t *options, const launcher_t *launcher, failure_t *failure)
{
    plan_t plan = {0};
    outputs_t outputs = {0};
    run_result_t result = {.record = NULL};
    bool is_planned = plan_make(&plan, options, launcher, failure);
    plan.has_progress = progress_is_visible();
    bool is_done = is_planned && open_outputs(&outputs, &plan, failure) &&
                   launch_run(&plan, &result, failure) &&
                   publish(&outputs, &plan, &result, failure);
    if (failure->exit_code == EXIT_PEER) {
        tell_flights(&outputs, &plan, &result);
    }
    discard_outputs(&outputs);
    run_result_release(&result);
    plan_release(&plan);
    return is_done;
}

/* Tells why; a lost peer also on standard output where JSON was asked for. */
static void tell_failure(const char *name, const options_t *options, const failure_t *failure)
{
    if (failure->exit_code == EXIT_PEER && options->json) {
        json_t *error = record_error(failure);
        (void)record_write(error, stdout);
        json_decref(error);
    }
    if (failure->sentence[0] != '\0') { /* else the ranks have told it */
        (void)cli_fail(name, failure);
    }
}

/* A baseline needs MPI: this program starts itself again under mpirun. */
static void run_under_mpirun(const char *name, const options_t *options, char **arguments,
                             failure_t *failure)
{
    plan_t plan = {0};
    mpirun_output_t output = {NULL, 0};
    launcher_t nobody = {.rank_count = 1};
    if (plan_make(&plan, options, &nobody, failure)) {
        (void)mpirun_run(&plan, arguments, &output, failure);
    }
    if (output.count > 0) {
        (void)fwrite(output.bytes, 1, output.count, stdout);
    }
    if (failure->exit_code != EXIT_DONE && output.count == 0) {
        tell_failure(name, options, failure);
    } else if (failure->sentence[0] != '\0') {
        (void)cli_fail(name, failure);
    }
    free(output.bytes);
    plan_release(&plan);
}

/* A rank of a launcher, as threads besides the main one see it. */
typedef struct job {
    const char *name;
    const options_t *options;
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
static bool try_outputs(const plan_t *plan, failure_t *failure)
{
    outputs_t outputs = {0};
    stopping_hold();
    bool is_done = plan->launcher.rank != 0 || open_outputs(&outputs, plan, failure);
    discard_outputs(&outputs);
    stopping_release();
    return is_done;
}

/* A stop signal waits until all of it is there, or nothing. */
static bool publish_launched(const plan_t *plan, const run_result_t *result, failure_t *failure)
{
    outputs_t outputs = {0};
    stopping_hold();
    bool is_done = plan->launcher.rank != 0 || (open_outputs(&outputs, plan, failure) &&
                                                publish(&outputs, plan, result, failure));
    discard_outputs(&outputs);
    (void)fflush(stdout); /* launchers may end this rank as soon as another one has ended */
    stopping_release();
    return is_done;
}

/* All of a rank: what it cannot do the others are told, so that all end alike. */
static bool run_launched(launched_t *launched, const options_t *options, const launcher_t *launcher,
                         failure_t *failure)
{
    plan_t plan = {0};
    run_result_t result = {.record = NULL};
    failure_t meeting = {.exit_code = EXIT_DONE};
    bool is_planned =
        failure->exit_code == EXIT_DONE && plan_make(&plan, options, launcher, failure);
    plan.has_progress = progress_is_visible();
    bool is_ready = is_planned && try_outputs(&plan, failure);
    bool has_met = launched_meet(launched, launcher, options, is_ready ? &plan : NULL, &meeting);
    if (!has_met && (is_ready || launched->is_agreed)) {
        *failure = meeting;
    }
    bool is_run = has_met && launched_agree(launched, failure) &&
                  launched_run(launched, &plan, &result, failure);
    if (is_run) {
        (void)publish_launched(&plan, &result, failure);
        is_run = launched_agree(launched, failure);
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
        tell_failure(job->name, job->options, failure);
    } else if (voice == VOICE_ERROR) {
        (void)cli_fail(job->name, failure);
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
static void be_launched(const char *name, const options_t *options, const launcher_t *launcher,
                        failure_t *failure)
{
    static job_t job; /* a stop signal looks at it until the process ends */
    job.name = name;
    job.options = options;
    if (!stopping_watch(clean_launched, &job.launched)) {
        failure_set(failure, EXIT_FAILED, "rank %d: no thread for signals", launcher->rank);
    }
    if (baseline_is_mpi(options) &&
        !watchdog_watch(launcher->rank, launcher->rank_count, give_up, &job)) {
        failure_set(failure, EXIT_FAILED, "rank %d: no thread for deadlines", launcher->rank);
    }
    if (!run_launched(&job.launched, options, launcher, failure)) {
        tell_of_job(&job, failure, VOICE_NONE);
    }
    launched_leave(&job.launched, failure);
}

int cmd_bench(int argc, char **argv)
{
    options_t options;
    launcher_t launcher;
    failure_t failure = {.exit_code = EXIT_DONE};
    sigset_t stopping;
    device_prepare();
    if (!options_init(&options)) {
        return EXIT_FAILED;
    }
    /* From here on a stop signal waits until nothing is left behind. */
    stop_signals(&stopping);
    (void)sigprocmask(SIG_BLOCK, &stopping, NULL);
    bool is_known = launcher_find(&launcher, &failure);
    bool is_ready = is_known && flags_read(&options, argc, argv, &failure) &&
                    (options.config == NULL || config_read(&options, &failure));
    if (is_known && launcher.name != NULL) {
        be_launched(argv[0], &options, &launcher, &failure);
    } else if (is_ready && baseline_is_mpi(&options)) {
        run_under_mpirun(argv[0], &options, argv + 1, &failure);
    } else if (!is_ready || !run_here(&options, &launcher, &failure)) {
        tell_failure(argv[0], &options, &failure);
    }
    options_release(&options);
    if (failure.signal != 0) {
        (void)signal(failure.signal, SIG_DFL);
        (void)raise(failure.signal);
    }
    (void)sigprocmask(SIG_UNBLOCK, &stopping, NULL);
    return failure.exit_code;
}
