/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the program and a plug-in with a baseline: another library that does the same exchange in
 * the same processes. A plug-in exports one table, BASELINE_SYMBOL, and nothing else. All calls are
 * collective over the ranks of the launcher, return 0 or -1, and then say why in `error`.
 */
#ifndef MOXIE_BASELINE_H
#define MOXIE_BASELINE_H

#include "moxie/exchange.h"

#include <stdbool.h>
#include <stdint.h>

/* The table's name, and the version of everything in this file. */
#define BASELINE_SYMBOL  "moxie_baseline_table"
#define BASELINE_VERSION 2

/* Room for one sentence. */
enum { BASELINE_ERROR_BYTES = 256 };

/* Which exchange. */
typedef enum baseline_kind {
    BASELINE_KIND_PLAIN = 1, /* every (token, expert) row travels; expert_major only */
    BASELINE_KIND_DEDUP = 2, /* every row travels once to a rank, both layouts */
} baseline_kind_t;

/* What is exchanged; everything is borrowed until close(). Rows are bf16. */
typedef struct baseline_shape {
    baseline_kind_t kind;
    moxie_layout_t layout;
    int32_t rank;
    int32_t rank_count;
    int32_t expert_count;
    int32_t topk;
    int64_t hidden;
    int64_t token_count;            /* of this rank */
    int64_t travel_row_max;         /* rows that this rank sends or receives at most, as it goes */
    int64_t stream_min_bytes;       /* from here on rows are written past the caches */
    const int32_t *rank_of_expert;  /* [expert_count] */
    const int32_t *local_of_expert; /* [expert_count] */
    /* On a device: where the calls are made in stream order, how ranks meet. */
    moxie_stream_t stream;
    moxie_group_t *group;
} baseline_shape_t;

typedef struct baseline baseline_t;

typedef struct baseline_table {
    uint32_t version; /* BASELINE_VERSION */

    /* Joins the job of the launcher, once a process. `library` gets a name such as "Open MPI
     * v4.1.4".
     */
    int (*start)(int32_t *rank, int32_t *rank_count, char *library, size_t library_bytes,
                 char *error);

    /* Allocates everything that the calls below need. */
    int (*open)(const baseline_shape_t *shape, baseline_t **out, char *error);

    /* Derives counts and places from this rank's routing, [token_count, topk]. */
    int (*route)(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights,
                 char *error);

    /* Fills every buffer of `out` as moxie_dispatch() does. `travel_ns`: the payload's Alltoallv;
     * on a device NULL where nobody may wait for it. */
    int (*dispatch)(baseline_t *baseline, const void *x, const moxie_dispatch_out_t *out,
                    uint64_t *travel_ns, char *error);

    /* y and out as in moxie_combine(), weighted, bf16 on the wire. */
    int (*combine)(baseline_t *baseline, const void *y, void *out, uint64_t *travel_ns,
                   char *error);

    /* Frees; local. NULL is allowed. */
    void (*close)(baseline_t *baseline);

    /* Leaves the job; collective, only after success on every rank. */
    void (*stop)(void);

    /* Whether dispatch leaves row_weight and row_source out: the weights stay at home. */
    bool is_bare;
} baseline_table_t;

#endif
