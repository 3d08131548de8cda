/* SPDX-License-Identifier: Apache-2.0 */
/* From config.yaml and environment to options, from a result to the files that are wanted. */
#include "suite/exec.h"

#include "bench/place.h"
#include "bench/suggest.h"
#include "bench/table.h"
#include "bench/text_json.h"
#include "suite/figures.h"
#include "suite/groups.h"
#include "suite/matrices.h"
#include "suite/results.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Libraries that CloudAI's benchmark has a name for. */
static const char *const foreign_backends[] = {
    "deepep",  "deepep_hybrid", "elastic", "hybrid", "hybrid_ep", "legacy",
    "nccl_ep", "nixl_ep",       "uccl_ep", "v1",     "v2",
};

enum { FOREIGN_BACKEND_COUNT = sizeof(foreign_backends) / sizeof(foreign_backends[0]) };

static bool has_several_nodes(const exec_t *exec)
{
    return exec->launcher.host_count > 1 ||
           (exec->launcher.local_count > 0 &&
            exec->launcher.local_count < exec->launcher.rank_count);
}

bool exec_find_ranks(exec_t *exec, failure_t *failure)
{
    if (!launcher_find(&exec->launcher, failure))
        return false;
    launcher_t own = exec->launcher;
    if (!launcher_narrow(&own, failure))
        return false;
    exec->launcher.host_index = own.host_index;
    /* A task that has its node for itself, as all others have, is no rank: it starts them. */
    bool starts_ranks =
        own.rank_count == 1 &&
        (exec->launcher.host_count == 0 || exec->launcher.host_count == exec->launcher.rank_count);
    exec->session.launcher = starts_ranks ? (launcher_t){.rank_count = 1, .host_index = -1} : own;
    if (gethostname(exec->session.host, sizeof(exec->session.host) - 1) != 0)
        (void)strcpy(exec->session.host, "localhost");
    return true;
}

/* The mode of the command, unless config.yaml says another one. */
static void take_mode(exec_t *exec, mistakes_t *mistakes)
{
    static char name[] = "--mode";
    static const source_t source = {.path = name};
    static toml_node_t node = {.kind = TOML_KIND_STRING, .kind_name = "a string"};
    setting_t *setting = &exec->config.test.settings[SETTING_MODE];
    if (exec->request.mode == NULL)
        return;
    if (setting->node == NULL) {
        node.string = exec->request.mode;
        *setting =
            (setting_t){.source = &source, .node = &node, .value_count = 1, .is_sound = true};
    } else if (setting->is_sound && strcmp(setting->node->string, exec->request.mode) != 0) {
        mistakes_add(mistakes, SEVERITY_ERROR, setting->source, setting->node, NULL,
                     "'%s' contradicts --mode %s", setting->node->string, exec->request.mode);
    }
}

static bool read_config(exec_t *exec, FILE *told, failure_t *failure)
{
    mistakes_t mistakes = {0};
    config_yaml_read(exec->request.config_path, &exec->config, &mistakes);
    take_mode(exec, &mistakes);
    test_check_together(&exec->config.test, &mistakes);
    if (exec->session.launcher.rank == 0)
        mistakes_print(&mistakes, told);
    size_t error_count = mistakes.error_count;
    mistakes_release(&mistakes);
    return error_count == 0 ||
           failure_set(failure, EXIT_USAGE, "%zu error%s in %.200s; nothing was run", error_count,
                       error_count == 1 ? "" : "s", exec->request.config_path);
}

/* Moxie's backends, and the names of the libraries that the original measures. */
static bool take_backend(exec_t *exec, options_t *options, failure_t *failure)
{
    static const option_origin_t from_command = {ORIGIN_FLAG, 0};
    const char *name = exec->request.backend;
    suggestion_t suggestion = {.word = name};
    exec->suite_request.backend = BACKEND_AUTO;
    if (name == NULL)
        return true;
    for (int i = 0; i < FOREIGN_BACKEND_COUNT; i++) {
        suggestion_offer(&suggestion, foreign_backends[i]);
        if (strcmp(name, foreign_backends[i]) == 0) {
            exec->backend_why = "is measured by CloudAI's benchmark; here Moxie is, with its own "
                                "backend, auto";
            return true;
        }
    }
    if (option_set_text(options, OPTION_BACKEND, from_command, name, failure)) {
        exec->suite_request.backend = options->backend;
        return true;
    }
    bool is_near = suggestion.nearest != NULL;
    return failure_set(failure, EXIT_USAGE,
                       "BACKEND: '%.100s' is none of auto, shm and cuda, and no library that "
                       "CloudAI's benchmark measures%s%s%s",
                       name, is_near ? "; is it '" : "", is_near ? suggestion.nearest : "",
                       is_near ? "'?" : "");
}

/* LOCAL_WORLD_SIZE, 0 when it is not set. That of torchrun counts its processes, which CloudAI
 * makes one a node. */
static bool read_local_count(const exec_t *exec, int64_t *count, failure_t *failure)
{
    static const char variable[] = "LOCAL_WORLD_SIZE";
    const char *text = getenv(variable);
    char *end = NULL;
    *count = 0;
    if (text == NULL ||
        (exec->launcher.name != NULL && strcmp(exec->launcher.name, "torchrun") == 0))
        return true;
    *count = isdigit((unsigned char)text[0]) ? strtoll(text, &end, 10) : 0;
    return (*count >= 1 && *count <= MOXIE_RANK_COUNT_MAX && *end == '\0') ||
           failure_set(failure, EXIT_USAGE,
                       "environment variable %s: '%.100s' is not a number from 1 to %d", variable,
                       text, MOXIE_RANK_COUNT_MAX);
}

/* A number that somebody gives against the tasks that there are. */
static bool agrees(const exec_t *exec, const char *name, int64_t count, failure_t *failure)
{
    const launcher_t *own = &exec->session.launcher;
    return count == 0 || own->name == NULL || count == own->rank_count ||
           failure_set(failure, EXIT_USAGE, "%s: %lld contradicts %s, which started %d tasks here",
                       name, (long long)count, own->name, own->rank_count);
}

static bool decide_ranks(exec_t *exec, const plan_t *plan, failure_t *failure)
{
    suite_session_t *session = &exec->session;
    int64_t local_count = 0;
    if (!read_local_count(exec, &local_count, failure) ||
        !agrees(exec, "--ranks", exec->request.rank_count, failure) ||
        !agrees(exec, "environment variable LOCAL_WORLD_SIZE", local_count, failure))
        return false;
    if (session->launcher.name != NULL) {
        session->ranks_per_node = session->launcher.rank_count;
        session->ranks_from = "the tasks of this node";
    } else if (exec->request.rank_count > 0) {
        session->ranks_per_node = (int32_t)exec->request.rank_count;
        session->ranks_from = "--ranks";
    } else if (local_count > 0) {
        session->ranks_per_node = (int32_t)local_count;
        session->ranks_from = "LOCAL_WORLD_SIZE";
    } else {
        session->ranks_per_node = place_rank_count(plan);
        session->ranks_from = session->is_cuda ? "a GPU each, up to 8" : "the default without GPUs";
    }
    return true;
}

bool exec_read(exec_t *exec, options_t *options, FILE *mistakes, failure_t *failure)
{
    static const toml_node_t nothing = {.kind = TOML_KIND_TABLE};
    suite_session_t *session = &exec->session;
    session->request = &exec->suite_request;
    if (!read_config(exec, mistakes, failure) || !take_backend(exec, options, failure))
        return false;
    plan_t plan = {.options = options, .launcher = session->launcher};
    if (!place_choose(&plan, failure))
        return false;
    session->is_cuda = plan.place.is_cuda;
    exec->entry = (entry_t){.layer = {&exec->config.source, &nothing}, .test = exec->config.test};
    exec->job = (job_t){.entry = &exec->entry, .node_count = 1};
    return decide_ranks(exec, &plan, failure) &&
           command_set_options(session, &exec->job, options, failure);
}

bool exec_open(exec_t *exec, failure_t *failure)
{
    return output_folder_open(&exec->folder, exec->request.output_dir, "--output-dir", failure);
}

/* "_n2_low_latency": of several nodes each has a folder of its own. */
static void name_folder(const exec_t *exec, char *suffix, size_t size)
{
    const char *mode = job_value(&exec->job, SETTING_MODE).text;
    bool is_one_of_several = has_several_nodes(exec);
    (void)snprintf(suffix, size, "%s%.64s_%s", is_one_of_several ? "_" : "",
                   is_one_of_several ? exec->session.host : "", mode);
    for (char *c = suffix; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr("-_.", *c) == NULL)
            *c = '-';
}

static json_t *keys_json(const exec_t *exec)
{
    json_t *keys = json_array();
    dialect_t dialect = exec->entry.test.dialect;
    for (int i = 0; i < SETTING_COUNT; i++) {
        setting_id_t id = (setting_id_t)i;
        if (id == SETTING_MODE || setting_key(id, dialect, PLACE_CONFIG) != NULL ||
            setting_key(id, dialect, PLACE_ENVIRONMENT) != NULL)
            command_append_setting(keys, &exec->session, &exec->job, id);
    }
    return keys;
}

/* The record, schema moxie.suite.exec/1; a new reference. */
static json_t *make_record(const exec_t *exec, const plan_t *plan, const run_result_t *result)
{
    bool is_one_of_several = has_several_nodes(exec);
    const launcher_t *launcher = &exec->launcher;
    json_t *node = json_pack(
        "{s:o,s:o,s:o}", "host", text_json(exec->session.host), "index",
        launcher->host_index < 0 ? json_null() : json_integer(launcher->host_index), "count",
        launcher->host_count == 0 && is_one_of_several
            ? json_null()
            : json_integer(is_one_of_several ? launcher->host_count : 1));
    json_t *record = json_pack(
        "{s:s,s:s,s:o,s:o,s:s,s:s,s:o,s:s?}", "schema", "moxie.suite.exec/1", "status",
        result->mismatch[0] == '\0' ? "passed" : "mismatch", "reason", text_json(result->mismatch),
        "config", text_json(exec->request.config_path), "test_template_name",
        dialect_name(exec->entry.test.dialect), "mode", job_value(&exec->job, SETTING_MODE).text,
        "backend_asked", text_json(exec->request.backend), "launcher", launcher->name);
    json_object_set_new(record, "backend", json_string(plan->place.backend));
    json_object_set_new(record, "ranks", json_integer(plan->rank_count));
    json_object_set_new(record, "ranks_from", json_string(exec->session.ranks_from));
    json_object_set_new(record, "node", node);
    json_object_set_new(record, "note", is_one_of_several ? json_string(groups_note) : json_null());
    json_object_set_new(record, "traffic", matrices_json(plan));
    json_object_set_new(record, "keys", keys_json(exec));
    return record;
}

static void print_head(const exec_t *exec, FILE *out)
{
    (void)fprintf(out, "config    %s: %s, %s\n", exec->request.config_path,
                  dialect_name(exec->entry.test.dialect), job_value(&exec->job, SETTING_MODE).text);
    if (exec->backend_why != NULL)
        (void)fprintf(out, "backend   %s %s\n", exec->request.backend, exec->backend_why);
    if (has_several_nodes(exec))
        (void)fprintf(out, "node      %s: %s\n", exec->session.host, groups_note);
}

bool exec_publish(exec_t *exec, const plan_t *plan, const run_result_t *result, FILE *out,
                  failure_t *failure)
{
    char prefix[64];
    char suffix[96];
    bool is_verified = result->mismatch[0] == '\0';
    bool with_combine = job_value(&exec->job, SETTING_BENCHMARK_COMBINE).number != 0;
    const char *folder = exec->folder.partial_path;
    json_t *list = figures_list(result->record, with_combine);
    json_t *record = make_record(exec, plan, result);
    (void)snprintf(prefix, sizeof(prefix), "benchmark_%d_ranks", plan->rank_count);
    name_folder(exec, suffix, sizeof(suffix));
    bool is_written = results_write_json(folder, "bench.json", result->record, failure) &&
                      results_write_json(folder, "record.json", record, failure) &&
                      (!is_verified || results_write(plan, list, result->trace, folder, failure)) &&
                      output_folder_commit(&exec->folder, prefix, suffix, failure);
    if (is_written) {
        print_head(exec, out);
        table_write(result->record, plan->shape_name, out);
        if (is_verified)
            figures_print(list, out);
        (void)fprintf(out, "\nresults   are in %s\n", exec->folder.path);
    }
    json_decref(list);
    json_decref(record);
    return is_written;
}

void exec_discard(exec_t *exec)
{
    output_folder_discard(&exec->folder);
}

void exec_release(exec_t *exec)
{
    config_yaml_release(&exec->config);
}
