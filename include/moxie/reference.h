/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * The reference: what an exchange must deliver, computed by looping over the definitions.
 *
 * It is slow, needs the inputs of all ranks in one process, and shares no code with the exchange.
 * `moxie bench`, the tests and anyone who integrates Moxie compare with it bit by bit.
 */
#ifndef MOXIE_REFERENCE_H
#define MOXIE_REFERENCE_H

#include "moxie/exchange.h"

MOXIE_BEGIN_DECLS

/**
 * Gives a row of some rank: the address of H elements, valid until the next call.
 *
 * @param ctx  as in ::moxie_row_reader_t
 * @param rank the rank that has the row
 * @param row  its index: a token for home-side inputs, a row of the layout for receive-side ones
 */
typedef const void *(*moxie_row_fn)(void *ctx, int32_t rank, int64_t row);

/** Where the reference reads rows from, so that nobody has to hold all ranks' rows at once. */
typedef struct moxie_row_reader {
    moxie_row_fn row;    /**< the function */
    void *ctx;           /**< passed to it */
    moxie_dtype_t dtype; /**< of the rows' elements */
} moxie_row_reader_t;

/** The routings of all ranks, and the shape. */
typedef struct moxie_world {
    size_t size;                        /**< sizeof(moxie_world_t) */
    const moxie_placement_t *placement; /**< experts and ranks */
    const moxie_routing_t *routing;     /**< [rank_count] */
    int64_t hidden;                     /**< elements of a row */
    int64_t alignment;                  /**< of expert_major blocks, in rows */
    moxie_layout_t layout;              /**< of the receiving side */
    int32_t topk;                       /**< slots of a token */
    int64_t token_count_max;            /**< low latency: tokens a rank may have at most */
    moxie_mode_t mode;                  /**< low latency: rows lie in slots; alignment is 1 */
    int32_t reserved;                   /**< 0 */
} moxie_world_t;

/** Initialiser of a ::moxie_world_t: standard mode, rank_major, alignment 1. */
#define MOXIE_WORLD_INIT                                                                           \
    {                                                                                              \
        .size = sizeof(moxie_world_t), .alignment = 1, .layout = MOXIE_LAYOUT_RANK_MAJOR           \
    }

/**
 * Checks the routings of all ranks in (rank, token, slot) order.
 *
 * @return MOXIE_OK; MOXIE_ERR_ROUTING (the error names the first offence: peer, token, slot)
 */
MOXIE_API moxie_status_t moxie_reference_check(const moxie_world_t *world);

/** Rows that the buffers of `rank` need: N, or M with padding; in low latency all slots. */
MOXIE_API moxie_status_t moxie_reference_recv_rows(const moxie_world_t *world, int32_t rank,
                                                   int64_t *row_count);

/** What moxie_dispatch() delivers to `rank`; `x` is read by (rank, token). Any memory. Without
 *  `recv_scales`: see moxie_reference_dispatch_fp8(). */
MOXIE_API moxie_status_t moxie_reference_dispatch(const moxie_world_t *world, int32_t rank,
                                                  const moxie_row_reader_t *x,
                                                  const moxie_dispatch_out_t *out);

/**
 * What moxie_dispatch() delivers to `rank` where rows arrive as fp8, scales included.
 *
 * @param x        read by (rank, token): bf16, to be quantised, or fp8
 * @param x_scales read by (rank, token), where `x` is fp8: moxie_scale_words() words; its dtype is
 *                 not looked at
 * @param in       its `scale_type` and `scale_layout`; pointers and dtypes are not used
 */
MOXIE_API moxie_status_t moxie_reference_dispatch_fp8(const moxie_world_t *world, int32_t rank,
                                                      const moxie_row_reader_t *x,
                                                      const moxie_row_reader_t *x_scales,
                                                      const moxie_dispatch_in_t *in,
                                                      const moxie_dispatch_out_t *out);

/**
 * Quantises a row of bf16, as ::moxie_scale_type_t says. Needs no group.
 *
 * @param[out] fp8   [hidden]
 * @param[out] words [moxie_scale_words()]
 */
MOXIE_API moxie_status_t moxie_reference_quantise(const uint16_t *x, int64_t hidden,
                                                  moxie_scale_type_t type, uint8_t *fp8,
                                                  uint32_t *words);

/** What moxie_combine() delivers to `rank`; `y` is read by (rank, row). `in->y` is not used. */
MOXIE_API moxie_status_t moxie_reference_combine(const moxie_world_t *world, int32_t rank,
                                                 const moxie_row_reader_t *y,
                                                 const moxie_combine_in_t *in,
                                                 const moxie_combine_out_t *out);

/**
 * What moxie_dispatch_backward() delivers to `rank`; `d_recv_x` and `d_recv_weights` are read by
 * (rank, row): K weights a row in rank_major, one in expert_major. Pointers of `in` are not used.
 */
MOXIE_API moxie_status_t moxie_reference_dispatch_backward(
    const moxie_world_t *world, int32_t rank, const moxie_row_reader_t *d_recv_x,
    const moxie_row_reader_t *d_recv_weights, const moxie_dispatch_backward_in_t *in,
    const moxie_dispatch_backward_out_t *out);

/**
 * What moxie_combine_backward() delivers to `rank`; `d_out` is read by (rank, token), `y` by
 * (rank, row). Pointers of `in` are not used.
 */
MOXIE_API moxie_status_t moxie_reference_combine_backward(const moxie_world_t *world, int32_t rank,
                                                          const moxie_row_reader_t *d_out,
                                                          const moxie_row_reader_t *y,
                                                          const moxie_combine_backward_in_t *in,
                                                          const moxie_combine_backward_out_t *out);

MOXIE_END_DECLS

#endif
