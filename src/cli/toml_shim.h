/* SPDX-License-Identifier: Apache-2.0 */
/* toml++ behind a C interface: the entries at the top level of a document, one after the other. */
#ifndef MOXIE_CLI_TOML_SHIM_H
#define MOXIE_CLI_TOML_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum toml_kind {
    TOML_KIND_STRING,
    TOML_KIND_INTEGER,
    TOML_KIND_BOOLEAN,
    TOML_KIND_OTHER /* float, date, array, table */
} toml_kind_t;

/* An entry; its pointers live during the call that gets it. */
typedef struct toml_entry {
    const char *key;
    const char *kind_name; /* "array" */
    const char *string;    /* TOML_KIND_STRING; holds no NUL */
    int64_t integer;       /* TOML_KIND_INTEGER; TOML_KIND_BOOLEAN: 0 or 1 */
    int32_t line;
    toml_kind_t kind;
} toml_entry_t;

/* Takes an entry; 0 stops. */
typedef int (*toml_entry_fn)(void *ctx, const toml_entry_t *entry);

/*
 * Parses a document and hands over its entries in the order of their lines.
 *
 * Returns 1; 0 when `take` stopped or the text is no TOML, then `message` is not empty and
 * `*line` says where.
 */
int toml_read(const char *text, size_t byte_count, toml_entry_fn take, void *ctx, int32_t *line,
              char *message, size_t message_bytes);

#ifdef __cplusplus
}
#endif

#endif
