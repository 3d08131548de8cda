/* SPDX-License-Identifier: Apache-2.0 */
/* Plans a run, lets the benchmark launch it, and writes down what became of it. */
#include "suite/run.h"

#include "bench/launch.h"
#include "bench/table.h"
#include "bench/text_json.h"
#include "moxie/version.h"
#include "suite/command.h"
#include "suite/command_text.h"
#include "suite/environment.h"
#include "suite/figures.h"
#include "suite/inputs.h"
#include "suite/matrices.h"
#include "suite/metadata.h"
#include "suite/results.h"
#include "suite/run_record.h"
#include "suite/tree.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A job under way. */
typedef struct run {
    const suite_session_t *session;
    const job_t *job;
    char folder[PATH_MAX];
    char results[128]; /* the folder of results in it; "": there are none */
    char *command;
    options_t options;
    plan_t plan;
    run_result_t result;
    failure_t failure; /* of the run, not of the suite */
    time_t start;
    time_t end;
    int64_t elapsed_ms;
} run_t;

static const char *status_of(const run_t *run)
{
    if (run->failure.signal != 0)
        return "cancelled";
    if (run->result.is_out_of_time)
        return "timed_out";
    switch (run->failure.exit_code) {
    case EXIT_DONE:
        return run->session->request->is_dry     ? "planned"
               : run->result.mismatch[0] == '\0' ? "passed"
                                                 : "mismatch";
    case EXIT_USAGE:
        return "refused";
    case EXIT_PEER:
        return "lost";
    case EXIT_UNAVAILABLE:
        return "unsupported";
    default:
        return "failed";
    }
}

static const char *state_of(const run_t *run)
{
    const char *status = status_of(run);
    if (strcmp(status, "passed") == 0)
        return "COMPLETED";
    if (strcmp(status, "timed_out") == 0)
        return "TIMEOUT";
    return strcmp(status, "cancelled") == 0 ? "CANCELLED" : "FAILED";
}

static json_t *make_record(const run_t *run)
{
    char start[STAMP_BYTES];
    const char *reason =
        run->failure.sentence[0] != '\0' ? run->failure.sentence : run->result.mismatch;
    json_t *record = run_record_begin(run->session, run->job, status_of(run), reason);
    tree_stamp(run->start, start);
    json_object_set_new(record, "command", text_json(run->command));
    json_object_set_new(record, "started", text_json(start));
    json_object_set_new(record, "elapsed_s", json_real((double)run->elapsed_ms / 1e3));
    json_object_set_new(
        record, "exit_code",
        json_integer(run->result.mismatch[0] == '\0' ? run->failure.exit_code : EXIT_FAILED));
    json_object_set_new(record, "bench",
                        run->result.record == NULL ? json_null() : json_incref(run->result.record));
    json_object_set_new(record, "traffic",
                        run->result.record == NULL ? json_null() : matrices_json(&run->plan));
    json_object_set_new(record, "results",
                        text_json(run->results[0] == '\0' ? NULL : run->results));
    return record;
}

/* What can be refused is refused before a rank is started. */
static bool plan(run_t *run)
{
    bool is_planned = plan_make(&run->plan, &run->options, &run->session->launcher, &run->failure);
    run->plan.time_limit_s = run->job->entry->time_limit_s;
    run->plan.has_progress = run->session->has_progress;
    return is_planned;
}

static void execute(run_t *run)
{
    environment_t environment;
    run->start = time(NULL);
    int64_t start_ms = link_now_ms();
    if (!environment_enter(&environment, run->session, run->job))
        failure_set(&run->failure, EXIT_FAILED, "not enough memory for the environment");
    else if (plan(run) && !run->session->request->is_dry)
        (void)launch_run(&run->plan, &run->result, &run->failure);
    environment_leave(&environment);
    run->elapsed_ms = link_now_ms() - start_ms;
    run->end = time(NULL);
    if (run->result.record != NULL) {
        json_object_set(run->result.record, "machine", run->session->machine);
        json_object_set_new(run->result.record, "version", json_string(moxie_version_text()));
    }
}

static bool write_node(const run_t *run, failure_t *failure)
{
    char path[PATH_MAX + 32];
    char node_count[16];
    char rank_count[16];
    const suite_session_t *session = run->session;
    metadata_node_t node = {.host = session->host,
                            .machine = session->machine,
                            .gpus = session->request->gpus,
                            .node_list = session->host,
                            .num_nodes = node_count,
                            .ntasks = rank_count};
    (void)snprintf(node_count, sizeof(node_count), "%d", run->job->node_count);
    (void)snprintf(rank_count, sizeof(rank_count), "%d",
                   run->job->node_count * session->ranks_per_node);
    (void)snprintf(path, sizeof(path), "%s/metadata", run->folder);
    return metadata_write_node(&node, path, failure);
}

static bool prepare(run_t *run, failure_t *failure)
{
    const suite_session_t *session = run->session;
    (void)snprintf(run->folder, sizeof(run->folder), "%.*s/%s", PATH_MAX - 512, session->folder,
                   run->job->folder);
    if (!options_init(&run->options))
        return failure_set(failure, EXIT_FAILED, "not enough memory for options");
    (void)command_set_options(session, run->job, &run->options, &run->failure);
    run->command = command_text(&run->options);
    if (run->command == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory for the command");
    return tree_make(run->folder, failure) &&
           inputs_write(session, run->job, run->folder, run->command, failure) &&
           write_node(run, failure) &&
           metadata_write_test(run->job, run->folder, run->command, "sh cloudai_sbatch_script.sh",
                               failure);
}

/* benchmark_<ranks>_ranks_<time>_<mode>/ */
static bool write_results(run_t *run, const json_t *list, failure_t *failure)
{
    char stamp[STAMP_BYTES];
    char path[PATH_MAX + 256];
    tree_stamp(run->start, stamp);
    (void)snprintf(run->results, sizeof(run->results), "benchmark_%d_ranks_%s_%s",
                   run->plan.rank_count, stamp, job_value(run->job, SETTING_MODE).text);
    (void)snprintf(path, sizeof(path), "%s/%s", run->folder, run->results);
    return tree_make(path, failure) &&
           results_write(&run->plan, list, run->result.trace, path, failure);
}

static bool write_stdout(const run_t *run, const json_t *list, failure_t *failure)
{
    static const char name[] = "stdout.txt";
    FILE *out = tree_open(run->folder, name, failure);
    if (out == NULL)
        return false;
    if (run->result.record != NULL) {
        table_write(run->result.record, run->job->entry->test.name, out);
        figures_print(list, out);
    }
    return tree_close(out, run->folder, name, failure);
}

/* What went wrong, and the last thing that the ranks did. */
static bool write_stderr(const run_t *run, failure_t *failure)
{
    static const char name[] = "stderr.txt";
    FILE *out = tree_open(run->folder, name, failure);
    if (out == NULL)
        return false;
    if (run->failure.sentence[0] != '\0')
        (void)fprintf(out, "%s\n", run->failure.sentence);
    if (run->result.mismatch[0] != '\0')
        (void)fprintf(out, "NOT VERIFIED: %s\n", run->result.mismatch);
    for (int32_t rank = 0; rank < MOXIE_RANK_COUNT_MAX; rank++)
        if (run->result.flight[rank] != NULL)
            (void)fprintf(out, "\n%s", run->result.flight[rank]);
    return tree_close(out, run->folder, name, failure);
}

static bool write_job(const run_t *run, failure_t *failure)
{
    char start[METADATA_TIME_BYTES];
    char end[METADATA_TIME_BYTES];
    metadata_job_t job = {.job_id = getpid(),
                          .state = state_of(run),
                          .start_time = start,
                          .end_time = end,
                          .elapsed_s = run->end - run->start,
                          .exit_code = run->result.mismatch[0] == '\0' ? run->failure.exit_code
                                                                       : EXIT_FAILED,
                          .test_command = run->command};
    metadata_time(run->start, start);
    metadata_time(run->end, end);
    return metadata_write_job(run->job, run->folder, &job, failure);
}

static bool write_outputs(run_t *run, json_t **record, failure_t *failure)
{
    bool with_combine = job_value(run->job, SETTING_BENCHMARK_COMBINE).number != 0;
    bool has_result = run->result.record != NULL;
    json_t *list = has_result ? figures_list(run->result.record, with_combine) : json_array();
    bool is_written = (!has_result || write_results(run, list, failure)) &&
                      write_stdout(run, list, failure) && write_stderr(run, failure) &&
                      write_job(run, failure);
    *record = make_record(run);
    is_written = is_written && run_record_write(run->session, *record, run->folder, failure);
    json_decref(list);
    return is_written;
}

static void release(run_t *run)
{
    run_result_release(&run->result);
    plan_release(&run->plan);
    options_release(&run->options);
    free(run->command);
}

bool run_job(const suite_session_t *session, const job_t *job, json_t **record, failure_t *failure)
{
    run_t *run = calloc(1, sizeof(*run));
    bool is_done = false;
    *record = NULL;
    if (run == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory for a run");
    run->session = session;
    run->job = job;
    if (prepare(run, failure)) {
        if (run->failure.exit_code == EXIT_DONE)
            execute(run);
        else
            run->start = run->end = time(NULL);
        is_done = session->request->is_dry
                      ? (*record = make_record(run)) != NULL &&
                            results_write_json(run->folder, "record.json", *record, failure)
                      : write_outputs(run, record, failure);
    }
    if (run->failure.signal != 0)
        *failure = run->failure;
    is_done = is_done && run->failure.signal == 0;
    release(run);
    free(run);
    return is_done;
}
