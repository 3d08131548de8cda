/* SPDX-License-Identifier: Apache-2.0 */
/* The TOML files of a suite: read once, kept while anything points into them. */
#ifndef MOXIE_SUITE_SOURCE_H
#define MOXIE_SUITE_SOURCE_H

#include "toml/toml.h"

#include <stdbool.h>
#include <sys/types.h>

/* What a file is, by the keys at its top level. */
typedef enum source_kind {
    SOURCE_TEST,     /* test_template_name or cmd_args */
    SOURCE_SCENARIO, /* Tests */
    SOURCE_SYSTEM,   /* scheduler or partitions */
    SOURCE_OTHER     /* none of them */
} source_kind_t;

typedef struct source {
    char *path; /* as it was given */
    source_kind_t kind;
    toml_document_t *document;
    dev_t device; /* with `file`: which file it is, whatever its path */
    ino_t file;
    bool is_named; /* somebody gave it; else it lay in a folder of tests */
} source_t;

/* A table of a file. */
typedef struct layer {
    const source_t *source;
    const toml_node_t *table;
} layer_t;

typedef struct sources {
    source_t **list;
    size_t count;
    size_t capacity;
} sources_t;

struct mistakes;

/* Reads a file, or finds it among those that were read; NULL with a mistake when it is no TOML: a
 * warning when nobody named it. */
source_t *sources_read(sources_t *sources, const char *path, bool is_named,
                       struct mistakes *mistakes);

/* Reads the files *.toml of a folder, by name; with `is_deep` also those of the folders in it.
 * False with a mistake when the folder cannot be read. */
bool sources_read_folder(sources_t *sources, const char *path, bool is_deep, bool is_named,
                         struct mistakes *mistakes);

/* The table at the top level of a file. */
layer_t source_layer(const source_t *source);

void sources_release(sources_t *sources);

#endif
