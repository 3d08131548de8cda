/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine gives: the same ranks copying the same rows to the same peers, with no routing,
 * metadata or sums. */
#ifndef MOXIE_BENCH_CEILING_H
#define MOXIE_BENCH_CEILING_H

#include "bench/session.h"

enum { CEILING_METHOD_COUNT = 2 }; /* memcpy, non-temporal stores; a device: one of its own */

/* Times of each method, by iteration the largest over the ranks. */
typedef struct ceiling {
    int64_t count;
    int32_t method_count;
    double *time_ns[CEILING_METHOD_COUNT]; /* [count] */
} ceiling_t;

/* Makes room for `count` iterations of each method that the session's device has. False: no memory.
 */
bool ceiling_init(ceiling_t *ceiling, const session_t *session, int64_t count);

/* Measures iterations [first, last) of all methods in turn; collective. */
bool ceiling_measure(const session_t *session, ceiling_t *ceiling, int64_t first, int64_t last,
                     failure_t *failure);

/* The median time of the better method; `*method` says which. Sorts the times. */
double ceiling_best_ns(ceiling_t *ceiling, int32_t *method);

/* Releases the times. */
void ceiling_release(ceiling_t *ceiling);

#endif
