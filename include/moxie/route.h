/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Routes: what a group derives from one routing, and uses for every exchange along it.
 */
#ifndef MOXIE_ROUTE_H
#define MOXIE_ROUTE_H

#include "moxie/dtype.h"
#include "moxie/group.h"
#include "moxie/placement.h"

MOXIE_BEGIN_DECLS

/** Counts, offsets and the permutation of one routing. Any number may exist in a group. */
typedef struct moxie_route moxie_route_t;

/** Slots a token may have at most. */
#define MOXIE_TOPK_MAX 64

/** Elements a row may have at most. */
#define MOXIE_HIDDEN_MAX 1048576

/** Layout of the receiving side. See docs/terms.md. */
typedef enum moxie_layout {
    MOXIE_LAYOUT_RANK_MAJOR = 1,   /**< one row a (source rank, token), in that order */
    MOXIE_LAYOUT_EXPERT_MAJOR = 2, /**< one padded block a local expert */
} moxie_layout_t;

/** How an exchange runs. */
typedef enum moxie_mode {
    /** any number of tokens: counts travel ahead of the rows, which lie one behind the other */
    MOXIE_MODE_STANDARD = 0,
    /** few tokens, for decoding: nothing travels ahead of the rows, each of which has a fixed slot
     *  in memory of the route; moxie/exchange.h says what differs. Forward only */
    MOXIE_MODE_LOW_LATENCY = 1,
} moxie_mode_t;

/** The shape of an exchange. All but the capacity must be the same on every rank. */
typedef struct moxie_route_options {
    size_t size;             /**< sizeof(moxie_route_options_t) */
    moxie_layout_t layout;   /**< rank_major or expert_major */
    int32_t expert_count;    /**< experts in all, 1 … MOXIE_EXPERT_COUNT_MAX */
    int32_t topk;            /**< slots of a token, 1 … MOXIE_TOPK_MAX */
    int64_t hidden;          /**< elements of a row, 1 … MOXIE_HIDDEN_MAX */
    int64_t token_count_max; /**< tokens a rank may have at most, >= 0 */
    int64_t alignment;       /**< expert_major: block starts are multiples of it, in rows */
    int64_t row_capacity;    /**< rows of this rank's buffers; 0: the worst case */
    const moxie_placement_t *placement; /**< copied; NULL: blocks, as even as possible */
    void *state;        /**< memory for the route's state, 64-byte aligned, or NULL; not on cuda */
    size_t state_bytes; /**< its size, at least moxie_route_quote_t::state_bytes */
    moxie_mode_t mode;  /**< low latency: `alignment` is 1 and `row_capacity` 0 */
    int32_t reserved;   /**< 0 */
} moxie_route_options_t;

/** Initialiser of ::moxie_route_options_t: standard mode, rank_major, alignment 1. */
#define MOXIE_ROUTE_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(moxie_route_options_t), .layout = MOXIE_LAYOUT_RANK_MAJOR, .alignment = 1   \
    }

/** One rank's routing. */
typedef struct moxie_routing {
    size_t size;                   /**< sizeof(moxie_routing_t) */
    int64_t token_count;           /**< tokens of this rank, 0 … token_count_max */
    const void *topk_idx;          /**< [token_count, topk] expert ids, -1: unused slot */
    moxie_index_type_t index_type; /**< integer type of `topk_idx` */
    const float *topk_weights;     /**< [token_count, topk]; NULL: every weight is 1 */
} moxie_routing_t;

/** Initialiser of a ::moxie_routing_t with int32 ids. */
#define MOXIE_ROUTING_INIT                                                                         \
    {                                                                                              \
        .size = sizeof(moxie_routing_t), .index_type = MOXIE_INDEX_INT32                           \
    }

/**
 * Makes a route without a routing yet. Collective: every rank creates its routes in the same order,
 * and on a device, and in low latency, the ranks wait for each other here.
 *
 * @param options  copied
 * @param[out] out the route, for moxie_route_destroy()
 * @return MOXIE_OK; MOXIE_ERR_ARGUMENT; MOXIE_ERR_MEMORY; MOXIE_ERR_UNSUPPORTED (the backend has no
 *         such mode); in low latency MOXIE_ERR_MISMATCH, too. On a device it may be called while
 *         the thread captures a graph: the route is made at once, and the capture stays valid.
 */
MOXIE_API moxie_status_t moxie_route_create(moxie_group_t *group,
                                            const moxie_route_options_t *options,
                                            moxie_route_t **out);

/**
 * Gives the route a routing: checks it, exchanges counts and derives every row's place. Collective.
 *
 * Every rank gets the same status. On failure the route keeps no routing.
 *
 * In low latency it is local and waits for nobody. What is wrong with the routing every rank is
 * told by the dispatch.
 *
 * @param routing  read during the call only, on the CPU; on a device it must stay unchanged until
 *                 the stream has passed the update, in low latency the calls that follow it
 * @param stream   NULL on the CPU
 * @return MOXIE_OK; MOXIE_ERR_ROUTING (an id outside [-1, expert_count) or twice in one token: the
 *         error names rank, token and slot); MOXIE_ERR_MISMATCH (shapes differ between ranks);
 *         MOXIE_ERR_CAPACITY (the error names the rank and its exact need); MOXIE_ERR_TIMEOUT;
 *         MOXIE_ERR_PEER_LOST
 */
MOXIE_API moxie_status_t moxie_route_update(moxie_route_t *route, const moxie_routing_t *routing,
                                            moxie_stream_t stream);

/**
 * The status of the last update, the same on all ranks; it waits for the update to complete.
 *
 * On a device, what a call did not know when it returned arrives here: MOXIE_ERR_ROUTING and
 * MOXIE_ERR_CAPACITY of an update with a `row_capacity` or in a graph, what a peer refused in one
 * of the four exchanges, a deadline that passed. It waits for the calls made on the route outside
 * of graphs; after a graph's launch synchronise first. The first failure since the last update is
 * kept.
 */
MOXIE_API moxie_status_t moxie_route_status(const moxie_route_t *route);

/** How many rows a routing moves. */
typedef struct {
    size_t size;                /**< sizeof(moxie_route_extent_t), set by the caller */
    int64_t token_count;        /**< tokens of this rank */
    int64_t recv_row_count;     /**< rows this rank's buffers need: N, or M with padding; in low
                                     latency all slots */
    int64_t logical_row_count;  /**< (source rank, token) pairs this rank receives, own included */
    int64_t wire_row_count;     /**< the same without its own tokens */
    int64_t local_expert_count; /**< experts of this rank */
} moxie_route_extent_t;

/** Initialiser of a ::moxie_route_extent_t. */
#define MOXIE_ROUTE_EXTENT_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_route_extent_t)                                                       \
    }

/**
 * The extent of the route's routing. Local. In low latency the rows of peers are those of the last
 * dispatch; before it only this rank's own are known.
 *
 * @return MOXIE_OK; MOXIE_ERR_ARGUMENT when the route has no routing
 */
MOXIE_API moxie_status_t moxie_route_extent(const moxie_route_t *route, moxie_route_extent_t *out);

/**
 * Checks the route's own invariants: offsets are the prefix sums of counts, every routed (token,
 * slot) lands exactly once in its source's range, sent equals received. Local.
 *
 * @return MOXIE_OK; MOXIE_ERR_INTERNAL (the error says what is broken); MOXIE_ERR_ARGUMENT when the
 *         route has no routing
 */
MOXIE_API moxie_status_t moxie_layout_check(const moxie_route_t *route);

/**
 * Releases a route. Local. NULL is allowed. On a device it waits for the calls that this rank made
 * on the route outside of graphs, each of which ends at its deadline at the latest.
 */
MOXIE_API void moxie_route_destroy(moxie_route_t *route);

MOXIE_END_DECLS

#endif
