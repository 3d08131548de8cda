/* SPDX-License-Identifier: Apache-2.0 */
/* The files of `moxie tune`: <dir>/results, summary, logs and OPTIMAL_CONFIGS.md. */
#ifndef MOXIE_CLI_TUNE_FILES_H
#define MOXIE_CLI_TUNE_FILES_H

#include "bench/failure.h"

#include <jansson.h>
#include <limits.h>

enum { TUNE_STAMP_BYTES = 40 };

typedef struct tune_files {
    char folder[PATH_MAX - 256];
    char stem[64];                /* "ep4_auto" */
    char stamp[TUNE_STAMP_BYTES]; /* "2026-11-22_08-30-00", of the run that began the log */
    char log_path[PATH_MAX];
} tune_files_t;

/* Makes the folders, and finds the log to write: a new one, or the newest unfinished one of the
 * same setup. */
bool tune_files_open(tune_files_t *files, const char *folder, const char *stem, const json_t *setup,
                     bool is_resumed, failure_t *failure);

/* Writes the document and what is made from it; of a stopped run only the document. */
bool tune_files_write(const tune_files_t *files, const json_t *results, failure_t *failure);

#endif
