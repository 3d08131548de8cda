/* SPDX-License-Identifier: Apache-2.0 */
/* Turns settings into options of the benchmark, and tells what became of every key. */
#include "suite/command.h"

#include "bench/text_json.h"
#include "suite/keys.h"

#include <stdlib.h>
#include <string.h>

static const option_origin_t from_suite = {ORIGIN_FLAG, 0};

/* Whether a setting becomes an option in this place. */
static bool is_option_here(const suite_session_t *session, const job_t *job, setting_id_t id)
{
    bool is_about_sms = setting_row(id)->option == OPTION_SMS;
    return setting_row(id)->has_option &&
           (!is_about_sms || (session->is_cuda && job->entry->test.settings[id].node != NULL));
}

bool command_set_options(const suite_session_t *session, const job_t *job, options_t *options,
                         failure_t *failure)
{
    int64_t rank_count = (int64_t)session->ranks_per_node * job->node_count;
    bool is_set = option_set_number(options, OPTION_RANKS, from_suite, rank_count, failure);
    for (int i = 0; i < SETTING_COUNT && is_set; i++) {
        setting_id_t id = (setting_id_t)i;
        if (is_option_here(session, job, id))
            is_set = option_set_number(options, setting_row(id)->option, from_suite,
                                       job_value(job, id).number, failure);
    }
    if (is_set && session->request->backend != BACKEND_AUTO)
        is_set = option_set_number(options, OPTION_BACKEND, from_suite, session->request->backend,
                                   failure);
    if (is_set && !session->is_cuda && job_value(job, SETTING_USE_KINETO_PROFILER).number != 0)
        is_set = option_set_text(options, OPTION_TRACE, from_suite, "trace.json", failure);
    return is_set;
}

static json_t *texts_json(const toml_node_t *list)
{
    json_t *texts = json_array();
    for (int32_t i = 0; i < value_text_count(list); i++)
        json_array_append_new(texts, json_string(value_text(list, i)));
    return texts;
}

static json_t *value_json(setting_id_t id, const setting_value_t *value)
{
    switch (setting_row(id)->type) {
    case SETTING_TYPE_NUMBER:
        return json_integer(value->number);
    case SETTING_TYPE_SWITCH:
        return json_boolean(value->number);
    case SETTING_TYPE_TEXTS:
        return value->list == NULL ? json_null() : texts_json(value->list);
    default:
        return value->text == NULL ? json_null() : json_string(value->text);
    }
}

static void append_key(json_t *keys, const char *prefix, const char *name, json_t *value,
                       const source_t *source, const toml_node_t *node, const char *effect)
{
    char where[PATH_MAX + 32] = "default";
    if (node != NULL && node->line > 0)
        (void)snprintf(where, sizeof(where), "%s:%d", source->path, node->line);
    else if (node != NULL) /* no file */
        (void)snprintf(where, sizeof(where), "%s", source->path);
    json_array_append_new(
        keys, json_pack("{s:o,s:o,s:o,s:s}", "key",
                        json_sprintf("%s%s%s", prefix, prefix[0] == '\0' ? "" : ".", name), "value",
                        value, "from", text_json(where), "effect", effect));
}

/* What became of a setting, in a phrase. */
static void name_effect(const suite_session_t *session, const job_t *job, setting_id_t id,
                        char *out, size_t size)
{
    const setting_row_t *row = setting_row(id);
    const char *option = row->has_option ? option_row(row->option)->name : "";
    bool is_about_sms = row->has_option && row->option == OPTION_SMS;
    bool is_given = job->entry->test.settings[id].node != NULL;
    if (is_about_sms && !is_given && (session->is_slurm || session->is_cuda))
        (void)snprintf(out, size, "none: no file gives it, and Moxie's own setting holds");
    else if (session->is_slurm && row->slurm_effect != NULL)
        (void)snprintf(out, size, "%s", row->slurm_effect);
    else if (is_option_here(session, job, id) || (session->is_slurm && row->has_option))
        (void)snprintf(out, size, "--%s", option);
    else if (row->has_option)
        (void)snprintf(out, size, "none: ranks on the CPU have no multiprocessors");
    else if (id == SETTING_USE_KINETO_PROFILER && session->is_cuda)
        (void)snprintf(out, size, "none: on cuda nobody knows when the phases of a call pass");
    else
        (void)snprintf(out, size, "%s", row->effect);
}

void command_append_setting(json_t *keys, const suite_session_t *session, const job_t *job,
                            setting_id_t id)
{
    const setting_t *setting = &job->entry->test.settings[id];
    setting_value_t value = job_value(job, id);
    char effect[128];
    if (!setting_is_of(id, job->entry->test.dialect))
        return;
    name_effect(session, job, id, effect, sizeof(effect));
    append_key(keys, "cmd_args", setting_row(id)->name, value_json(id, &value), setting->source,
               setting->node, effect);
}

json_t *command_parameters(const job_t *job)
{
    json_t *parameters = json_object();
    for (int i = 0; i < SETTING_COUNT; i++) {
        setting_id_t id = (setting_id_t)i;
        setting_value_t value = job_value(job, id);
        if (setting_is_of(id, job->entry->test.dialect))
            json_object_set_new(parameters, setting_row(id)->name, value_json(id, &value));
    }
    return parameters;
}

/* A value that is no list and no table; of these only what they are. */
static json_t *plain_json(const toml_node_t *node)
{
    switch (node->kind) {
    case TOML_KIND_STRING:
        return json_string(node->string);
    case TOML_KIND_INTEGER:
        return json_integer(node->integer);
    case TOML_KIND_FRACTION:
        return json_real(node->fraction);
    case TOML_KIND_BOOLEAN:
        return json_boolean(node->integer);
    default:
        return json_string(node->kind_name);
    }
}

/* Any value, with what is in a list or a table. */
static json_t *node_json(const toml_node_t *node)
{
    if (node->kind != TOML_KIND_ARRAY && node->kind != TOML_KIND_TABLE)
        return plain_json(node);
    json_t *json = node->kind == TOML_KIND_ARRAY ? json_array() : json_object();
    for (int32_t i = 0; i < node->child_count; i++) {
        if (node->kind == TOML_KIND_ARRAY)
            json_array_append_new(json, plain_json(&node->children[i]));
        else
            json_object_set_new(json, node->children[i].key, plain_json(&node->children[i]));
    }
    return json;
}

/* Keys of a table, but those that have rows of their own. */
static void append_table(json_t *keys, const suite_session_t *session, const char *prefix,
                         const key_table_t *rows, const layer_t *layer)
{
    for (int32_t i = 0; i < layer->table->child_count; i++) {
        const toml_node_t *node = &layer->table->children[i];
        const key_row_t *row = keys_find(rows, node->key);
        if (row != NULL && strcmp(row->name, "cmd_args") != 0 && strcmp(row->name, "Tests") != 0)
            append_key(keys, prefix, node->key, node_json(node), layer->source, node,
                       session->is_slurm && row->slurm_effect != NULL ? row->slurm_effect
                                                                      : row->effect);
    }
}

json_t *command_keys(const suite_session_t *session, const job_t *job)
{
    json_t *keys = json_array();
    const test_t *test = &job->entry->test;
    for (int i = 0; i < SETTING_COUNT; i++)
        command_append_setting(keys, session, job, (setting_id_t)i);
    if (test->layer_count > 1)
        append_table(keys, session, "", &keys_of_test, &test->layers[0]);
    append_table(keys, session, "Tests", &keys_of_entry, &job->entry->layer);
    if (session->system != NULL) {
        layer_t system = source_layer(session->system);
        append_table(keys, session, "system", &keys_of_system, &system);
    }
    return keys;
}
