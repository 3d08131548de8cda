/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a low-latency route keeps beside its state: a window with a line for its own channel and a
 * slot for every row that can come to a rank. Rank s has the slots s * T to s * T + T - 1 on every
 * rank, T tokens a rank at most, and writes its rows into them without asking.
 */
#ifndef MOXIE_EXCHANGE_SHM_SLOTS_H
#define MOXIE_EXCHANGE_SHM_SLOTS_H

#include "exchange/low_latency_check.h"
#include "exchange/shm/offer.h"

/* A rank's part of the window; all parts are alike. */
typedef struct slots_layout {
    uint64_t rows_offset;    /* [slots][hidden], bf16 or fp8 */
    uint64_t scales_offset;  /* [slots][words] or [words][slots], 32 bits each */
    uint64_t idx_offset;     /* int32_t [slots][topk] local experts, or -1 */
    uint64_t weights_offset; /* float [slots][topk] */
    uint64_t tokens_offset;  /* int32_t [slots] the source's token; written in expert_major */
    uint64_t bytes;
} slots_layout_t;

typedef struct shm_slots {
    slots_layout_t layout;
    shm_channel_t channel;
    moxie_window_t *window;
    char **parts; /* [rank_count] of the window, as this rank has them mapped */
    low_latency_half_t half;
    uint32_t written_op;  /* the last operation in which this rank wrote into slots; 0: none */
    int has_dispatched;   /* the routing at hand, with success */
    dispatch_rows_t kind; /* of the dispatch under way */
    shm_exchange_op_t op; /* the combine under way, and its input */
    moxie_combine_in_t combine_in;
    moxie_error_t routing_error; /* what the next dispatch has to tell; MOXIE_OK: nothing */
} shm_slots_t;

static inline shm_slots_t *slots_of(const moxie_route_t *route)
{
    return route->implementation;
}

/* The channel of an exchange on the route. */
static inline shm_channel_t *slots_channel(const moxie_route_t *route)
{
    shm_slots_t *slots = slots_of(route);
    return slots != NULL ? &slots->channel : &shm_of(route->group)->transport->group_channel;
}

void slots_quote(const route_shape_t *shape, memory_account_t *out);

/* Collective for a route of low latency; nothing to do for others. */
moxie_status_t slots_open(moxie_route_t *route);
void slots_close(moxie_route_t *route);

/* Where this rank's own slots lie. */
void slots_find(const moxie_route_t *route, moxie_dispatch_out_t *out);

#endif
