/* SPDX-License-Identifier: Apache-2.0 */
/* What a run leaves on disk: all of it, or nothing. Files are prepared before the run, so that what
 * cannot be written is refused early, and get their names only when they are complete. */
#ifndef MOXIE_BENCH_OUTPUT_H
#define MOXIE_BENCH_OUTPUT_H

#include "bench/failure.h"

#include <limits.h>
#include <stdio.h>

/* A file that takes its name at the end. */
typedef struct output_file {
    char path[PATH_MAX];
    char partial_path[PATH_MAX]; /* "": none is being written */
    FILE *stream;
} output_file_t;

/* Prepares a file; an existing regular one is replaced at the end. */
bool output_file_open(output_file_t *file, const char *path, const char *where, failure_t *failure);

/* Gives the file its name. */
bool output_file_commit(output_file_t *file, failure_t *failure);

/* Removes a file that was not committed. */
void output_file_discard(output_file_t *file);

/* A folder that takes its name at the end. */
typedef struct output_folder {
    char path[PATH_MAX];         /* its final name, once committed */
    char partial_path[PATH_MAX]; /* "": none is being filled */
    char parent[PATH_MAX];
    size_t made_length; /* the first so many bytes of `parent` name a folder made for it; 0: none */
} output_folder_t;

/* Prepares a folder in `parent`, which is made when it is not there. */
bool output_folder_open(output_folder_t *folder, const char *parent, const char *where,
                        failure_t *failure);

/* A file in the folder, for writing; NULL with a failure. */
FILE *output_folder_file(const output_folder_t *folder, const char *name, failure_t *failure);

/* Names the folder: `prefix`, the date and the time, a number when that is taken, `suffix`. */
bool output_folder_commit(output_folder_t *folder, const char *prefix, const char *suffix,
                          failure_t *failure);

/* Removes a folder that was not committed, with what is in it. */
void output_folder_discard(output_folder_t *folder);

#endif
