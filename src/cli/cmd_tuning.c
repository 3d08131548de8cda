/* SPDX-License-Identifier: Apache-2.0 */
/* moxie tune list | show | export | import | forget: the tuning database. */
#include "bench/file.h"
#include "bench/output.h"
#include "bench/record.h"
#include "cli/cli.h"
#include "moxie/version.h"
#include "tune/database.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* An export is small; anything larger is something else. */
#define IMPORT_BYTES_MAX ((size_t)64 << 20)

enum { KEY_STORE = 256, KEY_JSON };

typedef struct request {
    const char *verb;
    const char *store;
    const char *argument; /* an id, a file; NULL: none */
    bool json;
} request_t;

static error_t take(int key, char *argument, struct argp_state *state)
{
    request_t *request = state->input;
    switch (key) {
    case KEY_STORE:
        request->store = argument;
        return 0;
    case KEY_JSON:
        request->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (request->argument != NULL)
            argp_error(state, "'%s' is one argument too many", argument);
        request->argument = argument;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static int64_t integer_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* The number of an entry; with `or_all` "all" is 0. */
static bool read_id(const request_t *request, bool or_all, int64_t *id, failure_t *failure)
{
    char *end = NULL;
    const char *text = request->argument;
    if (text == NULL)
        return failure_set(failure, EXIT_USAGE,
                           "%s needs the number of an entry%s; "
                           "moxie tune list tells them",
                           request->verb, or_all ? ", or all" : "");
    *id = 0;
    if (or_all && strcmp(text, "all") == 0)
        return true;
    errno = 0;
    *id = strtoll(text, &end, 10);
    return (end != text && *end == '\0' && errno == 0 && *id > 0) ||
           failure_set(failure, EXIT_USAGE, "%s: '%.100s' is no number of an entry", request->verb,
                       text);
}

static json_t *export_json(json_t *entries)
{
    return json_pack("{s:s,s:s,s:o}", "schema", "moxie.tuning/1", "version", moxie_version_text(),
                     "entries", entries);
}

static void print_entry(const json_t *entry)
{
    const char *name;
    const json_t *value;
    const json_t *model = json_object_get(entry, "model");
    (void)printf("%4" PRId64 "  %-8s %3" PRId64 " ranks %6" PRId64 " tokens  hidden %" PRId64
                 ", %" PRId64 " experts, topk %" PRId64 "  %s\n      %s %s, %s\n     ",
                 integer_at(entry, "id"), text_at(entry, "backend"), integer_at(entry, "ranks"),
                 integer_at(entry, "tokens"), integer_at(entry, "hidden"),
                 integer_at(entry, "experts"), integer_at(entry, "topk"), text_at(entry, "variant"),
                 text_at(entry, "tuned_at"), text_at(entry, "machine"),
                 text_at(json_object_get(entry, "record"), "verdict"));
    json_object_foreach(json_object_get(entry, "knobs"), name, value)
    {
        (void)printf(" %s=%" JSON_INTEGER_FORMAT, name, json_integer_value(value));
    }
    (void)printf("\n");
    if (json_is_object(model))
        (void)printf("      and a model for other sizes, typical error %.1f%%\n",
                     (double)integer_at(model, "error") / 10.0);
}

static bool do_list(const request_t *request, database_t *database, failure_t *failure)
{
    size_t index;
    const json_t *entry;
    json_t *entries = database_list(database, 0, failure);
    if (entries == NULL)
        return false;
    if (request->json) {
        json_t *document = export_json(json_incref(entries));
        (void)record_write(document, stdout);
        json_decref(document);
    } else {
        json_array_foreach(entries, index, entry)
        {
            print_entry(entry);
        }
        if (json_array_size(entries) == 0)
            (void)printf("%s has no entries\n", database->path);
    }
    json_decref(entries);
    return true;
}

static bool do_show(const request_t *request, database_t *database, failure_t *failure)
{
    int64_t id = 0;
    json_t *entries =
        read_id(request, false, &id, failure) ? database_list(database, id, failure) : NULL;
    bool is_there = json_array_size(entries) > 0;
    if (entries != NULL && !is_there)
        failure_set(failure, EXIT_USAGE, "show: there is no entry %" PRId64, id);
    if (is_there) {
        if (!request->json)
            print_entry(json_array_get(entries, 0));
        (void)record_write(json_array_get(entries, 0), stdout);
    }
    json_decref(entries);
    return is_there;
}

static bool do_export(const request_t *request, database_t *database, failure_t *failure)
{
    output_file_t file;
    json_t *entries = database_list(database, 0, failure);
    if (entries == NULL)
        return false;
    json_t *document = export_json(entries);
    bool is_done = true;
    if (request->argument == NULL) {
        (void)record_write(document, stdout);
    } else {
        is_done = output_file_open(&file, request->argument, "export", failure);
        if (is_done) {
            (void)record_write(document, file.stream);
            is_done = output_file_commit(&file, failure);
        }
    }
    json_decref(document);
    return is_done;
}

static bool import_entries(const request_t *request, const json_t *document, database_t *database,
                           failure_t *failure)
{
    size_t index;
    const json_t *json;
    settings_entry_t entry;
    const json_t *entries = json_object_get(document, "entries");
    if (strcmp(text_at(document, "schema"), "moxie.tuning/1") != 0 || !json_is_array(entries))
        return failure_set(failure, EXIT_USAGE, "%s: no export of a tuning database",
                           request->argument);
    json_array_foreach(entries, index, json)
    {
        if (!database_entry_from_json(json, &entry))
            return failure_set(failure, EXIT_USAGE, "%s: entry %zu makes no sense",
                               request->argument, index + 1);
    }
    json_array_foreach(entries, index, json)
    {
        json_t *record = json_object_get(json, "record");
        if (!database_entry_from_json(json, &entry) ||
            !database_put(database, &entry, record == NULL ? json : record, failure))
            return false;
    }
    size_t count = json_array_size(entries);
    (void)printf("%zu %s in %s\n", count, count == 1 ? "entry is" : "entries are", database->path);
    return true;
}

static bool do_import(const request_t *request, database_t *database, failure_t *failure)
{
    file_bytes_t file;
    json_error_t error;
    if (request->argument == NULL)
        return failure_set(failure, EXIT_USAGE, "import needs a file that export wrote");
    if (!file_read(request->argument, "import", IMPORT_BYTES_MAX, &file, failure))
        return false;
    json_t *document = json_loadb(file.bytes, file.count, JSON_REJECT_DUPLICATES, &error);
    bool is_done = document != NULL ? import_entries(request, document, database, failure)
                                    : failure_set(failure, EXIT_USAGE, "%s:%d: %s",
                                                  request->argument, error.line, error.text);
    json_decref(document);
    file_release(&file);
    return is_done;
}

static bool do_forget(const request_t *request, database_t *database, failure_t *failure)
{
    int64_t id = 0;
    int64_t count = 0;
    if (!read_id(request, true, &id, failure) || !database_forget(database, id, &count, failure))
        return false;
    if (count == 0 && id > 0)
        return failure_set(failure, EXIT_USAGE, "forget: there is no entry %" PRId64, id);
    (void)printf("%" PRId64 " forgotten\n", count);
    return true;
}

int cmd_tuning(int argc, char **argv)
{
    static const struct {
        const char *verb;
        bool (*run)(const request_t *request, database_t *database, failure_t *failure);
    } verbs[] = {{"list", do_list},
                 {"show", do_show},
                 {"export", do_export},
                 {"import", do_import},
                 {"forget", do_forget}};
    static const struct argp_option options[] = {
        {"store", KEY_STORE, "DIR", 0, "Folder of the tuning database", 0},
        {"json", KEY_JSON, NULL, 0, "Put one JSON document on standard output", 0},
        {0}};
    static const struct argp argp = {.options = options,
                                     .parser = take,
                                     .args_doc = "[ID|all|FILE]",
                                     .doc = "Looks after the tuning database."};
    static database_t database;
    static char name[32];
    request_t request = {.verb = argv[1]};
    failure_t failure = {.exit_code = EXIT_DONE};
    (void)snprintf(name, sizeof(name), "%.16s %.12s", argv[0], request.verb);
    argv[1] = name;
    if (argp_parse(&argp, argc - 1, argv + 1, 0, NULL, &request) != 0)
        return EXIT_USAGE;
    bool is_done = database_open(&database, request.store, &failure);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && is_done; i++)
        if (strcmp(verbs[i].verb, request.verb) == 0)
            is_done = verbs[i].run(&request, &database, &failure);
    database_close(&database);
    if (!is_done)
        (void)cli_fail(argv[0], &failure);
    return failure.exit_code;
}
