/* SPDX-License-Identifier: Apache-2.0 */
/* Pushing rows into receivers' buffers, and the padding that receivers clear themselves. */
#ifndef MOXIE_EXCHANGE_SHM_PUSH_H
#define MOXIE_EXCHANGE_SHM_PUSH_H

#include "exchange/shm/shm.h"

/* Rows on their way to the ranks' buffers. */
typedef struct push {
    shm_exchange_t *shm;
    moxie_group_counters_t *counters;
    char **bases; /* [rank_count] */
    size_t row_bytes;
    int64_t row_count; /* that this rank writes */
    int is_streamed;   /* past the caches */
} push_t;

/* Decides whether rows go past the caches: when the volume is more than they hold anyway. */
push_t push_open(const moxie_route_t *route, char **bases, size_t row_bytes);

/* Makes everything that was pushed visible before the peers are told, and counts it. */
void push_close(const push_t *push);

/* Copies one row to its place. */
void push_row(const push_t *push, const route_hop_t *hop, const void *row);

/* Copies bytes to a place within the row. */
void push_part(const push_t *push, const route_hop_t *hop, size_t offset, const void *part,
               size_t bytes);

/* Puts weight · row in its place. */
void push_scaled_row(const push_t *push, const route_hop_t *hop, const void *row, float weight,
                     moxie_dtype_t dtype);

/* Walks the padding at the end of each block of this rank; rank_major has none. */
typedef struct padding {
    const moxie_route_t *route;
    int32_t local; /* expert whose block it ends */
    int64_t start; /* first row of padding */
    int64_t end;
} padding_t;

padding_t padding_first(const moxie_route_t *route);
void padding_next(padding_t *padding);

static inline int padding_is_there(const padding_t *padding)
{
    return padding->start < padding->end;
}

#endif
