/* SPDX-License-Identifier: Apache-2.0 */
/* A list of mistakes. */
#include "suite/mistakes.h"

#include "bench/text_json.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const severity_names[] = {"warning", "error"};

static int compare(const void *one, const void *other)
{
    const mistake_t *a = one;
    const mistake_t *b = other;
    int by_path = strcmp(a->path, b->path);
    if (by_path != 0)
        return by_path;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    if (a->column != b->column)
        return a->column < b->column ? -1 : 1;
    return strcmp(a->text, b->text);
}

bool mistakes_are_full(const mistakes_t *mistakes)
{
    return mistakes->count >= MISTAKE_COUNT_MAX;
}

static bool is_known(const mistakes_t *mistakes, const mistake_t *mistake)
{
    for (size_t i = 0; i < mistakes->count; i++)
        if (compare(&mistakes->list[i], mistake) == 0)
            return true;
    return false;
}

static void release(mistake_t *mistake)
{
    free(mistake->path);
    free(mistake->key);
    free(mistake->text);
}

static bool make_room(mistakes_t *mistakes)
{
    if (mistakes->count < mistakes->capacity)
        return true;
    size_t capacity = 2 * mistakes->capacity + 16;
    mistake_t *grown = realloc(mistakes->list, capacity * sizeof(*grown));
    if (grown == NULL)
        return false;
    mistakes->list = grown;
    mistakes->capacity = capacity;
    return true;
}

/* Takes over what the mistake owns. */
static void adopt(mistakes_t *mistakes, mistake_t *mistake)
{
    bool is_whole = mistake->path != NULL && mistake->key != NULL && mistake->text != NULL &&
                    !mistakes_are_full(mistakes);
    mistakes->found_count += mistake->severity == SEVERITY_ERROR;
    if (is_whole && is_known(mistakes, mistake)) {
        release(mistake);
        return;
    }
    mistakes->error_count += mistake->severity == SEVERITY_ERROR;
    mistakes->warning_count += mistake->severity == SEVERITY_WARNING;
    if (is_whole && make_room(mistakes))
        mistakes->list[mistakes->count++] = *mistake;
    else
        release(mistake);
}

/* "cmd_args.tokens"; NULL: no memory. */
static char *join_key(const char *prefix, const toml_node_t *node)
{
    char *key = NULL;
    const char *name = node == NULL || node->key == NULL ? "" : node->key;
    if (prefix == NULL || prefix[0] == '\0')
        return strdup(name);
    return asprintf(&key, "%s%s%s", prefix, name[0] == '\0' ? "" : ".", name) < 0 ? NULL : key;
}

void mistakes_add(mistakes_t *mistakes, severity_t severity, const source_t *source,
                  const toml_node_t *node, const char *prefix, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    mistake_t mistake = {.severity = severity,
                         .line = node == NULL ? 0 : node->line,
                         .column = node == NULL ? 0 : node->column,
                         .path = strdup(source->path),
                         .key = join_key(prefix, node),
                         .text = text};
    adopt(mistakes, &mistake);
}

void mistakes_add_file(mistakes_t *mistakes, severity_t severity, const char *path, int32_t line,
                       int32_t column, const char *text)
{
    mistake_t mistake = {.severity = severity,
                         .line = line,
                         .column = column,
                         .path = strdup(path),
                         .key = strdup(""),
                         .text = strdup(text)};
    adopt(mistakes, &mistake);
}

static void sort(mistakes_t *mistakes)
{
    if (mistakes->count > 1)
        qsort(mistakes->list, mistakes->count, sizeof(*mistakes->list), compare);
}

void mistakes_print(mistakes_t *mistakes, FILE *out)
{
    sort(mistakes);
    for (size_t i = 0; i < mistakes->count; i++) {
        const mistake_t *mistake = &mistakes->list[i];
        (void)fprintf(out, "%s:", mistake->path);
        if (mistake->line > 0)
            (void)fprintf(out, "%d:%d:", mistake->line, mistake->column);
        (void)fprintf(out, " %s: %s%s%s\n", severity_names[mistake->severity], mistake->key,
                      mistake->key[0] == '\0' ? "" : ": ", mistake->text);
    }
    if (mistakes->error_count + mistakes->warning_count > mistakes->count)
        (void)fprintf(out, "and %zu more\n",
                      mistakes->error_count + mistakes->warning_count - mistakes->count);
}

json_t *mistakes_json(mistakes_t *mistakes)
{
    json_t *list = json_array();
    sort(mistakes);
    for (size_t i = 0; i < mistakes->count; i++) {
        const mistake_t *mistake = &mistakes->list[i];
        json_array_append_new(
            list, json_pack("{s:s,s:o,s:i,s:i,s:o,s:o}", "severity",
                            severity_names[mistake->severity], "path", text_json(mistake->path),
                            "line", mistake->line, "column", mistake->column, "key",
                            text_json(mistake->key), "message", text_json(mistake->text)));
    }
    return list;
}

void mistakes_release(mistakes_t *mistakes)
{
    for (size_t i = 0; i < mistakes->count; i++)
        release(&mistakes->list[i]);
    free(mistakes->list);
    *mistakes = (mistakes_t){0};
}
