/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean …?" */
#ifndef MOXIE_BENCH_SUGGEST_H
#define MOXIE_BENCH_SUGGEST_H

#include <stddef.h>

/* Single-character edits that turn one word into the other; words beyond 63 bytes are cut. */
size_t suggest_distance(const char *one, const char *other);

/* Keeps the nearest of the candidates that are offered, one after the other. */
typedef struct suggestion {
    const char *word;    /* as the person wrote it */
    const char *nearest; /* NULL: nothing is near enough */
    size_t distance;     /* of `nearest` */
} suggestion_t;

/* Offers a candidate. Near enough: one character wrong, and one more for every three. */
void suggestion_offer(suggestion_t *suggestion, const char *candidate);

#endif
