/* SPDX-License-Identifier: Apache-2.0 */
/* Finds records by the names that the tools give them. */
#include "report/collect.h"

#include "bench/file.h"
#include "bench/text_json.h"
#include "moxie/version.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A record is not that large; anything larger is something else. */
#define RECORD_BYTES_MAX ((size_t)256 << 20)

/* Whether FOLDER/NAME is there; its path. */
static bool find(const char *folder, const char *name, char path[PATH_MAX])
{
    struct stat stat_of;
    int length = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return length > 0 && length < PATH_MAX && stat(path, &stat_of) == 0;
}

/* Reads a record of a schema; NULL with a failure. A new reference. */
static json_t *read_record(const char *path, const char *schema, failure_t *failure)
{
    file_bytes_t file;
    json_error_t error;
    if (!file_read(path, "report", RECORD_BYTES_MAX, &file, failure))
        return NULL;
    json_t *record = json_loadb(file.bytes, file.count, 0, &error);
    const char *found = json_string_value(json_object_get(record, "schema"));
    file_release(&file);
    if (record == NULL)
        failure_set(failure, EXIT_USAGE, "%s:%d: %s", path, error.line, error.text);
    else if (found != NULL && strcmp(found, schema) == 0)
        return record;
    else
        failure_set(failure, EXIT_USAGE, "%s: schema: '%s' is expected, not '%s'", path, schema,
                    found == NULL ? "" : found);
    json_decref(record);
    return NULL;
}

static void add_source(json_t *sources, const char *kind, const char *folder, json_t *record,
                       json_t *runs)
{
    json_array_append_new(sources, json_pack("{s:s,s:o,s:o,s:o*}", "kind", kind, "path",
                                             text_json(folder), "record", record, "runs", runs));
}

/* Whether a path of a record stays below its folder. */
static bool is_below(const char *path)
{
    bool is_safe = path != NULL && path[0] != '/';
    for (const char *part = path; is_safe && part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        is_safe = strcmp(part, "..") != 0 && strncmp(part, "../", 3) != 0;
    }
    return is_safe;
}

/* The record of each test that was begun; NULL with a failure. */
static json_t *read_runs(const char *folder, const char *suite_path, const json_t *suite,
                         failure_t *failure)
{
    size_t index;
    const json_t *test;
    char path[PATH_MAX];
    json_t *runs = json_array();
    json_array_foreach(json_object_get(suite, "tests"), index, test)
    {
        char name[PATH_MAX];
        json_t *run = NULL;
        const char *below = json_string_value(json_object_get(test, "folder"));
        if (!is_below(below)) {
            failure_set(failure, EXIT_USAGE, "%s: tests: %zu: 'folder' is no path below %s",
                        suite_path, index, folder);
        } else {
            (void)snprintf(name, sizeof(name), "%s/record.json", below);
            if (!find(folder, name, path))
                continue;
            run = read_record(path, "moxie.suite.run/1", failure);
        }
        if (run == NULL) {
            json_decref(runs);
            return NULL;
        }
        json_array_append_new(runs, run);
    }
    return runs;
}

static bool add_suite(json_t *sources, const char *folder, const char *path, failure_t *failure)
{
    json_t *suite = read_record(path, "moxie.suite/1", failure);
    json_t *runs = suite == NULL ? NULL : read_runs(folder, path, suite, failure);
    if (runs == NULL) {
        json_decref(suite);
        return false;
    }
    add_source(sources, "suite", folder, suite, runs);
    return true;
}

static bool add_record(json_t *sources, const char *kind, const char *folder, const char *path,
                       failure_t *failure)
{
    char schema[32];
    (void)snprintf(schema, sizeof(schema), "moxie.%s/1", kind);
    json_t *record = read_record(path, schema, failure);
    if (record != NULL)
        add_source(sources, kind, folder, record, NULL);
    return record != NULL;
}

/* The first time as 2026-11-22_08-30-00 in a name; the whole name when it has none. */
static const char *time_in(const char *name)
{
    for (const char *c = name; (c = strstr(c, "_20")) != NULL; c++)
        if (strlen(c) >= 20 && c[5] == '-' && c[8] == '-' && c[11] == '_')
            return c + 1;
    return name;
}

static int by_time(const struct dirent **one, const struct dirent **other)
{
    int order = strcmp(time_in((*one)->d_name), time_in((*other)->d_name));
    return order != 0 ? order : strcmp((*one)->d_name, (*other)->d_name);
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* results/ of a tuner: every file that ends in .json. */
static bool add_tunings(json_t *sources, const char *folder, const char *results,
                        failure_t *failure)
{
    struct dirent **entries = NULL;
    bool is_read = true;
    int count = scandir(results, &entries, is_visible, by_time);
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        const char *suffix = strrchr(entries[i]->d_name, '.');
        if (is_read && suffix != NULL && strcmp(suffix, ".json") == 0 &&
            find(results, entries[i]->d_name, path))
            is_read = add_record(sources, "tune", folder, path, failure);
        free(entries[i]);
    }
    free(entries);
    return is_read;
}

/* What lies in a folder itself. */
static bool add_folder(json_t *sources, const char *folder, failure_t *failure)
{
    char path[PATH_MAX];
    if (find(folder, "suite.json", path) && !add_suite(sources, folder, path, failure))
        return false;
    if (find(folder, "bench.json", path) && !add_record(sources, "bench", folder, path, failure))
        return false;
    return !find(folder, "results", path) || add_tunings(sources, folder, path, failure);
}

/* What lies in the folders of a folder. */
static bool add_children(json_t *sources, const char *folder, failure_t *failure)
{
    struct dirent **entries = NULL;
    bool is_read = true;
    int count = scandir(folder, &entries, is_visible, by_time);
    if (count < 0)
        return failure_set(failure, EXIT_USAGE, "%s: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (is_read && find(folder, entries[i]->d_name, path))
            is_read = add_folder(sources, path, failure);
        free(entries[i]);
    }
    free(entries);
    return is_read;
}

static bool add_argument(json_t *sources, const char *folder, failure_t *failure)
{
    char path[PATH_MAX];
    size_t count_before = json_array_size(sources);
    if (!add_folder(sources, folder, failure))
        return false;
    /* The folders inside a suite's are its tests. */
    if (!find(folder, "suite.json", path) && !add_children(sources, folder, failure))
        return false;
    return json_array_size(sources) > count_before ||
           failure_set(failure, EXIT_USAGE,
                       "%s: no results are there or one folder below: no suite.json, bench.json "
                       "or results/*.json",
                       folder);
}

json_t *collect_folders(const char *const *folders, int32_t count, failure_t *failure)
{
    json_t *sources = json_array();
    for (int32_t i = 0; i < count; i++) {
        if (add_argument(sources, folders[i], failure))
            continue;
        json_decref(sources);
        return NULL;
    }
    return json_pack("{s:s,s:s,s:o}", "schema", "moxie.report/1", "version", moxie_version_text(),
                     "sources", sources);
}
