/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a batch script: what sbatch is to know, and the steps of the job. */
#include "suite/batch_script.h"

#include "suite/container.h"
#include "suite/keys.h"
#include "suite/quote.h"
#include "suite/system.h"
#include "suite/tree.h"
#include "suite/words.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char script_name[] = "cloudai_sbatch_script.sh";

/* Whether the system says something; an empty text says nothing. */
static bool is_said(const source_t *system, const char *key)
{
    const char *text = system_text(system, key);
    return text != NULL && text[0] != '\0';
}

static void write_text(FILE *out, const char *option, const char *value)
{
    (void)fprintf(out, "#SBATCH --%s=", option);
    quote_directive(out, value);
    (void)fputc('\n', out);
}

static void write_number(FILE *out, const char *option, int64_t value)
{
    (void)fprintf(out, "#SBATCH --%s=%" PRId64 "\n", option, value);
}

/* A file of the run's folder: a path in which Slurm replaces nothing. */
static void write_file(FILE *out, const char *option, const char *folder, const char *name)
{
    char path[2 * PATH_MAX + 64];
    size_t used = 0;
    for (const char *c = folder; *c != '\0'; c++) {
        if (*c == '%' || *c == '\\')
            path[used++] = '\\';
        path[used++] = *c;
    }
    (void)snprintf(path + used, sizeof(path) - used, "/%s", name);
    write_text(out, option, path);
}

/* "n1,n2" */
static void write_nodes(FILE *out, const char *option, const node_list_t *nodes)
{
    if (nodes->count > 0)
        (void)fprintf(out, "#SBATCH --%s=", option);
    for (int32_t i = 0; i < nodes->count; i++)
        (void)fprintf(out, "%s%s", nodes->names[i], i + 1 < nodes->count ? "," : "\n");
}

static void write_time_limit(FILE *out, int64_t seconds)
{
    if (seconds > 0)
        (void)fprintf(out, "#SBATCH --time=%" PRId64 "-%02d:%02d:%02d\n", seconds / 86400,
                      (int)(seconds / 3600 % 24), (int)(seconds / 60 % 60), (int)(seconds % 60));
}

/* Words of a text that the files were checked for, each with a blank before it. */
static void write_words(FILE *out, const char *text, void (*quote)(FILE *out, const char *word))
{
    words_t words = {0};
    const char *why = NULL;
    (void)words_add(&words, text, &why);
    for (int32_t i = 0; i < words.count; i++) {
        (void)fputc(' ', out);
        quote(out, words.list[i]);
    }
    words_release(&words);
}

/* GPUs of a node that a job asks for; 0: it does not ask. */
static int32_t asked_gpus(const suite_session_t *session)
{
    return session->has_gpus ? system_number(session->system, "gpus_per_node") : 0;
}

/* What sbatch is to know; options that somebody wrote himself come last, and win. */
static void write_directives(FILE *out, const suite_session_t *session, const job_t *job,
                             const char *folder)
{
    const entry_t *entry = job->entry;
    const source_t *system = session->system;
    const toml_node_t *extra = system_find(system, "extra_sbatch_args");
    write_text(out, "job-name", entry->id);
    write_text(out, "chdir", folder);
    write_file(out, "output", folder, "stdout.txt");
    write_file(out, "error", folder, "stderr.txt");
    write_text(out, "partition",
               entry->partition != NULL ? entry->partition
                                        : system_text(system, "default_partition"));
    if (is_said(system, "account"))
        write_text(out, "account", system_text(system, "account"));
    write_number(out, "nodes", job->node_count);
    write_number(out, "ntasks-per-node", session->tasks_per_node);
    if (asked_gpus(session) > 0)
        write_number(out, "gpus-per-node", asked_gpus(session));
    write_nodes(out, "nodelist", &entry->nodes);
    if (!entry->has_nodes)
        write_nodes(out, "exclude", &entry->excluded);
    if (is_said(system, "distribution"))
        write_text(out, "distribution", system_text(system, "distribution"));
    write_time_limit(out, entry->time_limit_s);
    (void)fputs("#SBATCH --exclusive\n#SBATCH --no-requeue\n", out);
    for (int32_t i = 0; i < value_text_count(extra); i++) {
        (void)fputs("#SBATCH", out);
        write_words(out, value_text(extra, i), quote_directive);
        (void)fputc('\n', out);
    }
}

size_t batch_script_rivals(const suite_session_t *session, const job_t *job,
                           const char *names[BATCH_SCRIPT_RIVAL_COUNT_MAX])
{
    const struct {
        const char *name;
        bool is_rival;
    } rows[] = {
        {"SBATCH_JOB_NAME", true},
        {"SBATCH_OUTPUT", true},
        {"SBATCH_ERROR", true},
        {"SBATCH_PARTITION", true},
        {"SBATCH_ACCOUNT", is_said(session->system, "account")},
        {"SBATCH_GPUS_PER_NODE", asked_gpus(session) > 0},
        {"SBATCH_DISTRIBUTION", is_said(session->system, "distribution")},
        {"SBATCH_TIMELIMIT", job->entry->time_limit_s > 0},
        {"SBATCH_EXCLUSIVE", true},
        {"SBATCH_REQUEUE", true},
        {"SBATCH_ARRAY_INX", true}, /* a run is one job */
        {"SBATCH_WAIT", true},      /* the suite waits itself, for all of them */
    };
    size_t count = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].is_rival)
            names[count++] = rows[i].name;
    return count;
}

static void write_task(FILE *out, const suite_session_t *session, const job_t *job,
                       const char *folder)
{
    char config[PATH_MAX + 64];
    bool has_container = container_is_wanted(session, job);
    (void)snprintf(config, sizeof(config), "%s/config.yaml", folder);
    quote_word(out, session->program);
    (void)fprintf(out, " suite exec --mode=%s --output-dir=", job_value(job, SETTING_MODE).text);
    quote_word(out, has_container ? job_value(job, SETTING_RESULTS_DIR).text : folder);
    if (session->tasks_per_node == 1 && session->ranks_per_node > 0)
        (void)fprintf(out, " --ranks=%d", session->ranks_per_node);
    (void)fputc(' ', out);
    quote_word(out, has_container ? job_value(job, SETTING_CONFIG_FILE_PATH).text : config);
    if (session->request->backend_word != NULL)
        (void)fprintf(out, " %s", session->request->backend_word);
}

static void write_srun(FILE *out, const suite_session_t *session, const job_t *job,
                       const char *folder)
{
    const toml_node_t *extra[] = {system_find(session->system, "extra_srun_args"),
                                  toml_find(job->entry->layer.table, "extra_srun_args")};
    /* Also where the job begins with an empty environment, as with SBATCH_EXPORT=NONE. */
    (void)fprintf(out, "srun --export=ALL --ntasks-per-node=%d", session->tasks_per_node);
    if (is_said(session->system, "mpi")) {
        (void)fputs(" --mpi=", out);
        quote_word(out, system_text(session->system, "mpi"));
    }
    container_write(out, session, job, folder);
    for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++)
        for (int32_t at = 0; at < value_text_count(extra[i]); at++)
            write_words(out, value_text(extra[i], at), quote_word);
    (void)fputc(' ', out);
    write_task(out, session, job, folder);
}

static void write_steps(FILE *out, const suite_session_t *session, const job_t *job,
                        const char *folder)
{
    (void)fputs("\ncd ", out);
    quote_word(out, folder);
    (void)fputs(" && . ./env_vars.sh || exit 1\n", out);
    (void)fputs("\n# Where the tasks are, and what their nodes are like.\n", out);
    (void)fprintf(out, "srun --ntasks-per-node=%d ", session->tasks_per_node);
    quote_word(out, session->program);
    (void)fputs(" suite node metadata >mapping-stdout.txt\n\n# The ranks.\n", out);
    write_srun(out, session, job, folder);
    (void)fputc('\n', out);
}

bool batch_script_write(const suite_session_t *session, const job_t *job, const char *folder,
                        failure_t *failure)
{
    FILE *out = tree_open(folder, script_name, failure);
    if (out == NULL)
        return false;
    (void)fputs("#!/bin/bash\n# A run of moxie suite: sbatch with this file repeats it.\n", out);
    write_directives(out, session, job, folder);
    write_steps(out, session, job, folder);
    (void)fchmod(fileno(out), 0755);
    return tree_close(out, folder, script_name, failure);
}

typedef void (*write_t)(FILE *out, const suite_session_t *session, const job_t *job,
                        const char *folder);

static char *write_to_text(write_t write, const suite_session_t *session, const job_t *job,
                           const char *folder)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return NULL;
    write(out, session, job, folder);
    return fclose(out) == 0 ? text : NULL;
}

char *batch_script_srun(const suite_session_t *session, const job_t *job, const char *folder)
{
    return write_to_text(write_srun, session, job, folder);
}

char *batch_script_task(const suite_session_t *session, const job_t *job, const char *folder)
{
    return write_to_text(write_task, session, job, folder);
}
