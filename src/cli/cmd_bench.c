/* SPDX-License-Identifier: Apache-2.0 */
/* moxie bench: options, and what becomes of the result. */
#include "bench/baseline.h"
#include "bench/device.h"
#include "bench/mpirun.h"
#include "bench/output.h"
#include "bench/record.h"
#include "bench/recording.h"
#include "bench/stopping.h"
#include "bench/table.h"
#include "bench/trace.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/flags.h"
#include "cli/runner.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* What the run writes beside standard output. */
typedef struct outputs {
    output_folder_t folder;
    output_file_t recording;
    output_file_t trace;
} outputs_t;

static bool open_outputs(void *ctx, const plan_t *plan, failure_t *failure)
{
    outputs_t *outputs = ctx;
    const options_t *options = plan->options;
    *outputs = (outputs_t){.folder = {.path = ""}};
    if (options->output_dir != NULL && !output_folder_open(&outputs->folder, options->output_dir,
                                                           plan->where[OPTION_OUTPUT_DIR], failure))
        return false;
    return (options->record_routing == NULL ||
            output_file_open(&outputs->recording, options->record_routing,
                             plan->where[OPTION_RECORD_ROUTING], failure)) &&
           (options->trace == NULL ||
            output_file_open(&outputs->trace, options->trace, plan->where[OPTION_TRACE], failure));
}

static void discard_outputs(void *ctx)
{
    outputs_t *outputs = ctx;
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
    return output_folder_commit(&outputs->folder, prefix, "", failure);
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
    return is_written && output_folder_commit(&outputs->folder, prefix, "", &unused);
}

static void keep_flights(void *ctx, const plan_t *plan, const run_result_t *result)
{
    outputs_t *outputs = ctx;
    if (write_flights(outputs, plan, result)) {
        (void)fprintf(stderr, "the ranks' flight recorders are in %s\n", outputs->folder.path);
    }
}

static bool publish(void *ctx, const plan_t *plan, const run_result_t *result, failure_t *failure)
{
    outputs_t *outputs = ctx;
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
    return true;
}

/* A baseline needs MPI: this program starts itself again under mpirun. */
static void run_under_mpirun(const runner_t *runner, char **arguments, failure_t *failure)
{
    plan_t plan = {0};
    mpirun_output_t output = {NULL, 0};
    if (plan_make(&plan, runner->options, runner->launcher, failure)) {
        (void)mpirun_run(&plan, arguments, &output, failure);
    }
    if (output.count > 0) {
        (void)fwrite(output.bytes, 1, output.count, stdout);
    }
    if (failure->exit_code != EXIT_DONE && output.count == 0) {
        runner_tell(runner, failure);
    } else if (failure->sentence[0] != '\0') {
        (void)cli_fail(runner->name, failure);
    }
    free(output.bytes);
    plan_release(&plan);
}

int cmd_bench(int argc, char **argv)
{
    options_t options;
    launcher_t launcher;
    failure_t failure = {.exit_code = EXIT_DONE};
    sigset_t stopping;
    outputs_t outputs = {.folder = {.path = ""}};
    const runner_t runner = {.name = argv[0],
                             .options = &options,
                             .launcher = &launcher,
                             .ctx = &outputs,
                             .open = open_outputs,
                             .publish = publish,
                             .keep_flights = keep_flights,
                             .discard = discard_outputs};
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
    if (!is_known) {
        runner_tell(&runner, &failure);
    } else if (is_ready && launcher.name == NULL && baseline_is_mpi(&options)) {
        run_under_mpirun(&runner, argv + 1, &failure);
    } else {
        runner_run(&runner, &failure);
    }
    options_release(&options);
    if (failure.signal != 0) {
        (void)signal(failure.signal, SIG_DFL);
        (void)raise(failure.signal);
    }
    (void)sigprocmask(SIG_UNBLOCK, &stopping, NULL);
    return failure.exit_code;
}
