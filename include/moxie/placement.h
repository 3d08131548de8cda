/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Placement: the map expert → (rank, local index).
 */
#ifndef MOXIE_PLACEMENT_H
#define MOXIE_PLACEMENT_H

#include "moxie/status.h"

MOXIE_BEGIN_DECLS

/** Experts there may be at most. */
#define MOXIE_EXPERT_COUNT_MAX 4096

/** An immutable placement. Owned by the caller; routes keep a copy of what they need. */
typedef struct moxie_placement moxie_placement_t;

/**
 * The default placement: blocks of consecutive experts, as even as possible.
 *
 * Rank r gets expert_count / rank_count experts, and the first expert_count % rank_count ranks
 * one more.
 *
 * @param expert_count  experts in all, 1 … MOXIE_EXPERT_COUNT_MAX
 * @param rank_count    ranks of the group, >= 1
 * @param[out] out      the placement, for moxie_placement_destroy()
 * @return MOXIE_OK, MOXIE_ERR_ARGUMENT or MOXIE_ERR_MEMORY
 */
MOXIE_API moxie_status_t moxie_placement_create_block(int32_t expert_count, int32_t rank_count,
                                                      moxie_placement_t **out);

/**
 * Any map.
 *
 * @param expert_count    experts in all, 1 … MOXIE_EXPERT_COUNT_MAX
 * @param rank_count      ranks of the group, >= 1
 * @param rank_of_expert  [expert_count], each in [0, rank_count); a rank may have no expert
 * @param local_of_expert [expert_count], a permutation of 0 … n-1 within each rank of n experts;
 *                        NULL: ascending expert id
 * @param[out] out        the placement, for moxie_placement_destroy()
 * @return MOXIE_OK, MOXIE_ERR_ARGUMENT (the error names the expert) or MOXIE_ERR_MEMORY
 */
MOXIE_API moxie_status_t moxie_placement_create_map(int32_t expert_count, int32_t rank_count,
                                                    const int32_t *rank_of_expert,
                                                    const int32_t *local_of_expert,
                                                    moxie_placement_t **out);

/** Releases a placement. NULL is allowed. */
MOXIE_API void moxie_placement_destroy(moxie_placement_t *placement);

/** Experts in all. */
MOXIE_API int32_t moxie_placement_expert_count(const moxie_placement_t *placement);

/** Ranks of the group the placement was made for. */
MOXIE_API int32_t moxie_placement_rank_count(const moxie_placement_t *placement);

/** The rank that holds an expert; -1 when `expert` is out of range. */
MOXIE_API int32_t moxie_placement_rank(const moxie_placement_t *placement, int32_t expert);

/** The expert's index on its rank; -1 when `expert` is out of range. */
MOXIE_API int32_t moxie_placement_local(const moxie_placement_t *placement, int32_t expert);

/** Experts on a rank; -1 when `rank` is out of range. */
MOXIE_API int32_t moxie_placement_local_count(const moxie_placement_t *placement, int32_t rank);

/** The expert with a local index on a rank; -1 when there is none. */
MOXIE_API int32_t moxie_placement_expert(const moxie_placement_t *placement, int32_t rank,
                                         int32_t local);

MOXIE_END_DECLS

#endif
