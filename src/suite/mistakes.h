/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that is wrong with the files of a suite, so that it can be told at once. */
#ifndef MOXIE_SUITE_MISTAKES_H
#define MOXIE_SUITE_MISTAKES_H

#include "suite/source.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

typedef enum severity {
    SEVERITY_WARNING, /* it can run, perhaps not as somebody wanted */
    SEVERITY_ERROR
} severity_t;

typedef struct mistake {
    severity_t severity;
    int32_t line; /* 0: the file as a whole */
    int32_t column;
    char *path;
    char *key; /* "cmd_args.tokens"; "" when none is to blame */
    char *text;
} mistake_t;

/* Mistakes that are described at most; the others are counted. */
enum { MISTAKE_COUNT_MAX = 1000 };

typedef struct mistakes {
    mistake_t *list;
    size_t count;
    size_t capacity;
    size_t error_count; /* also counts what is not described */
    size_t warning_count;
    size_t found_count; /* errors, also those that were there already */
} mistakes_t;

/*
 * Adds one, unless the same is there already.
 *
 * @param node    whose place is named; NULL: the file as a whole
 * @param prefix  of the key, "cmd_args"; NULL: there is none, and no key when `node` has none
 */
void mistakes_add(mistakes_t *mistakes, severity_t severity, const source_t *source,
                  const toml_node_t *node, const char *prefix, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* The same for a file that is no source yet. */
void mistakes_add_file(mistakes_t *mistakes, severity_t severity, const char *path, int32_t line,
                       int32_t column, const char *text);

/* Whether one more would only be counted. */
bool mistakes_are_full(const mistakes_t *mistakes);

/* One line each, "PATH:LINE:COLUMN: error: KEY: TEXT", by file and place. Sorts them. */
void mistakes_print(mistakes_t *mistakes, FILE *out);

/* The same as a JSON array; a new reference. */
json_t *mistakes_json(mistakes_t *mistakes);

void mistakes_release(mistakes_t *mistakes);

#endif
