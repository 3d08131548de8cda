/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a route: counts, offsets and hops of one routing. One flat block that holds offsets
 * and no pointers, so that it can live in any memory and move.
 */
#ifndef MOXIE_CORE_ROUTE_H
#define MOXIE_CORE_ROUTE_H

#include "core/placement.h"
#include "moxie/route.h"

/* What the ranks of a route must agree on, and this rank's place among them. */
typedef struct route_shape {
    int32_t rank;
    int32_t rank_count;
    int32_t expert_count;
    int32_t topk;
    int32_t layout; /* moxie_layout_t */
    int32_t mode;   /* moxie_mode_t */
    int64_t hidden;
    int64_t token_count_max;
    int64_t alignment;
} route_shape_t;

/* One row's way from home: the rank it goes to, its row there, and the slot it serves. In
 * rank_major one hop serves every slot of that rank, and `slot` is the first of them. */
typedef struct route_hop {
    int64_t row;
    int32_t rank;
    int32_t slot;
} route_hop_t;

typedef struct route_state {
    route_shape_t shape;
    uint64_t bytes;               /* the whole block */
    int64_t token_count;          /* of this rank */
    int64_t recv_row_count;       /* of this rank's buffers */
    int64_t logical_row_count;    /* (source rank, token) pairs that this rank receives */
    uint64_t row_count_offset;    /* int64_t [rank_count source][rank_count destination] */
    uint64_t expert_count_offset; /* int64_t [rank_count source][expert_count] */
    uint64_t recv_count_offset;   /* int64_t [rank_count]: rows that each rank's buffers need */
    uint64_t block_start_offset;  /* int64_t [expert_count]: expert_major block on its rank */
    uint64_t scratch_offset;      /* int64_t [expert_count + rank_count] */
    uint64_t hop_start_offset;    /* int64_t [token_count_max + 1] */
    uint64_t hop_offset;          /* route_hop_t [token_count_max · topk] by token, rank, slot */
    uint64_t expert_offset;       /* int32_t [token_count_max · topk] */
    uint64_t weight_offset;       /* float [token_count_max · topk] */
} route_state_t;

static inline void *route_at(const route_state_t *state, uint64_t offset)
{
    return (char *)(uintptr_t)state + offset;
}

static inline int64_t *route_row_count(const route_state_t *state, int32_t source)
{
    int64_t *counts = route_at(state, state->row_count_offset);
    return counts + (size_t)source * (size_t)state->shape.rank_count;
}

static inline int64_t *route_expert_count(const route_state_t *state, int32_t source)
{
    int64_t *counts = route_at(state, state->expert_count_offset);
    return counts + (size_t)source * (size_t)state->shape.expert_count;
}

static inline int64_t *route_recv_count(const route_state_t *state)
{
    return route_at(state, state->recv_count_offset);
}

static inline int64_t *route_block_start(const route_state_t *state)
{
    return route_at(state, state->block_start_offset);
}

static inline int64_t *route_hop_start(const route_state_t *state)
{
    return route_at(state, state->hop_start_offset);
}

static inline route_hop_t *route_hops(const route_state_t *state)
{
    return route_at(state, state->hop_offset);
}

/* [topk] of one token: expert ids, and weights. */
static inline int32_t *route_experts(const route_state_t *state, int64_t token)
{
    int32_t *experts = route_at(state, state->expert_offset);
    return experts + token * state->shape.topk;
}

static inline float *route_weights(const route_state_t *state, int64_t token)
{
    float *weights = route_at(state, state->weight_offset);
    return weights + token * state->shape.topk;
}

/* Refuses a shape that no route can have. */
moxie_status_t route_shape_check(const route_shape_t *shape);

/* Low latency: rows that can come to a rank, a slot each. */
static inline int64_t route_slot_count(const route_shape_t *shape)
{
    return shape->rank_count * shape->token_count_max;
}

/* What two ranks must have alike to mean the same exchange: a shape and a placement's digest. */
typedef struct route_terms {
    route_shape_t shape;
    uint64_t placement_digest;
} route_terms_t;

/* MOXIE_ERR_MISMATCH, with what differs, unless `rank` means the same as rank 0. */
moxie_status_t route_terms_compare(const route_terms_t *first, const route_terms_t *other,
                                   int32_t rank);

/* Fills in the offsets of a block for this shape, `bytes` among them; the block need not exist. */
void route_state_plan(const route_shape_t *shape, route_state_t *out);

/*
 * First half of an update, local: takes over the routing, checks it and counts rows and experts
 * into this rank's line of the count tables.
 */
moxie_status_t route_state_count(route_state_t *state, const moxie_placement_t *placement,
                                 const moxie_routing_t *routing);

/*
 * Second half, when the count tables of all ranks are there: needs, block starts and hops. Pure
 * functions of the routing, never of timing.
 */
void route_state_derive(route_state_t *state, const moxie_placement_t *placement);

/*
 * Low latency: the hops of this rank's rows to the slots of the ranks they go to, a hop a rank
 * whatever the layout. They depend on this rank's routing alone; route_state_derive() replaces
 * them.
 */
void route_state_derive_slots(route_state_t *state, const moxie_placement_t *placement);

#endif
