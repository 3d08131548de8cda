/* SPDX-License-Identifier: Apache-2.0 */
/* Reads whole files that a person named. */
#ifndef MOXIE_BENCH_FILE_H
#define MOXIE_BENCH_FILE_H

#include "bench/failure.h"

#include <stddef.h>

/* Bytes in memory, always followed by a NUL. */
typedef struct file_bytes {
    char *bytes;
    size_t count;
} file_bytes_t;

/*
 * Reads a regular file of at most `count_max` bytes; `where` names the flag or key that gave its
 * path. Anything else, a folder or a pipe, is bad input.
 */
bool file_read(const char *path, const char *where, size_t count_max, file_bytes_t *out,
               failure_t *failure);

/* Releases what file_read() gave. */
void file_release(file_bytes_t *file);

#endif
