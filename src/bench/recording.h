/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded routings: the format of docs/routing-format.md. */
#ifndef MOXIE_BENCH_RECORDING_H
#define MOXIE_BENCH_RECORDING_H

#include "bench/file.h"
#include "bench/routing.h"

/* Reads a recording from a file; `where` names the flag or key that gave the path. */
bool recording_read(const char *path, const char *where, routing_set_t *set, failure_t *failure);

/*
 * Reads a recording from memory; `name` is for messages. Every length is compared with the bytes
 * that are there before anything is allocated.
 */
bool recording_parse(const file_bytes_t *file, const char *name, routing_set_t *set,
                     failure_t *failure);

/* The recording of a set; release it with file_release(). False: no memory. */
bool recording_format(const routing_set_t *set, file_bytes_t *out);

#endif
