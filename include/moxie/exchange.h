/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Dispatch and combine, forward and backward, along a route.
 *
 * T: tokens of this rank. H: hidden. K: topk. N: received rows in rank_major. M: received rows in
 * expert_major, padding included. All calls are collective. On shm they return when this rank's
 * outputs are ready and its inputs may be changed; on a device that holds in stream order.
 *
 * On a device (backend cuda) a call launches its work on `stream` and returns:
 * - Every pointer to data is one that the rank's GPU can follow: device memory or pinned memory of
 *   the host; "any memory" means any of that. `recv_x`, `recv_scales`, `y`, `d_recv_x` and `d_y`
 *   must be in a window; the other buffers need not, unlike on shm. The structs are read during the
 *   call only.
 * - The calls on one route follow each other in stream order on every rank: on one stream, or on
 *   streams that wait for each other by events. Calls on different routes may be in flight at once
 *   as long as the multiprocessors that they may use are together fewer than the GPU's, divided by
 *   the ranks on it: the knobs `sms` (and in expert_major `duplicate_sms`) of a dispatch or
 *   combine_backward, `combine_sms` of a combine or dispatch_backward, `update_sms` of an update.
 * - A call that finds an argument of its own wrong returns the error. What it cannot know yet (an
 *   argument that a peer refuses, a peer that is missing) moxie_route_status() tells afterwards,
 *   the same error on every rank.
 * - A stream that is being captured into a graph takes calls, too. A launch of the graph uses the
 *   buffers, token_count and capacities of the capture, and what the buffers hold at that time.
 * - A call needs its peers' calls to end. Where ranks are threads that share a GPU, a thread must
 *   not wait for the whole context before all have made theirs: cuCtxSynchronize, cuMemFree and
 *   cudaFree, the blocking copies, and freeing windows, routes or groups do that. Synchronise the
 *   rank's own stream, have every rank come to a barrier, and free then.
 *
 * Low latency (::MOXIE_MODE_LOW_LATENCY), with R ranks, T = token_count_max and L local experts:
 * - rank_major: rows lie in the route's own slots, [R, T, H]; moxie_route_slots() says where. Those
 *   of rank s are the first source_count[s] of its T, in token order. The peers write them without
 *   asking: they may be read until this rank's next call on the route.
 * - expert_major: recv_x is [L, R * T, H], any memory. The rows of local expert l are the first
 *   expert_count[l] of its block, by (source rank, token).
 * - What lies behind those rows is not written, and there is no padding.
 * - Column-major scales are [moxie_scale_words()][R * T], in expert_major for each block.
 * - moxie_combine() takes y in these places. It must not lie in the slots.
 * - Calls come in two halves, too: moxie_dispatch_send() and moxie_dispatch_receive(),
 *   moxie_combine_send() and moxie_combine_receive(). Between them other work, and calls on other
 *   routes, may be done; a route's calls follow each other.
 * - Ranks that call different routes miss each other until the deadline.
 * - Errors travel with the rows, so other rows may have moved already; the outputs of a call that
 *   failed are not to be used.
 *
 * Arithmetic, to the bit on every backend: sums run in fp32 from +0 with fmaf(w, y, acc), ascending
 * slot k within a rank and ascending rank at home; a rank's partial is rounded once to the wire
 * type, the sum once to the output type, to nearest even; subnormals are kept; a NaN becomes 0x7FFF
 * in bf16 and 0x7FFFFFFF in fp32. The caller's rounding and flush-to-zero modes do not matter.
 *
 * A route or struct that is NULL, or a struct whose `size` was not set, is refused on the spot and
 * without a word to the peers, who then wait until their deadline. Every other error is the same on
 * all ranks.
 */
#ifndef MOXIE_EXCHANGE_H
#define MOXIE_EXCHANGE_H

#include "moxie/route.h"
#include "moxie/window.h"

MOXIE_BEGIN_DECLS

/** Where a row of the expert_major layout came from. All -1 in a padding row. */
typedef struct moxie_row_source {
    int32_t rank;  /**< source rank s */
    int32_t token; /**< token t of that rank */
    int32_t slot;  /**< top-k slot k of that token */
} moxie_row_source_t;

/** What a rank sends in dispatch. */
typedef struct moxie_dispatch_in {
    size_t size;   /**< sizeof(moxie_dispatch_in_t) */
    const void *x; /**< [T, H] rows, any memory */
    moxie_dtype_t
        dtype; /**< of `x`: bf16, fp32 or fp8; the same on all ranks, as the types below */
    /** where `x` is fp8: [T, moxie_scale_words()] their scales, any memory; copied bit by bit */
    const void *x_scales;
    /** of the rows on the way and in `recv_x`. 0, or that of `x`: they are copied bit by bit. fp8
     *  where `x` is bf16: they are quantised on the way, as ::moxie_scale_type_t says */
    moxie_dtype_t wire_dtype;
    moxie_scale_type_t scale_type;     /**< fp8 rows: how they are scaled */
    moxie_scale_layout_t scale_layout; /**< fp8 rows: of `recv_scales` */
    int32_t reserved;                  /**< 0 */
} moxie_dispatch_in_t;

/** Initialiser of a ::moxie_dispatch_in_t with bf16 rows; fp8 ones have fp32 scales, row-major. */
#define MOXIE_DISPATCH_IN_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_in_t), .dtype = MOXIE_DTYPE_BF16,                            \
        .scale_type = MOXIE_SCALE_FP32, .scale_layout = MOXIE_SCALES_ROW_MAJOR                     \
    }

/** Where a rank receives in dispatch. Optional buffers may be NULL; each rank chooses for itself.
 */
typedef struct moxie_dispatch_out {
    size_t size;              /**< sizeof(moxie_dispatch_out_t) */
    int64_t row_capacity;     /**< rows that each buffer below holds, >= recv_row_count */
    void *recv_x;             /**< [row_capacity, H], in a window; padding rows become zero */
    int32_t *recv_topk_idx;   /**< rank_major: [row_capacity, K] local expert or -1; on shm in a
                                   window */
    float *recv_topk_weights; /**< rank_major: [row_capacity, K], +0 where idx is -1; on shm in a
                                   window */
    float *row_weight;        /**< expert_major: [row_capacity], padding +0; on shm in a window */
    moxie_row_source_t *row_source; /**< expert_major: [row_capacity]; on shm in a window */
    int64_t *expert_count;          /**< [local experts] rows of each local expert, any memory */
    int64_t *expert_start; /**< expert_major: [local experts + 1] block starts, any memory */
    /** fp8 rows, and then not optional: their scales, in a window, 4-byte aligned. Row-major:
     *  [row_capacity][moxie_scale_words()]; column-major: [moxie_scale_words()][row_capacity], of
     *  which the first recv_row_count are written. Padding rows have scales of all bits zero */
    void *recv_scales;
    int64_t *source_count; /**< low latency, rank_major: [ranks] rows from each rank, any memory */
} moxie_dispatch_out_t;

/** Initialiser of a ::moxie_dispatch_out_t. */
#define MOXIE_DISPATCH_OUT_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_out_t)                                                       \
    }

/**
 * Sends each token to every rank that holds at least one of its experts.
 *
 * @return MOXIE_OK; the same error on every rank: MOXIE_ERR_ARGUMENT, MOXIE_ERR_CAPACITY,
 *         MOXIE_ERR_WINDOW, MOXIE_ERR_MISMATCH, MOXIE_ERR_TIMEOUT, MOXIE_ERR_PEER_LOST; on a device
 *         by this call or by moxie_route_status()
 */
MOXIE_API moxie_status_t moxie_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                        const moxie_dispatch_out_t *out, moxie_stream_t stream);

/**
 * moxie_route_update() and moxie_dispatch() in one call: gives the route a routing and sends each
 * token along it. Afterwards the route is as after the two; what is wrong with the routing is told
 * first.
 *
 * On a device it never waits for the CPU's sake, with a `row_capacity` or without one: what the
 * ranks find out about routing and capacities moxie_route_status() tells. In standard mode and
 * rank_major it is one kernel on the multiprocessors of the knob `sms`: the counts travel while the
 * first rows are loaded. In expert_major, where no row has a place before the counts of all experts
 * are known, and in low latency it is what the two calls are.
 *
 * @return as the two calls: MOXIE_OK, MOXIE_ERR_ROUTING, and the errors of moxie_dispatch()
 */
MOXIE_API moxie_status_t moxie_dispatch_routing(moxie_route_t *route,
                                                const moxie_routing_t *routing,
                                                const moxie_dispatch_in_t *in,
                                                const moxie_dispatch_out_t *out,
                                                moxie_stream_t stream);

/**
 * Low latency, rank_major: where the rows of this route arrive. The same addresses for as long as
 * the route lives.
 *
 * @param[out] out gets row_capacity, recv_x, recv_topk_idx, recv_topk_weights and recv_scales
 * (which only rows of fp8 fill in), to be given to moxie_dispatch(), and NULL elsewhere. In
 * expert_major row_capacity, and nothing else but NULL
 * @return MOXIE_OK; MOXIE_ERR_UNSUPPORTED for a route in standard mode
 */
MOXIE_API moxie_status_t moxie_route_slots(const moxie_route_t *route, moxie_dispatch_out_t *out);

/**
 * Low latency: the first half of a dispatch. It sends this rank's rows and does not wait for those
 * of the peers. `in->x` must stay unchanged until the second half.
 *
 * @return MOXIE_OK; MOXIE_ERR_TIMEOUT, MOXIE_ERR_PEER_LOST; MOXIE_ERR_UNSUPPORTED for a route in
 *         standard mode. Other errors are told by the second half, the same on every rank
 */
MOXIE_API moxie_status_t moxie_dispatch_send(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                             moxie_stream_t stream);

/** The second half: waits until all rows have come. Errors as of moxie_dispatch(); what is wrong
 * with `out` only this rank is told. */
MOXIE_API moxie_status_t moxie_dispatch_receive(moxie_route_t *route,
                                                const moxie_dispatch_out_t *out,
                                                moxie_stream_t stream);

/** What a rank gives to combine. */
typedef struct moxie_combine_in {
    size_t size;              /**< sizeof(moxie_combine_in_t) */
    const void *y;            /**< [recv_row_count, H] experts' outputs, in a window; rank_major:
                                   weighted and summed by the caller; expert_major: plain */
    moxie_dtype_t dtype;      /**< of `y`: bf16 or fp32 */
    moxie_dtype_t wire_dtype; /**< a rank's partial is rounded to it: bf16 or fp32 */
    int32_t unweighted; /**< expert_major: 1 sums with every weight 1; the same on all ranks */
    int32_t reserved;   /**< 0 */
} moxie_combine_in_t;

/** Initialiser of a ::moxie_combine_in_t: bf16 rows, bf16 on the wire, weighted. */
#define MOXIE_COMBINE_IN_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(moxie_combine_in_t), .dtype = MOXIE_DTYPE_BF16,                             \
        .wire_dtype = MOXIE_DTYPE_BF16                                                             \
    }

/** What a rank gets from combine. */
typedef struct moxie_combine_out {
    size_t size;         /**< sizeof(moxie_combine_out_t) */
    void *out;           /**< [T, H], any memory; +0 for a token without experts */
    moxie_dtype_t dtype; /**< of `out`: bf16 or fp32 */
} moxie_combine_out_t;

/** Initialiser of a ::moxie_combine_out_t with a bf16 result. */
#define MOXIE_COMBINE_OUT_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(moxie_combine_out_t), .dtype = MOXIE_DTYPE_BF16                             \
    }

/** Brings the experts' outputs home and sums them. Errors as of moxie_dispatch(). */
MOXIE_API moxie_status_t moxie_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                                       const moxie_combine_out_t *out, moxie_stream_t stream);

/** Low latency: the first half of a combine. `in->y` must stay unchanged until the second half.
 *  Errors as of moxie_dispatch_send(). */
MOXIE_API moxie_status_t moxie_combine_send(moxie_route_t *route, const moxie_combine_in_t *in,
                                            moxie_stream_t stream);

/** The second half: sums what has come home. Errors as of moxie_dispatch_receive(). */
MOXIE_API moxie_status_t moxie_combine_receive(moxie_route_t *route, const moxie_combine_out_t *out,
                                               moxie_stream_t stream);

/** Gradients of what dispatch delivered. */
typedef struct moxie_dispatch_backward_in {
    size_t size;                 /**< sizeof(moxie_dispatch_backward_in_t) */
    const void *d_recv_x;        /**< [recv_row_count, H], in a window */
    moxie_dtype_t dtype;         /**< of `d_recv_x`: bf16 or fp32 */
    moxie_dtype_t wire_dtype;    /**< as in ::moxie_combine_in_t */
    const float *d_recv_weights; /**< gradient of the received weights, on shm in a window;
                                      rank_major: [recv_row_count, K], expert_major:
                                      [recv_row_count]; NULL on every rank when no rank asks for
                                      `d_topk_weights` */
} moxie_dispatch_backward_in_t;

/** Initialiser of a ::moxie_dispatch_backward_in_t: bf16 rows, bf16 on the wire. */
#define MOXIE_DISPATCH_BACKWARD_IN_INIT                                                            \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_backward_in_t), .dtype = MOXIE_DTYPE_BF16,                   \
        .wire_dtype = MOXIE_DTYPE_BF16                                                             \
    }

/** Gradients of what a rank sent in dispatch. */
typedef struct moxie_dispatch_backward_out {
    size_t size;           /**< sizeof(moxie_dispatch_backward_out_t) */
    void *d_x;             /**< [T, H], any memory */
    moxie_dtype_t dtype;   /**< of `d_x`: bf16 or fp32 */
    float *d_topk_weights; /**< [T, K], +0 in unused slots, any memory, or NULL */
} moxie_dispatch_backward_out_t;

/** Initialiser of a ::moxie_dispatch_backward_out_t with a bf16 result. */
#define MOXIE_DISPATCH_BACKWARD_OUT_INIT                                                           \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_backward_out_t), .dtype = MOXIE_DTYPE_BF16                   \
    }

/**
 * Backward of dispatch: d_x is the unweighted combine of the received rows' gradients, and each
 * received weight's gradient travels home unchanged. Errors as of moxie_dispatch().
 */
MOXIE_API moxie_status_t moxie_dispatch_backward(moxie_route_t *route,
                                                 const moxie_dispatch_backward_in_t *in,
                                                 const moxie_dispatch_backward_out_t *out,
                                                 moxie_stream_t stream);

/** Gradients of what combine delivered. */
typedef struct moxie_combine_backward_in {
    size_t size;         /**< sizeof(moxie_combine_backward_in_t) */
    const void *d_out;   /**< [T, H], any memory */
    moxie_dtype_t dtype; /**< of `d_out`, `y` and `d_y`: bf16 or fp32 */
    int32_t unweighted;  /**< as in the forward call */
    const void *y;       /**< expert_major, weighted: the rows that combine was given, on shm in a
                              window; NULL on every rank when no rank asks for
                              `d_topk_weights` */
} moxie_combine_backward_in_t;

/** Initialiser of a ::moxie_combine_backward_in_t with bf16 rows. */
#define MOXIE_COMBINE_BACKWARD_IN_INIT                                                             \
    {                                                                                              \
        .size = sizeof(moxie_combine_backward_in_t), .dtype = MOXIE_DTYPE_BF16                     \
    }

/** Gradients of what a rank gave to combine. */
typedef struct moxie_combine_backward_out {
    size_t size;           /**< sizeof(moxie_combine_backward_out_t) */
    int64_t row_capacity;  /**< rows that `d_y` holds, >= recv_row_count */
    void *d_y;             /**< [row_capacity, H], in a window; padding rows become zero */
    float *d_topk_weights; /**< expert_major, weighted: [T, K], +0 in unused slots, any memory, or
                                NULL */
} moxie_combine_backward_out_t;

/** Initialiser of a ::moxie_combine_backward_out_t. */
#define MOXIE_COMBINE_BACKWARD_OUT_INIT                                                            \
    {                                                                                              \
        .size = sizeof(moxie_combine_backward_out_t)                                               \
    }

/**
 * Backward of combine. rank_major, or unweighted: every row of d_y is its token's d_out.
 * expert_major, weighted: row (s, t, k) of d_y is w[t,k] · d_out[t], multiplied in fp32 and rounded
 * once; d_topk_weights[t,k] = ⟨d_out[t], y row of (t,k)⟩, in fp32: 256 partials, partial j over the
 * columns j, j + 256, … ascending with fmaf(d_out, y, acc) from +0, then halved pairwise,
 * partial[j] += partial[j + h] for h = 128, 64 … 1. Errors as of moxie_dispatch().
 */
MOXIE_API moxie_status_t moxie_combine_backward(moxie_route_t *route,
                                                const moxie_combine_backward_in_t *in,
                                                const moxie_combine_backward_out_t *out,
                                                moxie_stream_t stream);

/** What moxie_ceiling_measure() copies. */
typedef struct moxie_ceiling_in {
    size_t size;                 /**< sizeof(moxie_ceiling_in_t) */
    const void *source;          /**< [source_row_count] rows, any memory */
    int64_t source_row_count;    /**< rows to read from, in turn, each once for all peers */
    const int64_t *rows_to_peer; /**< [rank_count] rows to write to each rank, this one included */
    int64_t row_bytes;           /**< the same on every rank */
    void *destination;           /**< this rank's buffer, in a window, that the peers write to */
    int64_t destination_row_count; /**< rows that it holds; a sum over sources beyond it wraps */
    int32_t streaming; /**< 0: memcpy, 1: non-temporal stores; the same on every rank; ignored on
                            a device */
    int32_t reserved;  /**< 0 */
} moxie_ceiling_in_t;

/** Initialiser of a ::moxie_ceiling_in_t. */
#define MOXIE_CEILING_IN_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(moxie_ceiling_in_t)                                                         \
    }

/**
 * What the machine gives: copies rows to all peers at once, with no routing, no metadata and no
 * sums, in row-sized pieces and through the same windows as an exchange. Collective. On a device by
 * stores of as many multiprocessors as dispatch may use (knob `sms`); it waits for them.
 *
 * @param[out] time_ns  from leaving the start barrier until every rank's rows have arrived
 */
MOXIE_API moxie_status_t moxie_ceiling_measure(moxie_group_t *group, const moxie_ceiling_in_t *in,
                                               uint64_t *time_ns);

MOXIE_END_DECLS

#endif
