/* SPDX-License-Identifier: Apache-2.0 */
/* The reference's only data structure: a walk over all tokens of all ranks in (source rank, token)
 * order that counts, as it goes, the row every slot gets on the rank of its expert. It is the
 * definition of both layouts written down as running counters; nothing is derived ahead of time
 * except the block starts of expert_major. Internal to core/reference*.c. */
#ifndef CORE_REFERENCE_WALK_H
#define CORE_REFERENCE_WALK_H

#include "moxie/reference.h"

#include <stdbool.h>

typedef struct reference_walk {
    moxie_world_t own_world;
    const moxie_world_t *world; /* own_world, of the walk that was begun */
    int64_t *next_row;          /* rank_major: [rank_count]; expert_major: [expert_count] */
    int64_t *expert_rows; /* [expert_count] rows that each expert gets in all, without padding */
    int32_t source;       /* rank that the current token is from */
    int64_t token;        /* its index there; -1 before the first one of `source` */

    /* The current token's slots; expert, rank, local and row are -1 in an unused slot. */
    int32_t expert[MOXIE_TOPK_MAX];
    int32_t rank[MOXIE_TOPK_MAX];
    int32_t local[MOXIE_TOPK_MAX];
    int64_t row[MOXIE_TOPK_MAX];
    float weight[MOXIE_TOPK_MAX];
} reference_walk_t;

/* Checks the world, its routings and `rank`, and stands before the first token. */
moxie_status_t reference_walk_begin(reference_walk_t *walk, const moxie_world_t *world,
                                    int32_t rank);

/* Goes to the next token; false when there is none. */
bool reference_walk_next(reference_walk_t *walk);

void reference_walk_end(reference_walk_t *walk);

/* Rows of one expert's block with its padding. */
int64_t reference_block_rows(const reference_walk_t *walk, int32_t expert);

/* Low latency: slots of a rank for rows of all ranks. */
int64_t reference_slot_count(const reference_walk_t *walk);

/* Rows that the buffers of `rank` need: N, M or all slots. Only before the first
 * reference_walk_next(). */
int64_t reference_recv_rows(const reference_walk_t *walk, int32_t rank);

/* MOXIE_OK when the reader has rows of `dtype`, which must be bf16 or fp32. */
moxie_status_t reference_check_reader(const moxie_row_reader_t *reader, moxie_dtype_t dtype,
                                      const char *name);

/* MOXIE_OK when `dtype` is bf16 or fp32. */
moxie_status_t reference_check_dtype(moxie_dtype_t dtype, const char *name);

/* Reads `count` elements as fp32. */
void reference_load(moxie_dtype_t dtype, const void *elements, int64_t count, float *out);

/* Rounds `count` values to `dtype`, every NaN becoming the canonical one. */
void reference_store(moxie_dtype_t dtype, const float *values, int64_t count, void *out);

#endif
