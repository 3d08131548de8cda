/* SPDX-License-Identifier: Apache-2.0 */
/* Reads TOML files and tells what they are. */
#include "suite/source.h"

#include "bench/file.h"
#include "suite/mistakes.h"

#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* These files are small; anything larger is something else. */
#define SOURCE_BYTES_MAX ((size_t)1 << 20)

/* Folders in folders that are looked into. */
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
        /* NOLINTNEXTLINE(bugprone-sizeof-expression): a list of pointers, which stay valid */
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

static int compare_names(const FTSENT **one, const FTSENT **other)
{
    return strcmp((*one)->fts_name, (*other)->fts_name);
}

/* A folder or a file on the way. */
static void take(sources_t *sources, FTS *walk, FTSENT *at, int depth_max, bool is_named,
                 struct mistakes *mistakes)
{
    bool is_hidden = at->fts_level > FTS_ROOTLEVEL && at->fts_name[0] == '.';
    if (at->fts_info == FTS_D && (is_hidden || at->fts_level >= depth_max))
        (void)fts_set(walk, at, FTS_SKIP);
    else if (at->fts_info == FTS_DNR)
        mistakes_add_file(mistakes, SEVERITY_ERROR, at->fts_path, 0, 0, strerror(at->fts_errno));
    else if (at->fts_info != FTS_D && at->fts_info != FTS_DP && at->fts_info != FTS_DC &&
             !is_hidden && ends_in_toml(at->fts_name))
        (void)sources_read(sources, at->fts_path, is_named, mistakes);
}

bool sources_read_folder(sources_t *sources, const char *path, bool is_deep, bool is_named,
                         struct mistakes *mistakes)
{
    char *copy = strdup(path);
    char *paths[] = {copy, NULL};
    struct stat stat_of;
    FTS *walk = NULL;
    if (copy != NULL && stat(path, &stat_of) == 0 && S_ISDIR(stat_of.st_mode))
        walk = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, compare_names);
    if (walk == NULL)
        mistakes_add_file(mistakes, SEVERITY_ERROR, path, 0, 0,
                          copy == NULL ? "not enough memory" : "it is no folder");
    for (FTSENT *at; walk != NULL && (at = fts_read(walk)) != NULL;)
        take(sources, walk, at, is_deep ? FOLDER_DEPTH_MAX : 1, is_named, mistakes);
    bool is_read = walk != NULL && fts_close(walk) == 0;
    free(copy);
    return is_read;
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
