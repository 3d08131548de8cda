/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, decides where the ranks run, runs, writes. */
#include "suite/suite.h"

#include "bench/machine.h"
#include "bench/output.h"
#include "bench/place.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "bench/stopping.h"
#include "report/collect.h"
#include "report/report.h"
#include "suite/compare.h"
#include "suite/container.h"
#include "suite/figures.h"
#include "suite/job.h"
#include "suite/queue.h"
#include "suite/run.h"
#include "suite/run_record.h"
#include "suite/slurm.h"
#include "suite/summary.h"
#include "suite/system.h"
#include "suite/tree.h"
#include "suite/verify.h"

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where results go when nobody says. */
static const char default_folder[] = "results";

/* The rows of all runs. */
static const char csv_name[] = "suite.csv";

/* A suite from beginning to end. */
typedef struct suite {
    suite_session_t session;
    sources_t sources;
    cluster_t cluster; /* under Slurm */
    jobs_t jobs;
    json_t *earlier; /* the record to compare with; NULL: none */
    json_t *summary;
    FILE *csv; /* suite.csv, a row for each operation that was run */
    FILE *out;
} suite_t;

/* Whether the runs are jobs of Slurm, and which nodes that has. False: nobody knows; a dry run does
 * not need to. */
static bool find_cluster(suite_t *suite)
{
    suite_session_t *session = &suite->session;
    failure_t failure = {.exit_code = EXIT_DONE};
    session->is_slurm = session->system != NULL && !session->request->is_local;
    if (!session->is_slurm || cluster_read(&suite->cluster, &failure))
        return session->is_slurm;
    (void)snprintf(session->cluster_missing, sizeof(session->cluster_missing), "%.500s",
                   failure.sentence);
    return false;
}

static void read_files(suite_t *suite, mistakes_t *mistakes)
{
    const suite_request_t *request = suite->session.request;
    const source_t *scenario =
        sources_read(&suite->sources, request->scenario_path, true, mistakes);
    if (request->system_path != NULL)
        suite->session.system = sources_read(&suite->sources, request->system_path, true, mistakes);
    if (request->tests_dir != NULL)
        (void)sources_read_folder(&suite->sources, request->tests_dir, false, false, mistakes);
    else if (scenario != NULL)
        verify_read_neighbours(&suite->sources, scenario, mistakes);
    if (scenario != NULL && scenario->kind != SOURCE_SCENARIO)
        mistakes_add_file(mistakes, SEVERITY_ERROR, scenario->path, 0, 0,
                          "it is no scenario: the key 'Tests' is missing");
    if (suite->session.system != NULL)
        system_check(suite->session.system, mistakes);
    bool has_cluster = find_cluster(suite);
    references_t references = {.sources = &suite->sources,
                               .systems = &suite->session.system,
                               .system_count = suite->session.system == NULL ? 0 : 1,
                               .cluster = has_cluster ? &suite->cluster : NULL,
                               .has_containers = suite->session.is_slurm &&
                                                 container_is_asked(suite->session.system),
                               .is_strict = request->is_strict};
    if (scenario != NULL && scenario->kind == SOURCE_SCENARIO)
        scenario_read(scenario, &references, &suite->session.scenario, mistakes);
}

static bool read_all(suite_t *suite, FILE *told, failure_t *failure)
{
    mistakes_t mistakes = {0};
    read_files(suite, &mistakes);
    mistakes_print(&mistakes, told);
    size_t error_count = mistakes.error_count;
    mistakes_release(&mistakes);
    return error_count == 0 ||
           failure_set(failure, EXIT_USAGE, "%zu error%s in the files; nothing was run",
                       error_count, error_count == 1 ? "" : "s");
}

static bool read_global_variables(suite_session_t *session, failure_t *failure)
{
    if (session->system == NULL)
        return true;
    layer_t layer = {session->system,
                     toml_find(toml_root(session->system->document), "global_env_vars")};
    return layer.table == NULL || variables_add(&session->global_variables, &layer) ||
           failure_set(failure, EXIT_FAILED, "not enough memory");
}

/* Under Slurm: what the nodes do not find out by themselves. */
static bool choose_tasks(suite_session_t *session, failure_t *failure)
{
    int32_t task_count = system_number(session->system, "ntasks_per_node");
    if (session->cluster_missing[0] != '\0' && !session->request->is_dry)
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "%s; --local runs the scenario on this machine, --dry-run writes the "
                           "scripts",
                           session->cluster_missing);
    session->tasks_per_node = task_count == 0 ? 1 : task_count;
    session->ranks_per_node =
        task_count > 1 ? task_count : system_number(session->system, "gpus_per_node");
    session->ranks_from = task_count > 1 ? "ntasks_per_node of the system file"
                          : session->ranks_per_node > 0
                              ? "gpus_per_node of the system file"
                              : "a GPU each, up to 8, of the node, else 4";
    session->has_gpus = system_find(session->system, "supports_gpu_directives_cache") != NULL
                            ? system_switch(session->system, "supports_gpu_directives_cache")
                            : session->cluster_missing[0] != '\0' || slurm_has_gpus();
    ssize_t length = readlink("/proc/self/exe", session->program, sizeof(session->program) - 1);
    return length > 0 ? container_check_path(session, "this program", session->program, failure)
                      : failure_set(failure, EXIT_FAILED, "this program does not know its path");
}

/* Ranks of a node: as the system says, else a GPU each, else four. */
static bool choose_place(suite_session_t *session, failure_t *failure)
{
    options_t options;
    plan_t plan = {.options = &options, .launcher = session->launcher};
    if (!options_init(&options))
        return failure_set(failure, EXIT_FAILED, "not enough memory for options");
    options.backend = session->request->backend;
    bool is_chosen = place_choose(&plan, failure);
    session->is_cuda = plan.place.is_cuda;
    session->ranks_per_node = system_number(session->system, "gpus_per_node");
    session->ranks_from = "gpus_per_node of the system file";
    if (is_chosen && session->ranks_per_node == 0) {
        session->ranks_per_node = place_rank_count(&plan);
        session->ranks_from = session->is_cuda ? "a GPU each, up to 8" : "the default without GPUs";
    }
    session->tasks_per_node = session->ranks_per_node;
    options_release(&options);
    return is_chosen;
}

static void describe_machine(suite_session_t *session)
{
    session->machine = machine_json();
    if (session->request->gpus != NULL)
        json_object_set(session->machine, "gpus", session->request->gpus);
    if (gethostname(session->host, sizeof(session->host) - 1) != 0)
        (void)strcpy(session->host, "localhost");
}

/* Under Slurm the nodes have to find the folder, and its path stands in lines of scripts. */
static bool make_absolute(const suite_session_t *session, const char *what, const char *parent,
                          char path[PATH_MAX], failure_t *failure)
{
    if (!tree_make(parent, failure))
        return false;
    if (realpath(parent, path) == NULL)
        return failure_set(failure, EXIT_USAGE, "%.200s: its full path is not known", parent);
    for (const char *c = path; *c != '\0'; c++)
        if (iscntrl((unsigned char)*c))
            return failure_set(failure, EXIT_USAGE,
                               "%s: under Slurm a folder of results must not have control "
                               "characters in its path",
                               path);
    return container_check_path(session, what, path, failure);
}

static bool make_folder(suite_session_t *session, time_t now, failure_t *failure)
{
    char path[PATH_MAX];
    char what[PATH_MAX + 32] = "--output-dir";
    const char *parent = session->request->output_dir;
    if (parent == NULL && session->system != NULL) {
        parent = system_text(session->system, "output_path");
        (void)snprintf(what, sizeof(what), "%s: output_path", session->system->path);
    }
    if (parent == NULL || parent[0] == '\0')
        parent = default_folder;
    if (session->is_slurm && !make_absolute(session, what, parent, path, failure))
        return false;
    return tree_make_new(session->is_slurm ? path : parent, session->scenario.name, now,
                         session->folder, PATH_MAX - 512, failure);
}

/* Everything that can be refused, before anything runs. */
static bool prepare(suite_t *suite, FILE *told, failure_t *failure)
{
    suite_session_t *session = &suite->session;
    const suite_request_t *request = session->request;
    time_t now = time(NULL);
    if (!launcher_find(&session->launcher, failure) || !read_all(suite, told, failure) ||
        !read_global_variables(session, failure))
        return false;
    if (session->launcher.name != NULL && !session->is_slurm)
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "moxie suite starts its ranks itself, and does not run under %s",
                           session->launcher.name);
    if (request->baseline_dir != NULL) {
        suite->earlier = compare_read(request->baseline_dir, failure);
        if (suite->earlier == NULL)
            return false;
    }
    if (!jobs_make(&session->scenario, &suite->jobs))
        return failure_set(failure, EXIT_FAILED, "not enough memory for the runs");
    session->has_progress = progress_is_visible();
    if (!(session->is_slurm ? choose_tasks(session, failure) : choose_place(session, failure)) ||
        !make_folder(session, now, failure))
        return false;
    describe_machine(session);
    suite->summary = summary_make(session, suite->jobs.count, now);
    suite->csv = tree_open(session->folder, csv_name, failure);
    if (suite->csv != NULL)
        figures_csv_head(suite->csv);
    return suite->csv != NULL;
}

/* A file that is always whole, even if somebody pulls the plug. */
static bool write_summary(const suite_t *suite, failure_t *failure)
{
    char path[PATH_MAX];
    output_file_t file;
    (void)snprintf(path, sizeof(path), "%.*s/suite.json", PATH_MAX - 64, suite->session.folder);
    if (!output_file_open(&file, path, "--output-dir", failure))
        return false;
    (void)record_write(suite->summary, file.stream);
    return output_file_commit(&file, failure);
}

static bool keep(suite_t *suite, const json_t *record, failure_t *failure)
{
    summary_add(suite->summary, record);
    figures_csv_rows(suite->session.scenario.name, record, suite->csv);
    (void)fflush(suite->csv);
    summary_close(suite->summary, time(NULL));
    return write_summary(suite, failure);
}

/* A stop signal that came while no ranks ran to be stopped. */
static int pending_signal(void)
{
    sigset_t wanted;
    sigset_t pending;
    stop_signals(&wanted);
    if (sigpending(&pending) == 0)
        for (int number = 1; number < NSIG; number++)
            if (sigismember(&pending, number) == 1 && sigismember(&wanted, number) == 1)
                return number;
    return 0;
}

static bool run_one(suite_t *suite, const job_t *job, failure_t *failure)
{
    json_t *record = NULL;
    failure_t kept = {.exit_code = EXIT_DONE};
    bool is_done = run_job(&suite->session, job, &record, failure);
    if (record != NULL) {
        summary_print_run(record, suite->out);
        if (!keep(suite, record, &kept) && is_done)
            *failure = kept;
        json_decref(record);
    }
    int number = pending_signal();
    if (is_done && number != 0) {
        failure_set(failure, 128 + number, "stopped by signal %d (%s)", number, strsignal(number));
        failure->signal = number;
    }
    return is_done && failure->exit_code == EXIT_DONE;
}

/* Of the queue. */
static bool keep_queued(void *ctx, const json_t *record, failure_t *failure)
{
    suite_t *suite = ctx;
    summary_print_run(record, suite->out);
    return keep(suite, record, failure);
}

/* True: all of them were run, whatever became of them. */
static bool run_all(suite_t *suite, failure_t *failure)
{
    int32_t done_count = 0;
    bool is_done = true;
    summary_print_head(suite->summary, suite->out);
    if (suite->session.is_slurm)
        return queue_run(&suite->session, &suite->jobs, keep_queued, suite, failure);
    while (done_count < suite->jobs.count && is_done) {
        is_done = run_one(suite, &suite->jobs.list[done_count++], failure);
    }
    for (int32_t i = done_count; i < suite->jobs.count; i++) {
        json_t *record = run_record_begin(&suite->session, &suite->jobs.list[i], "not_run",
                                          "the suite was stopped before it");
        summary_add(suite->summary, record);
        json_decref(record);
    }
    return is_done;
}

/* False with exit code 1 when a test failed or is slower than allowed. */
static bool judge(const suite_t *suite, failure_t *failure)
{
    const suite_request_t *request = suite->session.request;
    const json_t *baseline = json_object_get(suite->summary, "baseline");
    int64_t failed_count = summary_failed_count(suite->summary);
    int64_t slower_count = json_integer_value(json_object_get(baseline, "regressions"));
    if (request->is_dry)
        return true;
    if (failed_count > 0)
        return failure_set(failure, EXIT_FAILED, "%lld of %d runs failed", (long long)failed_count,
                           suite->jobs.count);
    if (slower_count > 0)
        return failure_set(failure, EXIT_FAILED, "%lld call%s slower than %g times %s",
                           (long long)slower_count, slower_count == 1 ? " is" : "s are",
                           request->fail_below, request->baseline_dir);
    if (request->fail_below > 0.0 && json_integer_value(json_object_get(baseline, "compared")) == 0)
        return failure_set(failure, EXIT_FAILED, "nothing could be compared with %s",
                           request->baseline_dir);
    return true;
}

/* SCENARIO.html, for people; a build without the page goes without. */
static bool write_report(const suite_t *suite, failure_t *failure)
{
    char path[PATH_MAX];
    const char *folder = suite->session.folder;
    if (suite->session.request->is_dry)
        return true;
    if (report_missing()[0] != '\0') {
        (void)fprintf(suite->out, "report    none: %s\n", report_missing());
        return true;
    }
    (void)snprintf(path, sizeof(path), "%.*s/%s.html", PATH_MAX - 512, folder,
                   suite->session.scenario.name);
    json_t *document = collect_folders(&folder, 1, failure);
    bool is_written = document != NULL && report_write(document, path, failure);
    if (is_written)
        (void)fprintf(suite->out, "report    is %s\n", path);
    json_decref(document);
    return is_written;
}

/* Also of a suite that was stopped: what is finished stays. */
static bool finish(suite_t *suite, bool is_complete, failure_t *failure)
{
    const suite_request_t *request = suite->session.request;
    failure_t written = {.exit_code = EXIT_DONE};
    if (suite->earlier != NULL && is_complete && !request->is_dry)
        json_object_set_new(suite->summary, "baseline",
                            compare_runs(suite->earlier, request->baseline_dir, suite->summary,
                                         request->fail_below));
    summary_close(suite->summary, time(NULL));
    bool is_written = tree_close(suite->csv, suite->session.folder, csv_name, &written);
    is_written = write_summary(suite, &written) && is_written;
    summary_print_end(suite->summary, suite->session.folder, suite->out);
    is_written = is_written && write_report(suite, &written);
    if (is_complete && !is_written)
        *failure = written;
    return is_complete && is_written && judge(suite, failure);
}

static void release(suite_t *suite)
{
    jobs_release(&suite->jobs);
    cluster_release(&suite->cluster);
    scenario_release(&suite->session.scenario);
    variables_release(&suite->session.global_variables);
    json_decref(suite->session.machine);
    json_decref(suite->earlier);
    json_decref(suite->summary);
    sources_release(&suite->sources);
}

bool suite_run(const suite_request_t *request, FILE *out, FILE *mistakes, json_t **record,
               failure_t *failure)
{
    suite_t *suite = calloc(1, sizeof(*suite));
    bool is_done = false;
    *record = NULL;
    if (suite == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory");
    suite->session.request = request;
    suite->out = out;
    if (prepare(suite, mistakes, failure)) {
        is_done = finish(suite, run_all(suite, failure), failure);
        *record = json_incref(suite->summary);
    }
    release(suite);
    free(suite);
    return is_done;
}
