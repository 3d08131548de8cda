/* SPDX-License-Identifier: Apache-2.0 */
/* The MoE layers of well-known models. */
#ifndef MOXIE_BENCH_SHAPE_H
#define MOXIE_BENCH_SHAPE_H

#include <stdint.h>

typedef struct shape {
    const char *name;
    int64_t hidden;
    int64_t experts;
    int64_t topk;
} shape_t;

/* Tokens of a rank, in standard mode and in low latency. */
#define SHAPE_TOKENS             4096
#define SHAPE_TOKENS_LOW_LATENCY 128

/* The shape with a name, or NULL; then `*nearest` is a similar name or NULL. */
const shape_t *shape_find(const char *name, const char **nearest);

/* The shapes in order; NULL behind the last. */
const shape_t *shape_at(int32_t index);

#endif
