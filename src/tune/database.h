/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tuning database: what was found, for which machine, backend and shape. SQLite, tuning.db in
 * the store's folder; several programs may write at once. Beside it tuning.txt is kept up to date,
 * which groups read (store/settings.h).
 */
#ifndef MOXIE_TUNE_DATABASE_H
#define MOXIE_TUNE_DATABASE_H

#include "bench/failure.h"
#include "store/settings.h"

#include <jansson.h>
#include <limits.h>

typedef struct database {
    void *connection; /* sqlite3 */
    char folder[PATH_MAX];
    char path[PATH_MAX + 16];
} database_t;

/* How long a write waits for another program's. */
enum { DATABASE_PATIENCE_MS = 10000 };

/*
 * Opens the database of a folder and makes both when they are not there; `folder` NULL: where the
 * library looks. Refuses what is no database, or one that a newer version wrote.
 */
bool database_open(database_t *database, const char *folder, failure_t *failure);

/* A zeroed one is allowed. */
void database_close(database_t *database);

/* Stores an entry, in place of one with the same key. `record` has the rest as JSON: how it was
 * measured. */
bool database_put(database_t *database, const settings_entry_t *entry, const json_t *record,
                  failure_t *failure);

/* The entry with exactly this key. False with exit code 0: there is none. */
bool database_find(database_t *database, const settings_key_t *key, settings_entry_t *out,
                   failure_t *failure);

/*
 * All entries, the oldest first, as they are exported; `id` > 0: that one. A new reference:
 * [{"id","backend","machine","mode","variant","ranks","tokens","hidden","experts","topk","tuned_at",
 *   "knobs":{},"record":{},"model":{} or null}]
 */
json_t *database_list(database_t *database, int64_t id, failure_t *failure);

/* Removes an entry, or with `id` 0 all; `count` is how many there were. */
bool database_forget(database_t *database, int64_t id, int64_t *count, failure_t *failure);

/* An exported entry. False: a member is missing, of a wrong type or too long. */
bool database_entry_from_json(const json_t *json, settings_entry_t *out);

#endif
