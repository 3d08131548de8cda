/* SPDX-License-Identifier: Apache-2.0 */
/* Reads TOML files and tells what they are. */
#include "suite/source.h"

#include "bench/file.h"
#include "suite/mistakes.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* These files are small; anything larger is something else. */
#define SOURCE_BYTES_MAX ((size_t)1 << 20)

/* Folders in folders: more is a loop of links. */
enum { FOLDER_DEPTH_MAX = 16 };

static source_kind_t kind_of(const toml_node_t *root)
{
    if (toml_find(root, "Tests") != NULL)
        return SOURCE_SCENARIO;
    if (toml_find(root, "scheduler") != NULL || toml_find(root, "partitions") != NULL)
        return SOURCE_SYSTEM;
    if (toml_find(root, "test_template_name") != NULL || toml_find(root, "cmd_args") != NULL)
        return SOURCE_TEST;
    return SOURCE_OTHER;
}

static source_t *find(const sources_t *sources, const struct stat *stat_of)
{
    for (size_t i = 0; i < sources->count; i++)
        if (sources->list[i]->device == stat_of->st_dev &&
            sources->list[i]->file == stat_of->st_ino)
            return sources->list[i];
    return NULL;
}

static void release(source_t *source)
{
    if (source != NULL) {
        toml_release(source->document);
        free(source->path);
    }
    free(source);
}

/* Takes over the source, unless there is no memory. */
static bool keep(sources_t *sources, source_t *source)
{
    if (sources->count == sources->capacity) {
        size_t capacity = 2 * sources->capacity + 16;
        source_t **grown = realloc((void *)sources->list, capacity * sizeof(*grown));
        if (grown == NULL)
            return false;
        sources->list = grown;
        sources->capacity = capacity;
    }
    sources->list[sources->count++] = source;
    return true;
}

static source_t *add(sources_t *sources, const char *path, toml_document_t *document,
                     const struct stat *stat_of)
{
    source_t *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        toml_release(document);
        return NULL;
    }
    source->document = document;
    source->path = strdup(path);
    source->kind = kind_of(toml_root(document));
    source->device = stat_of->st_dev;
    source->file = stat_of->st_ino;
    if (source->path != NULL && keep(sources, source))
        return source;
    release(source);
    return NULL;
}

source_t *sources_read(sources_t *sources, const char *path, bool is_named,
                       struct mistakes *mistakes)
{
    struct stat stat_of;
    file_bytes_t file;
    toml_error_t error;
    failure_t failure = {.exit_code = EXIT_DONE};
    severity_t severity = is_named ? SEVERITY_ERROR : SEVERITY_WARNING;
    source_t *source = stat(path, &stat_of) == 0 ? find(sources, &stat_of) : NULL;
    if (source != NULL) {
        source->is_named |= is_named;
        return source;
    }
    if (!file_read(path, "file", SOURCE_BYTES_MAX, &file, &failure)) {
        mistakes_add_file(mistakes, severity, path, 0, 0, failure.sentence);
        return NULL;
    }
    toml_document_t *document = toml_parse(file.bytes, file.count, &error);
    file_release(&file);
    if (document == NULL) {
        mistakes_add_file(mistakes, severity, path, error.line, error.column, error.message);
        return NULL;
    }
    source = add(sources, path, document, &stat_of);
    if (source == NULL)
        mistakes_add_file(mistakes, SEVERITY_ERROR, path, 0, 0, "not enough memory");
    else
        source->is_named = is_named;
    return source;
}

static bool ends_in_toml(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".toml") == 0;
}

static bool read_folder(sources_t *sources, const char *path, int depth, bool is_named,
                        struct mistakes *mistakes)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        mistakes_add_file(mistakes, SEVERITY_ERROR, path, 0, 0, strerror(errno));
        return false;
    }
    for (int i = 0; i < count; i++) {
        char *inside = NULL;
        struct stat stat_of;
        bool is_hidden = entries[i]->d_name[0] == '.';
        if (!is_hidden && asprintf(&inside, "%s/%s", path, entries[i]->d_name) >= 0 &&
            stat(inside, &stat_of) == 0) {
            if (S_ISDIR(stat_of.st_mode) && depth > 0)
                (void)read_folder(sources, inside, depth - 1, is_named, mistakes);
            else if (!S_ISDIR(stat_of.st_mode) && ends_in_toml(inside))
                (void)sources_read(sources, inside, is_named, mistakes);
        }
        free(is_hidden ? NULL : inside);
        free(entries[i]);
    }
    free((void *)entries);
    return true;
}

bool sources_read_folder(sources_t *sources, const char *path, bool is_deep, bool is_named,
                         struct mistakes *mistakes)
{
    return read_folder(sources, path, is_deep ? FOLDER_DEPTH_MAX : 0, is_named, mistakes);
}

layer_t source_layer(const source_t *source)
{
    return (layer_t){source, toml_root(source->document)};
}

void sources_release(sources_t *sources)
{
    for (size_t i = 0; i < sources->count; i++)
        release(sources->list[i]);
    free((void *)sources->list);
    *sources = (sources_t){0};
}
