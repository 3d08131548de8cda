/* SPDX-License-Identifier: Apache-2.0 */
/* Sending tokens' rows along their hops, with what goes beside them: weights, labels, scales. */
#ifndef MOXIE_EXCHANGE_SHM_DISPATCH_PUSH_H
#define MOXIE_EXCHANGE_SHM_DISPATCH_PUSH_H

#include "core/dispatch_rows.h"
#include "core/segment.h"
#include "exchange/shm/push.h"

/* The receivers' buffers, by rank, and what goes into them. */
typedef struct dispatch_push {
    const moxie_route_t *route;
    push_t rows;
    dispatch_rows_t kind;
    int by_rank;    /* a row serves all slots of its rank */
    char **weights; /* rank_major: float [N, K]; expert_major: float [M]; entries may be NULL */
    char **labels;  /* rank_major: int32_t [N, K]; expert_major: moxie_row_source_t [M] */
    char **tokens;  /* int32_t [slots]: low latency in expert_major; else NULL */
    char **scales;  /* of fp8 rows */
    const int64_t *scale_strides; /* [rank_count] rows of a column of scales */
} dispatch_push_t;

/* Sends a segment: each row is read once and written to each of its places. */
void dispatch_push_segment(const dispatch_push_t *push, const source_segment_t *segment);

#endif
