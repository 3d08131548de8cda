/* SPDX-License-Identifier: Apache-2.0 */
/* Writes what a run reads, and what tells a person how to repeat it. */
#include "suite/inputs.h"

#include "suite/quote.h"
#include "suite/tree.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

void inputs_each_variable(const suite_session_t *session, const job_t *job,
                          void (*take)(void *ctx, const char *name, const char *value), void *ctx)
{
    char number[32];
    const variables_t *own = &job->entry->test.variables;
    for (int32_t i = 0; i < session->global_variables.count; i++)
        take(ctx, session->global_variables.list[i].node->key,
             variable_value(&session->global_variables.list[i], 0));
    (void)snprintf(number, sizeof(number), "%" PRId64, job_value(job, SETTING_NUM_SMS).number);
    /* Whoever reads it under Slurm cannot tell a default from what somebody wants. */
    if (!session->is_slurm || job->entry->test.settings[SETTING_NUM_SMS].node != NULL)
        take(ctx, "NUM_SMS", number);
    (void)snprintf(number, sizeof(number), "%" PRId64, job_value(job, SETTING_NUM_QPS).number);
    take(ctx, "NUM_QPS_PER_RANK", number);
    for (int32_t i = 0; i < own->count; i++)
        take(ctx, own->list[i].node->key, job_variable(job, i));
}

void inputs_node_name(const job_t *job, int32_t node, char *out, size_t size)
{
    if (node < job->entry->nodes.count)
        (void)snprintf(out, size, "%s", job->entry->nodes.names[node]);
    else
        (void)snprintf(out, size, "node%d", node);
}

static void write_config_value(FILE *out, const job_t *job, setting_id_t id)
{
    setting_value_t value = job_value(job, id);
    const char *key = setting_key(id, job->entry->test.dialect, PLACE_CONFIG);
    if (key == NULL)
        return;
    (void)fprintf(out, "%s: ", key);
    switch (setting_row(id)->type) {
    case SETTING_TYPE_NUMBER:
        (void)fprintf(out, "%" PRId64 "\n", value.number);
        break;
    case SETTING_TYPE_SWITCH:
        (void)fprintf(out, "%s\n", value.number != 0 ? "true" : "false");
        break;
    default:
        quote_string(out, value.text);
        (void)fputc('\n', out);
    }
}

static void write_config(FILE *out, const job_t *job)
{
    for (int i = 0; i < SETTING_COUNT; i++)
        write_config_value(out, job, (setting_id_t)i);
}

static void write_variable(void *ctx, const char *name, const char *value)
{
    FILE *out = ctx;
    (void)fprintf(out, "export %s=", name);
    quote_shell(out, value);
    (void)fputc('\n', out);
}

static void write_ranks(FILE *out, const suite_session_t *session, const job_t *job,
                        bool is_hostfile)
{
    for (int32_t rank = 0; rank < session->tasks_per_node * job->node_count; rank++) {
        char name[300];
        inputs_node_name(job, rank / session->tasks_per_node, name, sizeof(name));
        if (is_hostfile)
            (void)fprintf(out, "%s\n", name);
        else
            (void)fprintf(out, "rank %d node %s local_rank %d host %s\n", rank, name,
                          rank % session->tasks_per_node, session->host);
    }
}

static void write_script(FILE *out, const char *command)
{
    (void)fprintf(out,
                  "#!/bin/sh\n"
                  "# Repeats this run of moxie suite on one machine: no scheduler started it.\n"
                  "cd \"$(dirname \"$0\")\" && . ./env_vars.sh || exit 1\n"
                  "exec %s\n",
                  command);
}

/* What each file is made by. */
typedef enum input {
    INPUT_CONFIG,
    INPUT_VARIABLES,
    INPUT_HOSTS,
    INPUT_COUNT_OF_SLURM,
    INPUT_MAPPING = INPUT_COUNT_OF_SLURM,
    INPUT_SCRIPT,
    INPUT_COUNT
} input_t;

static bool write_input(const suite_session_t *session, const job_t *job, const char *folder,
                        const char *command, input_t input, failure_t *failure)
{
    static const char *const names[INPUT_COUNT] = {[INPUT_CONFIG] = "config.yaml",
                                                   [INPUT_VARIABLES] = "env_vars.sh",
                                                   [INPUT_HOSTS] = "hostfile.txt",
                                                   [INPUT_MAPPING] = "mapping-stdout.txt",
                                                   [INPUT_SCRIPT] = "cloudai_sbatch_script.sh"};
    FILE *out = tree_open(folder, names[input], failure);
    if (out == NULL)
        return false;
    switch (input) {
    case INPUT_CONFIG:
        write_config(out, job);
        break;
    case INPUT_VARIABLES:
        inputs_each_variable(session, job, write_variable, out);
        break;
    case INPUT_HOSTS:
    case INPUT_MAPPING:
        write_ranks(out, session, job, input == INPUT_HOSTS);
        break;
    default:
        write_script(out, command);
        (void)fchmod(fileno(out), 0755);
    }
    return tree_close(out, folder, names[input], failure);
}

bool inputs_write(const suite_session_t *session, const job_t *job, const char *folder,
                  const char *command, failure_t *failure)
{
    for (int i = 0; i < (session->is_slurm ? INPUT_COUNT_OF_SLURM : INPUT_COUNT); i++)
        if ((i != INPUT_HOSTS || job->entry->has_nodes) &&
            !write_input(session, job, folder, command, (input_t)i, failure))
            return false;
    return true;
}
