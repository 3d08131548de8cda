/* SPDX-License-Identifier: Apache-2.0 */
/* Placement, open to the rest of the library. */
#ifndef MOXIE_CORE_PLACEMENT_H
#define MOXIE_CORE_PLACEMENT_H

#include "moxie/placement.h"

struct moxie_placement {
    int32_t expert_count;
    int32_t rank_count;
    int32_t *rank_of_expert;  /* [expert_count] */
    int32_t *local_of_expert; /* [expert_count] */
    int32_t *expert_start;    /* [rank_count + 1] into expert_of_local */
    int32_t *expert_of_local; /* [expert_count] experts by (rank, local index) */
};

/* A copy with its own lifetime; NULL when there is no memory for it. */
moxie_placement_t *placement_copy(const moxie_placement_t *placement);

/* Bytes that a placement takes: it is one allocation. */
size_t placement_bytes(int32_t expert_count, int32_t rank_count);

/* A number that differs, but for accidents, between different maps. */
uint64_t placement_digest(const moxie_placement_t *placement);

#endif
