/* SPDX-License-Identifier: Apache-2.0 */
/* toml++ behind a C interface: a document as a tree of nodes that know where they stand. */
#ifndef MOXIE_TOML_TOML_H
#define MOXIE_TOML_TOML_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum toml_kind {
    TOML_KIND_TABLE,
    TOML_KIND_ARRAY,
    TOML_KIND_STRING,
    TOML_KIND_INTEGER,
    TOML_KIND_FRACTION,
    TOML_KIND_BOOLEAN,
    TOML_KIND_OTHER /* a date or time, a string with a NUL in it */
} toml_kind_t;

/* A value, with its key if it is in a table. */
typedef struct toml_node {
    const char *key;       /* NULL: in an array, or the document itself */
    const char *kind_name; /* "an array" */
    const char *string;    /* TOML_KIND_STRING; holds no NUL */
    int64_t integer;       /* TOML_KIND_INTEGER; TOML_KIND_BOOLEAN: 0 or 1 */
    double fraction;       /* TOML_KIND_FRACTION */
    int32_t line;          /* of the key, or of the value when there is none; from 1 on */
    int32_t column;
    toml_kind_t kind;
    int32_t child_count;              /* TOML_KIND_TABLE, TOML_KIND_ARRAY */
    const struct toml_node *children; /* [child_count] in the order of the file */
} toml_node_t;

/* Why a text is no document. */
typedef struct toml_error {
    char message[256];
    int32_t line; /* 0: no place is to blame */
    int32_t column;
} toml_error_t;

typedef struct toml_document toml_document_t;

/* Parses a document; NULL with an error when the text is no TOML. */
toml_document_t *toml_parse(const char *text, size_t byte_count, toml_error_t *error);

/* The table of the top level; lives as long as the document, with all that hangs from it. */
const toml_node_t *toml_root(const toml_document_t *document);

/* The child of a table with a key; NULL: there is none, or `table` is NULL or no table. */
const toml_node_t *toml_find(const toml_node_t *table, const char *key);

/* Releases a document; NULL is allowed. */
void toml_release(toml_document_t *document);

#ifdef __cplusplus
}
#endif

#endif
