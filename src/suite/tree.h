/* SPDX-License-Identifier: Apache-2.0 */
/* Folders and files of a suite's results. */
#ifndef MOXIE_SUITE_TREE_H
#define MOXIE_SUITE_TREE_H

#include "bench/failure.h"

#include <stdio.h>
#include <time.h>

/* Room for "2026-11-22_08-30-00". */
enum { STAMP_BYTES = 32 };

/* A time as it stands in names of folders, of this machine's zone. */
void tree_stamp(time_t when, char stamp[STAMP_BYTES]);

/* Makes a folder and those above it; one that is there stays as it is. */
bool tree_make(const char *path, failure_t *failure);

/* Makes a new folder PARENT/NAME_STAMP, with a number behind it when that is taken. */
bool tree_make_new(const char *parent, const char *name, time_t when, char *out, size_t size,
                   failure_t *failure);

/* A file in a folder, for writing; NULL with a failure. */
FILE *tree_open(const char *folder, const char *name, failure_t *failure);

/* Closes it; false with a failure when it is not written as a whole. */
bool tree_close(FILE *file, const char *folder, const char *name, failure_t *failure);

#endif
