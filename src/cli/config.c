/* SPDX-License-Identifier: Apache-2.0 */
/* Reads options from TOML: the table of options decides which keys there are and of what type. */
#include "cli/config.h"

#include "bench/file.h"
#include "bench/suggest.h"
#include "toml/toml.h"

#include <string.h>

/* A file of options is small; anything larger is something else. */
#define CONFIG_BYTES_MAX ((size_t)1 << 20)

typedef struct reading {
    options_t *options;
    failure_t *failure;
} reading_t;

static bool refuse_key(const reading_t *reading, const toml_node_t *entry)
{
    char keys[OPTION_COUNT][OPTION_KEY_BYTES];
    suggestion_t suggestion = {.word = entry->key};
    for (option_id_t id = 0; id < OPTION_COUNT; id++)
        suggestion_offer(&suggestion, option_key(id, keys[id]));
    bool is_near = suggestion.nearest != NULL;
    return failure_set(reading->failure, EXIT_USAGE, "%s:%d: there is no key '%.100s'%s%s%s",
                       reading->options->config, entry->line, entry->key,
                       is_near ? ", is it '" : "", is_near ? suggestion.nearest : "",
                       is_near ? "'?" : "");
}

static bool refuse_type(const reading_t *reading, const toml_node_t *entry, const option_row_t *row)
{
    static const char *const names[] = {
        [OPTION_TYPE_NUMBER] = "a whole number",
        [OPTION_TYPE_CHOICE] = "a string",
        [OPTION_TYPE_TEXT] = "a string",
        [OPTION_TYPE_SWITCH] = "true or false",
    };
    return failure_set(reading->failure, EXIT_USAGE, "%s:%d: %.100s: must be %s, not %s",
                       reading->options->config, entry->line, entry->key, names[row->type],
                       entry->kind_name);
}

static bool set_entry(const reading_t *reading, const toml_node_t *entry, option_id_t id)
{
    option_origin_t origin = {ORIGIN_FILE, entry->line};
    switch (option_row(id)->type) {
    case OPTION_TYPE_NUMBER:
        if (entry->kind != TOML_KIND_INTEGER)
            break;
        return option_set_number(reading->options, id, origin, entry->integer, reading->failure);
    case OPTION_TYPE_SWITCH:
        if (entry->kind != TOML_KIND_BOOLEAN)
            break;
        return option_set_number(reading->options, id, origin, entry->integer, reading->failure);
    case OPTION_TYPE_CHOICE:
    case OPTION_TYPE_TEXT:
        if (entry->kind != TOML_KIND_STRING)
            break;
        return option_set_text(reading->options, id, origin, entry->string, reading->failure);
    }
    return refuse_type(reading, entry, option_row(id));
}

static bool take_entry(const reading_t *reading, const toml_node_t *entry)
{
    char key[OPTION_KEY_BYTES];
    for (option_id_t id = 0; id < OPTION_COUNT; id++) {
        if (id == OPTION_CONFIG || strcmp(option_key(id, key), entry->key) != 0)
            continue;
        if (reading->options->origin[id].kind != ORIGIN_FLAG)
            return set_entry(reading, entry, id);
        options_t checked; /* a flag wins, but what the file says must make sense all the same */
        if (!options_init(&checked))
            return failure_set(reading->failure, EXIT_FAILED, "not enough memory");
        checked.config = strdup(reading->options->config);
        const reading_t check = {&checked, reading->failure};
        bool makes_sense = set_entry(&check, entry, id);
        options_release(&checked);
        return makes_sense;
    }
    return refuse_key(reading, entry);
}

static bool take_entries(const reading_t *reading, const toml_node_t *table)
{
    for (int32_t i = 0; i < table->child_count; i++)
        if (!take_entry(reading, &table->children[i]))
            return false;
    return true;
}

bool config_read(options_t *options, failure_t *failure)
{
    file_bytes_t file;
    toml_error_t error;
    reading_t reading = {options, failure};
    if (!file_read(options->config, "--config", CONFIG_BYTES_MAX, &file, failure))
        return false;
    toml_document_t *document = toml_parse(file.bytes, file.count, &error);
    file_release(&file);
    bool is_read = document == NULL ? failure_set(failure, EXIT_USAGE, "%s:%d: %s", options->config,
                                                  error.line, error.message)
                                    : take_entries(&reading, toml_root(document));
    toml_release(document);
    return is_read;
}
