/* SPDX-License-Identifier: Apache-2.0 */
/* Writes TOML about nodes, tests and jobs. */
#include "suite/metadata.h"

#include "suite/quote.h"
#include "suite/tree.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* What is not known, as CloudAI writes it. */
static const char unknown[] = "null";

static void write_text(FILE *out, const char *key, const char *text)
{
    (void)fprintf(out, "%s = ", key);
    quote_string(out, text == NULL || text[0] == '\0' ? unknown : text);
    (void)fputc('\n', out);
}

static void write_number(FILE *out, const char *key, int64_t number)
{
    (void)fprintf(out, "%s = %" PRId64 "\n", key, number);
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void write_system(FILE *out, const metadata_node_t *node)
{
    const json_t *gpu = json_array_get(json_object_get(node->gpus, "devices"), 0);
    struct utsname name;
    (void)fputs("\n[system]\n", out);
    bool is_named = uname(&name) == 0;
    write_text(out, "os_type", is_named ? name.sysname : NULL);
    write_text(out, "os_version", text_at(node->machine, "os"));
    write_text(out, "linux_kernel_version", text_at(node->machine, "kernel"));
    write_text(out, "gpu_arch_type", text_at(gpu, "name"));
    write_text(out, "cpu_model_name", text_at(node->machine, "cpu"));
    write_text(out, "cpu_arch_type", is_named ? name.machine : NULL);
}

static void write_node(FILE *out, const metadata_node_t *node)
{
    const struct passwd *user = getpwuid(geteuid());
    write_text(out, "user", user == NULL ? NULL : user->pw_name);
    write_system(out, node);
    (void)fputs("\n[cuda]\n", out);
    write_text(out, "cuda_build_version", NULL);
    write_text(out, "cuda_runtime_version", NULL);
    write_text(out, "cuda_driver_version", text_at(node->gpus, "driver"));
    (void)fputs("\n[network]\n", out);
    write_text(out, "nics", NULL);
    write_text(out, "switch_type", NULL);
    write_text(out, "network_name", NULL);
    write_text(out, "mofed_version", NULL);
    write_text(out, "libfabric_version", NULL);
    (void)fputs("\n[nccl]\n", out);
    write_text(out, "version", NULL);
    write_text(out, "commit_sha", NULL);
    (void)fputs("\n[slurm]\n", out);
    write_text(out, "cluster_name", node->cluster_name);
    write_text(out, "node_list", node->node_list);
    write_text(out, "num_nodes", node->num_nodes);
    write_text(out, "ntasks_per_node", node->ntasks_per_node);
    write_text(out, "ntasks", node->ntasks);
    write_text(out, "job_id", node->job_id);
}

bool metadata_write_node(const metadata_node_t *node, const char *folder, failure_t *failure)
{
    char name[HOST_NAME_MAX + 32];
    (void)snprintf(name, sizeof(name), "node-%s.toml", node->host);
    FILE *out = tree_make(folder, failure) ? tree_open(folder, name, failure) : NULL;
    if (out == NULL)
        return false;
    write_node(out, node);
    return tree_close(out, folder, name, failure);
}

static void write_list(FILE *out, const toml_node_t *list)
{
    (void)fputc('[', out);
    for (int32_t i = 0; list != NULL && i < list->child_count; i++) {
        (void)fputs(i == 0 ? "" : ", ", out);
        quote_string(out, list->children[i].string);
    }
    (void)fputs("]\n", out);
}

static void write_setting(FILE *out, const job_t *job, setting_id_t id)
{
    const setting_row_t *row = setting_row(id);
    setting_value_t value = job_value(job, id);
    if (!setting_is_of(id, job->entry->test.dialect))
        return;
    switch (row->type) {
    case SETTING_TYPE_NUMBER:
        write_number(out, row->name, value.number);
        break;
    case SETTING_TYPE_SWITCH:
        (void)fprintf(out, "%s = %s\n", row->name, value.number != 0 ? "true" : "false");
        break;
    case SETTING_TYPE_TEXTS:
        (void)fprintf(out, "%s = ", row->name);
        write_list(out, value.list);
        break;
    default:
        if (value.text != NULL)
            write_text(out, row->name, value.text);
    }
}

/* "1.0": a whole number is a fraction still. */
static void write_fraction(FILE *out, double fraction)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%.15g", fraction);
    (void)fprintf(out, "%s%s", text, text[strspn(text, "-0123456789")] == '\0' ? ".0" : "");
}

/* A value that has no others in it; of one that has, what it is. */
static void write_plain(FILE *out, const toml_node_t *node)
{
    switch (node->kind) {
    case TOML_KIND_STRING:
        quote_string(out, node->string);
        break;
    case TOML_KIND_INTEGER:
        (void)fprintf(out, "%" PRId64, node->integer);
        break;
    case TOML_KIND_FRACTION:
        write_fraction(out, node->fraction);
        break;
    case TOML_KIND_BOOLEAN:
        (void)fputs(node->integer != 0 ? "true" : "false", out);
        break;
    default:
        quote_string(out, node->kind_name);
    }
}

typedef void (*write_node_t)(FILE *out, const toml_node_t *node);

/* A key, if it has one, and its value, with a comma before them unless they are the first. */
static void write_pair(FILE *out, const toml_node_t *node, write_node_t write, bool *is_first)
{
    (void)fputs(*is_first ? "" : ", ", out);
    *is_first = false;
    if (node->key != NULL) {
        quote_string(out, node->key);
        (void)fputs(" = ", out);
    }
    write(out, node);
}

/* A value, in one line; `write` is for what is in it. */
static void write_around(FILE *out, const toml_node_t *node, write_node_t write)
{
    bool is_first = true;
    bool is_table = node->kind == TOML_KIND_TABLE;
    if (!is_table && node->kind != TOML_KIND_ARRAY) {
        write_plain(out, node);
        return;
    }
    (void)fputc(is_table ? '{' : '[', out);
    for (int32_t i = 0; i < node->child_count; i++)
        write_pair(out, &node->children[i], write, &is_first);
    (void)fputc(is_table ? '}' : ']', out);
}

static void write_inner(FILE *out, const toml_node_t *node)
{
    write_around(out, node, write_plain);
}

/* A value with what is in it, two levels deep as in a list of tables: none of these keys has more.
 */
static void write_value(FILE *out, const toml_node_t *node)
{
    write_around(out, node, write_inner);
}

/* A table of the test, with what the scenario lays over it. */
static void write_merged(FILE *out, const test_t *test, const char *key)
{
    bool is_first = true;
    (void)fputc('{', out);
    for (int32_t i = 0; i < test->layer_count; i++) {
        const toml_node_t *table = toml_find(test->layers[i].table, key);
        for (int32_t at = 0; table != NULL && at < table->child_count; at++) {
            bool is_covered = false;
            for (int32_t over = i + 1; over < test->layer_count; over++)
                is_covered = is_covered || toml_find(toml_find(test->layers[over].table, key),
                                                     table->children[at].key) != NULL;
            if (!is_covered)
                write_pair(out, &table->children[at], write_inner, &is_first);
        }
    }
    (void)fputs("}", out);
}

/* The keys beside cmd_args and extra_env_vars; one without a default, as nsys, only when it is
 * given. */
static void write_others(FILE *out, const test_t *test)
{
    static const struct {
        const char *key;
        const char *otherwise; /* NULL: there is no default */
    } keys[] = {{"extra_cmd_args", "{}"},
                {"extra_container_mounts", "[]"},
                {"git_repos", "[]"},
                {"nsys", NULL}};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const layer_t *layer;
        const toml_node_t *node = test_find(test, keys[i].key, &layer);
        if (node == NULL && keys[i].otherwise == NULL)
            continue;
        (void)fprintf(out, "%s = ", keys[i].key);
        if (node == NULL)
            (void)fputs(keys[i].otherwise, out);
        else if (node->kind == TOML_KIND_TABLE)
            write_merged(out, test, keys[i].key);
        else
            write_value(out, node);
        (void)fputc('\n', out);
    }
}

static void write_definition(FILE *out, const job_t *job)
{
    const test_t *test = &job->entry->test;
    (void)fputs("\n[test_definition]\n", out);
    write_text(out, "name", test->name);
    write_text(out, "description", test->description);
    write_text(out, "test_template_name", dialect_name(test->dialect));
    write_others(out, test);
    (void)fputs("\n[test_definition.cmd_args]\n", out);
    for (int i = 0; i < SETTING_COUNT; i++)
        write_setting(out, job, (setting_id_t)i);
    (void)fputs("\n[test_definition.extra_env_vars]\n", out);
    for (int32_t i = 0; i < test->variables.count; i++)
        write_text(out, test->variables.list[i].node->key, job_variable(job, i));
}

static void write_nodes(FILE *out, const job_t *job)
{
    (void)fputs("nodes = [", out);
    for (int32_t i = 0; i < job->entry->nodes.count; i++) {
        (void)fputs(i == 0 ? "" : ", ", out);
        quote_string(out, job->entry->nodes.names[i]);
    }
    (void)fputs("]\n", out);
}

bool metadata_write_test(const job_t *job, const char *folder, const char *command,
                         const char *full_command, failure_t *failure)
{
    static const char name[] = "test-run.toml";
    FILE *out = tree_open(folder, name, failure);
    if (out == NULL)
        return false;
    write_text(out, "name", job->entry->id);
    write_number(out, "nnodes", job->node_count);
    write_nodes(out, job);
    write_text(out, "output_path", folder);
    write_number(out, "iterations", job->entry->iterations);
    write_number(out, "current_iteration", job->iteration);
    write_number(out, "step", job->step);
    write_text(out, "test_cmd", command);
    write_text(out, "full_cmd", full_command);
    write_definition(out, job);
    return tree_close(out, folder, name, failure);
}

void metadata_time(time_t when, char out[METADATA_TIME_BYTES])
{
    struct tm local;
    out[0] = '\0';
    if (localtime_r(&when, &local) != NULL)
        (void)strftime(out, METADATA_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &local);
}

static void write_steps(FILE *out, const json_t *steps)
{
    size_t index;
    json_t *step;
    (void)fputs("job_steps = [", out);
    json_array_foreach(steps, index, step)
    {
        const char *key;
        const json_t *value;
        (void)fputs(index == 0 ? "\n  {" : ",\n  {", out);
        json_object_foreach(step, key, value)
        {
            (void)fprintf(out, "%s = ", key);
            if (json_is_integer(value))
                (void)fprintf(out, "%lld", (long long)json_integer_value(value));
            else
                quote_string(out, json_string_value(value));
            (void)fputs(json_is_integer(value) ? "" : ", ", out); /* a number is last */
        }
        (void)fputc('}', out);
    }
    (void)fputs(json_array_size(steps) == 0 ? "]\n" : "\n]\n", out);
}

bool metadata_write_job(const job_t *job, const char *folder, const metadata_job_t *ended,
                        failure_t *failure)
{
    static const char name[] = "slurm-job.toml";
    FILE *out = tree_open(folder, name, failure);
    if (out == NULL)
        return false;
    write_number(out, "job_id", ended->job_id);
    write_text(out, "name", job->entry->id);
    write_text(out, "state", ended->state);
    write_text(out, "start_time", ended->start_time);
    write_text(out, "end_time", ended->end_time);
    write_number(out, "elapsed_time_sec", ended->elapsed_s);
    write_number(out, "exit_code", ended->exit_code);
    write_text(out, "srun_cmd", ended->srun_command);
    write_text(out, "test_cmd", ended->test_command);
    write_steps(out, ended->steps);
    return tree_close(out, folder, name, failure);
}
