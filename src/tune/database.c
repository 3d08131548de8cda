/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite: one table, every change a transaction that also renews tuning.txt. */
#include "tune/database.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of the table below, in PRAGMA user_version. */
#define SCHEMA_VERSION 2

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS tuned (id INTEGER PRIMARY KEY AUTOINCREMENT, backend TEXT NOT NULL,"
    " machine TEXT NOT NULL, mode TEXT NOT NULL, variant TEXT NOT NULL, ranks INTEGER NOT NULL,"
    " tokens INTEGER NOT NULL, hidden INTEGER NOT NULL, experts INTEGER NOT NULL,"
    " topk INTEGER NOT NULL, tuned_at TEXT NOT NULL, knobs TEXT NOT NULL, record TEXT NOT NULL,"
    " model TEXT NOT NULL DEFAULT 'null',"
    " UNIQUE (backend, machine, mode, variant, ranks, tokens, hidden, experts, topk));"
    "PRAGMA user_version = 2;";

/* Of version 1, which had no models. */
static const char schema_from_1[] =
    "ALTER TABLE tuned ADD COLUMN model TEXT NOT NULL DEFAULT 'null'; PRAGMA user_version = 2;";

/* The columns of a key, in the order of bind_key(). */
#define KEY_COLUMNS "backend, machine, mode, variant, ranks, tokens, hidden, experts, topk"
#define KEY_COUNT   9

static sqlite3 *handle(const database_t *database)
{
    return database->connection;
}

static bool refuse(const database_t *database, failure_t *failure)
{
    int code = sqlite3_errcode(handle(database)) & 0xFF;
    const char *message = sqlite3_errmsg(handle(database));
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return failure_set(failure, EXIT_FAILED,
                           "%s: another program has kept it locked for %d s; the settings are not "
                           "stored",
                           database->path, DATABASE_PATIENCE_MS / 1000);
    if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT)
        return failure_set(failure, EXIT_USAGE,
                           "%s: no tuning database, or a damaged one (%s); move it away",
                           database->path, message);
    if (code == SQLITE_READONLY || code == SQLITE_CANTOPEN || code == SQLITE_PERM)
        return failure_set(failure, EXIT_USAGE, "%s: cannot be written: %s", database->path,
                           message);
    return failure_set(failure, EXIT_FAILED, "%s: %s", database->path, message);
}

static bool execute(const database_t *database, const char *sql, failure_t *failure)
{
    return sqlite3_exec(handle(database), sql, NULL, NULL, NULL) == SQLITE_OK ||
           refuse(database, failure);
}

static bool prepare(const database_t *database, const char *sql, sqlite3_stmt **out,
                    failure_t *failure)
{
    return sqlite3_prepare_v2(handle(database), sql, -1, out, NULL) == SQLITE_OK ||
           refuse(database, failure);
}

/* Makes the folder and those above it. */
static bool make_folder(char *path)
{
    for (size_t i = 1;; i++) {
        char end = path[i];
        if (end != '/' && end != '\0')
            continue;
        path[i] = '\0';
        int result = mkdir(path, 0777);
        int error = errno;
        path[i] = end;
        if (result != 0 && error != EEXIST && error != EISDIR && end == '\0')
            return false;
        if (end == '\0')
            return true;
    }
}

static bool read_version(const database_t *database, int *version, failure_t *failure)
{
    sqlite3_stmt *statement = NULL;
    if (!prepare(database, "PRAGMA user_version", &statement, failure))
        return false;
    *version = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int(statement, 0) : -1;
    (void)sqlite3_finalize(statement);
    return *version >= 0 || refuse(database, failure);
}

/* Another program may do it at the same time: what there is to do is looked at under the lock. */
static bool bring_up_to_date(const database_t *database, failure_t *failure)
{
    int version = 0;
    if (!execute(database, "BEGIN IMMEDIATE", failure))
        return false;
    if (read_version(database, &version, failure) &&
        (version != 0 || execute(database, schema, failure)) &&
        (version != 1 || execute(database, schema_from_1, failure)) &&
        execute(database, "COMMIT", failure))
        return true;
    (void)sqlite3_exec(handle(database), "ROLLBACK", NULL, NULL, NULL);
    return false;
}

static bool check_version(const database_t *database, failure_t *failure)
{
    int version = 0;
    if (!read_version(database, &version, failure))
        return false;
    if (version > SCHEMA_VERSION)
        return failure_set(failure, EXIT_USAGE,
                           "%s: a newer Moxie wrote it (version %d, this one knows %d)",
                           database->path, version, SCHEMA_VERSION);
    return version == SCHEMA_VERSION || bring_up_to_date(database, failure);
}

bool database_open(database_t *database, const char *folder, failure_t *failure)
{
    sqlite3 *connection = NULL;
    *database = (database_t){.connection = NULL};
    if (folder == NULL && !settings_folder(database->folder, sizeof(database->folder)))
        return failure_set(
            failure, EXIT_USAGE,
            "there is no place for the tuning database: MOXIE_TUNING is off, or HOME "
            "is not set; --store DIR names one");
    if (folder != NULL && snprintf(database->folder, sizeof(database->folder), "%s", folder) >=
                              (int)sizeof(database->folder))
        return failure_set(failure, EXIT_USAGE, "--store: the path is too long");
    if (!make_folder(database->folder))
        return failure_set(failure, EXIT_USAGE, "%s: no such folder can be made: %s",
                           database->folder, strerror(errno));
    (void)snprintf(database->path, sizeof(database->path), "%s/tuning.db", database->folder);
    int result = sqlite3_open(database->path, &connection);
    database->connection = connection;
    if (connection == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory for the tuning database");
    if (result != SQLITE_OK)
        return refuse(database, failure);
    (void)sqlite3_busy_timeout(connection, DATABASE_PATIENCE_MS);
    return check_version(database, failure);
}

void database_close(database_t *database)
{
    (void)sqlite3_close(handle(database));
    database->connection = NULL;
}

static void bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    (void)sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT);
}

static void bind_key(sqlite3_stmt *statement, const settings_key_t *key)
{
    bind_text(statement, 1, key->backend);
    bind_text(statement, 2, key->machine);
    bind_text(statement, 3, key->mode);
    bind_text(statement, 4, key->variant);
    (void)sqlite3_bind_int64(statement, 5, key->ranks);
    (void)sqlite3_bind_int64(statement, 6, key->tokens);
    (void)sqlite3_bind_int64(statement, 7, key->hidden);
    (void)sqlite3_bind_int64(statement, 8, key->experts);
    (void)sqlite3_bind_int64(statement, 9, key->topk);
}

/* Runs a statement that gives no rows, and ends it. */
static bool finish(const database_t *database, sqlite3_stmt *statement, failure_t *failure)
{
    bool is_done = sqlite3_step(statement) == SQLITE_DONE;
    if (!is_done)
        (void)refuse(database, failure);
    (void)sqlite3_finalize(statement);
    return is_done;
}

static json_t *row_json(sqlite3_stmt *statement)
{
    static const char *const names[] = {"id",     "backend", "machine", "mode", "variant", "ranks",
                                        "tokens", "hidden",  "experts", "topk", "tuned_at"};
    json_t *row = json_object();
    int count = (int)(sizeof(names) / sizeof(names[0]));
    for (int i = 0; i < count; i++)
        json_object_set_new(row, names[i],
                            sqlite3_column_type(statement, i) == SQLITE_INTEGER
                                ? json_integer(sqlite3_column_int64(statement, i))
                                : json_string((const char *)sqlite3_column_text(statement, i)));
    const char *knobs = (const char *)sqlite3_column_text(statement, count);
    const char *record = (const char *)sqlite3_column_text(statement, count + 1);
    json_object_set_new(row, "knobs", json_loads(knobs == NULL ? "{}" : knobs, 0, NULL));
    const char *model = (const char *)sqlite3_column_text(statement, count + 2);
    json_object_set_new(row, "record", json_loads(record == NULL ? "{}" : record, 0, NULL));
    json_object_set_new(row, "model",
                        json_loads(model == NULL ? "null" : model, JSON_DECODE_ANY, NULL));
    return row;
}

json_t *database_list(database_t *database, int64_t id, failure_t *failure)
{
    sqlite3_stmt *statement = NULL;
    json_t *list = json_array();
    int result = SQLITE_DONE;
    if (!prepare(database,
                 "SELECT id, " KEY_COLUMNS ", tuned_at, knobs, record, model FROM tuned "
                 "WHERE ?1 = 0 OR id = ?1 ORDER BY id",
                 &statement, failure)) {
        json_decref(list);
        return NULL;
    }
    (void)sqlite3_bind_int64(statement, 1, id);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW)
        json_array_append_new(list, row_json(statement));
    if (result != SQLITE_DONE) {
        (void)refuse(database, failure);
        json_decref(list);
        list = NULL;
    }
    (void)sqlite3_finalize(statement);
    return list;
}

static bool take_word(const char *text, char *out, size_t bytes)
{
    return text[0] != '\0' && strpbrk(text, " \n\t=") == NULL &&
           snprintf(out, bytes, "%s", text) < (int)bytes;
}

static bool take_text(const json_t *json, const char *name, char *out, size_t bytes)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text != NULL && take_word(text, out, bytes);
}

static bool take_number(const json_t *json, const char *name, int64_t *out)
{
    const json_t *number = json_object_get(json, name);
    *out = json_integer_value(number);
    return json_is_integer(number) && *out > 0;
}

static bool take_line(const char *name, const json_t *points, settings_entry_t *out)
{
    size_t index;
    const json_t *json;
    if (out->model_count == SETTINGS_KNOB_COUNT_MAX || json_array_size(points) < 1 ||
        json_array_size(points) > SETTINGS_POINT_COUNT_MAX)
        return false;
    settings_model_t *line = &out->models[out->model_count++];
    json_array_foreach(points, index, json)
    {
        settings_point_t *point = &line->points[line->point_count++];
        json_int_t value;
        json_int_t latency_ns;
        json_int_t ns_per_mb;
        if (json_unpack((json_t *)(uintptr_t)json, "[I,I,I]", &value, &latency_ns, &ns_per_mb) != 0)
            return false;
        *point = (settings_point_t){value, latency_ns, ns_per_mb};
    }
    return take_word(name, line->name, sizeof(line->name));
}

/* An entry may have no model. */
static bool take_model(const json_t *json, settings_entry_t *out)
{
    const char *name;
    const json_t *points;
    const json_t *model = json_object_get(json, "model");
    const json_t *error = json_object_get(model, "error");
    json_t *knobs = json_object_get(model, "knobs");
    if (model == NULL || json_is_null(model))
        return true;
    out->model_error = json_integer_value(error);
    json_object_foreach(knobs, name, points)
    {
        if (!take_line(name, points, out))
            return false;
    }
    return json_is_integer(error) && out->model_error >= 0 && out->model_count > 0;
}

bool database_entry_from_json(const json_t *json, settings_entry_t *out)
{
    settings_key_t *key = &out->key;
    const char *name;
    json_t *value;
    *out = (settings_entry_t){.knob_count = 0};
    json_t *knobs = json_object_get(json, "knobs");
    if (!take_text(json, "backend", key->backend, sizeof(key->backend)) ||
        !take_text(json, "machine", key->machine, sizeof(key->machine)) ||
        !take_text(json, "mode", key->mode, sizeof(key->mode)) ||
        !take_text(json, "variant", key->variant, sizeof(key->variant)) ||
        !take_number(json, "ranks", &key->ranks) || !take_number(json, "tokens", &key->tokens) ||
        !take_number(json, "hidden", &key->hidden) ||
        !take_number(json, "experts", &key->experts) || !take_number(json, "topk", &key->topk) ||
        json_object_size(knobs) < 1 || json_object_size(knobs) > SETTINGS_KNOB_COUNT_MAX)
        return false;
    json_object_foreach(knobs, name, value)
    {
        settings_knob_t *knob = &out->knobs[out->knob_count++];
        if (!json_is_integer(value) || !take_word(name, knob->name, sizeof(knob->name)))
            return false;
        knob->value = json_integer_value(value);
    }
    return take_model(json, out);
}

/* Writes tuning.txt anew: under another name first, so that a reader finds the old or the new. */
static bool write_text(database_t *database, failure_t *failure)
{
    char path[PATH_MAX + 32];
    char partial_path[PATH_MAX + 48];
    settings_entry_t entry;
    json_t *list = database_list(database, 0, failure);
    if (list == NULL)
        return false;
    (void)snprintf(path, sizeof(path), "%s/" SETTINGS_FILE, database->folder);
    (void)snprintf(partial_path, sizeof(partial_path), "%s.%d", path, (int)getpid());
    FILE *file = fopen(partial_path, "we");
    bool is_written = file != NULL && fputs(SETTINGS_HEADER "\n", file) != EOF;
    for (size_t i = 0; i < json_array_size(list) && is_written; i++)
        is_written = !database_entry_from_json(json_array_get(list, i), &entry) ||
                     settings_print(&entry, file);
    json_decref(list);
    if (file != NULL)
        is_written = fclose(file) == 0 && is_written;
    if (is_written && rename(partial_path, path) == 0)
        return true;
    failure_set(failure, EXIT_FAILED, "%s: cannot be written: %s", path, strerror(errno));
    (void)unlink(partial_path);
    return false;
}

/* Ends a transaction: the text is renewed while the database is locked, so that the last one to
 * write it is the last one to change the database. */
static bool commit(database_t *database, bool is_changed, failure_t *failure)
{
    if (is_changed && write_text(database, failure) && execute(database, "COMMIT", failure))
        return true;
    (void)sqlite3_exec(handle(database), "ROLLBACK", NULL, NULL, NULL);
    return false;
}

static char *knobs_text(const settings_entry_t *entry)
{
    json_t *knobs = json_object();
    for (int32_t i = 0; i < entry->knob_count; i++)
        json_object_set_new(knobs, entry->knobs[i].name, json_integer(entry->knobs[i].value));
    char *text = json_dumps(knobs, JSON_COMPACT);
    json_decref(knobs);
    return text;
}

/* {"error": 31, "knobs": {"sms": [[16, 52000, 9100], …]}}, the numbers as in the text file; null.
 */
static char *model_text(const settings_entry_t *entry)
{
    json_t *knobs = json_object();
    for (int32_t i = 0; i < entry->model_count; i++) {
        json_t *points = json_array();
        for (int32_t j = 0; j < entry->models[i].point_count; j++) {
            const settings_point_t *point = &entry->models[i].points[j];
            json_array_append_new(points, json_pack("[I,I,I]", (json_int_t)point->value,
                                                    (json_int_t)point->latency_ns,
                                                    (json_int_t)point->ns_per_mb));
        }
        json_object_set_new(knobs, entry->models[i].name, points);
    }
    json_t *model = json_pack("{s:I,s:o}", "error", (json_int_t)entry->model_error, "knobs", knobs);
    char *text = entry->model_count == 0 ? strdup("null") : json_dumps(model, JSON_COMPACT);
    json_decref(model);
    return text;
}

/* What an entry's columns hold. */
typedef struct columns {
    char *knobs;
    char *record;
    char *model;
} columns_t;

static bool insert(database_t *database, const settings_entry_t *entry, const columns_t *columns,
                   failure_t *failure)
{
    sqlite3_stmt *statement = NULL;
    /* A new row, not an updated one: the newest are last. */
    if (!prepare(database,
                 "INSERT OR REPLACE INTO tuned (" KEY_COLUMNS
                 ", tuned_at, knobs, record, model) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, "
                 "strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), ?, ?, ?)",
                 &statement, failure))
        return false;
    bind_key(statement, &entry->key);
    bind_text(statement, KEY_COUNT + 1, columns->knobs);
    bind_text(statement, KEY_COUNT + 2, columns->record);
    bind_text(statement, KEY_COUNT + 3, columns->model);
    return finish(database, statement, failure);
}

bool database_put(database_t *database, const settings_entry_t *entry, const json_t *record,
                  failure_t *failure)
{
    columns_t columns = {knobs_text(entry), json_dumps(record, JSON_COMPACT), model_text(entry)};
    bool has_room = columns.knobs != NULL && columns.record != NULL && columns.model != NULL;
    bool is_ready =
        (has_room || failure_set(failure, EXIT_FAILED, "not enough memory for the settings")) &&
        execute(database, "BEGIN IMMEDIATE", failure);
    bool is_changed = is_ready && insert(database, entry, &columns, failure);
    free(columns.knobs);
    free(columns.record);
    free(columns.model);
    return is_ready && commit(database, is_changed, failure);
}

bool database_find(database_t *database, const settings_key_t *key, settings_entry_t *out,
                   failure_t *failure)
{
    sqlite3_stmt *statement = NULL;
    if (!prepare(database,
                 "SELECT id, " KEY_COLUMNS ", tuned_at, knobs, record, model FROM tuned WHERE "
                 "(" KEY_COLUMNS ") = (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                 &statement, failure))
        return false;
    bind_key(statement, key);
    int result = sqlite3_step(statement);
    bool is_found = false;
    if (result == SQLITE_ROW) {
        json_t *row = row_json(statement);
        is_found = database_entry_from_json(row, out);
        json_decref(row);
    } else if (result != SQLITE_DONE) {
        (void)refuse(database, failure);
    }
    (void)sqlite3_finalize(statement);
    return is_found;
}

bool database_forget(database_t *database, int64_t id, int64_t *count, failure_t *failure)
{
    sqlite3_stmt *statement = NULL;
    if (!execute(database, "BEGIN IMMEDIATE", failure))
        return false;
    bool is_changed =
        prepare(database, "DELETE FROM tuned WHERE ?1 = 0 OR id = ?1", &statement, failure);
    if (is_changed) {
        (void)sqlite3_bind_int64(statement, 1, id);
        is_changed = finish(database, statement, failure);
        *count = sqlite3_changes(handle(database));
    }
    return commit(database, is_changed, failure);
}
