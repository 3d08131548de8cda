/* SPDX-License-Identifier: Apache-2.0 */
/* Takes libyaml's events of one flat mapping, and refuses all others. */
#include "suite/config_yaml.h"

#include "bench/file.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* The file is small; anything larger is something else. */
#define CONFIG_BYTES_MAX ((size_t)1 << 20)

/* Keys at most: far more than there are, so that no file takes long. */
enum { ENTRY_COUNT_MAX = 256 };

/* A file while it is read. */
typedef struct reading {
    yaml_parser_t parser;
    config_yaml_t *config;
    mistakes_t *mistakes;
} reading_t;

/* Libyaml counts lines from 0 on. */
static toml_node_t place_of(const yaml_mark_t *mark)
{
    return (toml_node_t){.line = (int32_t)mark->line + 1, .column = (int32_t)mark->column + 1};
}

static bool refuse(const reading_t *reading, const yaml_mark_t *mark, const char *key,
                   const char *text)
{
    toml_node_t place = place_of(mark);
    place.key = key;
    mistakes_add(reading->mistakes, SEVERITY_ERROR, &reading->config->source, &place, NULL, "%s",
                 text);
    return false;
}

/* The next event; false with a mistake when the text is no YAML. Delete it in any case. */
static bool next_event(reading_t *reading, yaml_event_t *event)
{
    const yaml_parser_t *parser = &reading->parser;
    if (yaml_parser_parse(&reading->parser, event) != 0)
        return true;
    memset(event, 0, sizeof(*event));
    return refuse(reading, &parser->problem_mark, NULL,
                  parser->problem == NULL ? "it cannot be read" : parser->problem);
}

/* What is wrong with an event that should be a scalar; NULL: nothing. */
static const char *why_no_scalar(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        if (event->data.scalar.anchor != NULL)
            return "an anchor is not taken here";
        if (event->data.scalar.tag != NULL)
            return "a tag is not taken here";
        return strlen((const char *)event->data.scalar.value) != event->data.scalar.length
                   ? "it has a NUL in it"
                   : NULL;
    case YAML_SEQUENCE_START_EVENT:
        return "must be one value, not a list";
    case YAML_MAPPING_START_EVENT:
        return "must be one value, not a table";
    case YAML_ALIAS_EVENT:
        return "an alias is not taken here";
    default:
        return "a value is missing";
    }
}

/* The next scalar as a text, to be freed; NULL with a mistake. */
static char *read_scalar(reading_t *reading, const char *key)
{
    yaml_event_t event;
    char *text = NULL;
    if (next_event(reading, &event)) {
        const char *why = why_no_scalar(&event);
        if (why != NULL)
            (void)refuse(reading, &event.start_mark, key, why);
        else
            text = strdup((const char *)event.data.scalar.value);
        if (why == NULL && text == NULL)
            (void)refuse(reading, &event.start_mark, key, "not enough memory");
    }
    yaml_event_delete(&event);
    return text;
}

/* Takes over a key and its value. What a text means, settings decide. */
static void keep(config_yaml_t *config, char *key, char *value, const yaml_mark_t *mark)
{
    int32_t at = config->table.child_count++;
    config->texts[2 * at] = key;
    config->texts[2 * at + 1] = value;
    config->entries[at] = place_of(mark);
    config->entries[at].key = key;
    config->entries[at].string = value;
    config->entries[at].kind = TOML_KIND_STRING;
    config->entries[at].kind_name = "a string";
}

/* The value that follows a key, which this takes over. False: the rest cannot be read. */
static bool read_value(reading_t *reading, char *key, const yaml_mark_t *mark)
{
    char twice[64] = "";
    char *value = read_scalar(reading, key);
    const toml_node_t *first = toml_find(&reading->config->table, key);
    bool is_full = reading->config->table.child_count == ENTRY_COUNT_MAX;
    if (value != NULL && first == NULL && !is_full) {
        keep(reading->config, key, value, mark);
        return true;
    }
    if (first != NULL)
        (void)snprintf(twice, sizeof(twice), "it has been given in line %d", first->line);
    if (value != NULL)
        (void)refuse(reading, mark, key, first != NULL ? twice : "there are too many keys");
    free(key);
    free(value);
    return value != NULL && !is_full;
}

/* Keys and values up to the end of the mapping. */
static bool read_mapping(reading_t *reading)
{
    bool is_read = true;
    bool is_at_end = false;
    while (is_read && !is_at_end) {
        yaml_event_t event;
        is_read = next_event(reading, &event);
        is_at_end = event.type == YAML_MAPPING_END_EVENT;
        if (is_read && !is_at_end) {
            const char *why = why_no_scalar(&event);
            char *key = why == NULL ? strdup((const char *)event.data.scalar.value) : NULL;
            is_read = key != NULL && read_value(reading, key, &event.start_mark);
            if (key == NULL)
                (void)refuse(reading, &event.start_mark, NULL,
                             why == NULL ? "not enough memory" : why);
        }
        yaml_event_delete(&event);
    }
    return is_read;
}

/* An event of a type, or a mistake. */
static bool expect(reading_t *reading, yaml_event_type_t type, const char *otherwise)
{
    yaml_event_t event;
    bool is_read = next_event(reading, &event);
    bool is_expected = is_read && event.type == type;
    if (is_read && !is_expected)
        (void)refuse(reading, &event.start_mark, NULL, otherwise);
    yaml_event_delete(&event);
    return is_expected;
}

static bool read_document(reading_t *reading)
{
    static const char empty[] = "it is empty: settings are expected, 'tokens: 1024'";
    return expect(reading, YAML_STREAM_START_EVENT, empty) &&
           expect(reading, YAML_DOCUMENT_START_EVENT, empty) &&
           expect(reading, YAML_MAPPING_START_EVENT,
                  "it is no table of settings, 'tokens: 1024'") &&
           read_mapping(reading) && expect(reading, YAML_DOCUMENT_END_EVENT, empty) &&
           expect(reading, YAML_STREAM_END_EVENT, "there is a second document");
}

/* Whether it could be read to its end. */
static bool read_file(config_yaml_t *config, mistakes_t *mistakes)
{
    file_bytes_t file;
    failure_t failure = {.exit_code = EXIT_DONE};
    reading_t reading = {.config = config, .mistakes = mistakes};
    bool is_read = false;
    if (!file_read(config->source.path, "CONFIG", CONFIG_BYTES_MAX, &file, &failure)) {
        mistakes_add_file(mistakes, SEVERITY_ERROR, config->source.path, 0, 0, failure.sentence);
        return false;
    }
    config->entries = calloc(ENTRY_COUNT_MAX, sizeof(*config->entries));
    config->texts = (char **)calloc((size_t)2 * ENTRY_COUNT_MAX, sizeof(*config->texts));
    config->table = (toml_node_t){.kind = TOML_KIND_TABLE, .children = config->entries};
    if (config->entries != NULL && config->texts != NULL &&
        yaml_parser_initialize(&reading.parser) != 0) {
        yaml_parser_set_encoding(&reading.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&reading.parser, (const unsigned char *)file.bytes,
                                     file.count);
        is_read = read_document(&reading);
        yaml_parser_delete(&reading.parser);
    } else {
        mistakes_add_file(mistakes, SEVERITY_ERROR, config->source.path, 0, 0, "not enough memory");
    }
    file_release(&file);
    return is_read;
}

/* Variables that are set, as a table of their own. */
static void read_environment(config_yaml_t *config, mistakes_t *mistakes)
{
    static char name[] = "environment";
    static const source_t source = {.path = name};
    toml_node_t table = {.kind = TOML_KIND_TABLE, .children = config->variables};
    dialect_t dialect = config->test.dialect;
    for (int i = 0; i < SETTING_COUNT; i++) {
        const char *key = setting_key((setting_id_t)i, dialect, PLACE_ENVIRONMENT);
        const char *value = key == NULL ? NULL : getenv(key);
        if (value != NULL)
            config->variables[table.child_count++] = (toml_node_t){
                .key = key, .string = value, .kind = TOML_KIND_STRING, .kind_name = "a string"};
    }
    layer_t layer = {&source, &table};
    settings_read(&layer, 1, dialect, PLACE_ENVIRONMENT, config->test.settings, mistakes);
}

void config_yaml_read(const char *path, config_yaml_t *out, mistakes_t *mistakes)
{
    *out = (config_yaml_t){.source = {.path = strdup(path), .is_named = true}};
    settings_init(out->test.settings);
    if (out->source.path == NULL) {
        mistakes_add_file(mistakes, SEVERITY_ERROR, path, 0, 0, "not enough memory");
    } else if (read_file(out, mistakes)) {
        layer_t layer = {&out->source, &out->table};
        bool is_moe = toml_find(&out->table, "benchmark_type") != NULL;
        out->test.dialect = is_moe ? DIALECT_MOE_BENCHMARK : DIALECT_DEEPEP_BENCHMARK;
        settings_read(&layer, 1, out->test.dialect, PLACE_CONFIG, out->test.settings, mistakes);
        read_environment(out, mistakes);
    }
}

void config_yaml_release(config_yaml_t *config)
{
    for (int32_t i = 0; i < 2 * config->table.child_count; i++)
        free(config->texts[i]);
    free((void *)config->texts);
    free(config->entries);
    free(config->source.path);
    *config = (config_yaml_t){.texts = NULL};
}
