/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: the map expert → (rank, local index). */
#include "core/placement.h"

#include "core/error.h"
#include "moxie/group.h"

#include <stdlib.h>
#include <string.h>

size_t placement_bytes(int32_t expert_count, int32_t rank_count)
{
    return sizeof(moxie_placement_t) +
           sizeof(int32_t) * (3 * (size_t)expert_count + (size_t)rank_count + 1);
}

/* One allocation: the struct, then its arrays. */
static moxie_placement_t *allocate(int32_t expert_count, int32_t rank_count)
{
    moxie_placement_t *placement = calloc(1, placement_bytes(expert_count, rank_count));
    if (placement == NULL) {
        error_set(MOXIE_ERR_MEMORY, "no memory for a placement of %d experts", expert_count);
        return NULL;
    }
    placement->expert_count = expert_count;
    placement->rank_count = rank_count;
    placement->rank_of_expert = (int32_t *)(placement + 1);
    placement->local_of_expert = placement->rank_of_expert + expert_count;
    placement->expert_of_local = placement->local_of_expert + expert_count;
    placement->expert_start = placement->expert_of_local + expert_count;
    return placement;
}

static moxie_status_t check_arguments(int32_t expert_count, int32_t rank_count,
                                      moxie_placement_t **out)
{
    if (out == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "there is nowhere to put the placement");
    }
    if (expert_count < 1 || expert_count > MOXIE_EXPERT_COUNT_MAX) {
        return error_set(MOXIE_ERR_ARGUMENT, "a placement has 1 to %d experts, not %d",
                         MOXIE_EXPERT_COUNT_MAX, expert_count);
    }
    if (rank_count < 1 || rank_count > MOXIE_RANK_COUNT_MAX) {
        return error_set(MOXIE_ERR_ARGUMENT, "a placement has 1 to %d ranks, not %d",
                         MOXIE_RANK_COUNT_MAX, rank_count);
    }
    return MOXIE_OK;
}

/* expert_start from rank_of_expert: prefix sums of the experts of each rank. */
static void count_experts(moxie_placement_t *placement)
{
    int32_t *start = placement->expert_start;
    for (int32_t expert = 0; expert < placement->expert_count; expert++) {
        start[placement->rank_of_expert[expert] + 1]++;
    }
    for (int32_t rank = 0; rank < placement->rank_count; rank++) {
        start[rank + 1] += start[rank];
    }
}

moxie_status_t moxie_placement_create_block(int32_t expert_count, int32_t rank_count,
                                            moxie_placement_t **out)
{
    const moxie_status_t status = check_arguments(expert_count, rank_count, out);
    if (status != MOXIE_OK) {
        return status;
    }
    moxie_placement_t *placement = allocate(expert_count, rank_count);
    if (placement == NULL) {
        return MOXIE_ERR_MEMORY;
    }
    int32_t expert = 0;
    for (int32_t rank = 0; rank < rank_count; rank++) {
        const int32_t count = expert_count / rank_count + (rank < expert_count % rank_count);
        for (int32_t local = 0; local < count; local++, expert++) {
            placement->rank_of_expert[expert] = rank;
            placement->local_of_expert[expert] = local;
            placement->expert_of_local[expert] = expert;
        }
    }
    count_experts(placement);
    *out = placement;
    return MOXIE_OK;
}

/* Fills expert_of_local, and local_of_expert from the caller's or by ascending expert. */
static moxie_status_t place_locals(moxie_placement_t *placement, const int32_t *local_of_expert)
{
    int32_t *next = calloc((size_t)placement->rank_count, sizeof(*next));
    if (next == NULL) {
        return error_set(MOXIE_ERR_MEMORY, "no memory for a placement of %d experts",
                         placement->expert_count);
    }
    moxie_status_t status = MOXIE_OK;
    memset(placement->expert_of_local, -1,
           sizeof(int32_t) * (size_t)placement->expert_count); /* -1: not placed yet */
    for (int32_t expert = 0; expert < placement->expert_count && status == MOXIE_OK; expert++) {
        const int32_t rank = placement->rank_of_expert[expert];
        const int32_t start = placement->expert_start[rank];
        const int32_t count = placement->expert_start[rank + 1] - start;
        const int32_t local = local_of_expert != NULL ? local_of_expert[expert] : next[rank]++;
        if (local < 0 || local >= count || placement->expert_of_local[start + local] >= 0) {
            status = error_set(MOXIE_ERR_ARGUMENT,
                               "expert %d: local index %d on rank %d is taken or not below its "
                               "%d experts",
                               expert, local, rank, count);
        } else {
            placement->local_of_expert[expert] = local;
            placement->expert_of_local[start + local] = expert;
        }
    }
    free(next);
    return status;
}

moxie_status_t moxie_placement_create_map(int32_t expert_count, int32_t rank_count,
                                          const int32_t *rank_of_expert,
                                          const int32_t *local_of_expert, moxie_placement_t **out)
{
    moxie_status_t status = check_arguments(expert_count, rank_count, out);
    if (status != MOXIE_OK) {
        return status;
    }
    if (rank_of_expert == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank_of_expert is NULL");
    }
    for (int32_t expert = 0; expert < expert_count; expert++) {
        if (rank_of_expert[expert] < 0 || rank_of_expert[expert] >= rank_count) {
            return error_set(MOXIE_ERR_ARGUMENT, "expert %d is placed on rank %d of %d ranks",
                             expert, rank_of_expert[expert], rank_count);
        }
    }
    moxie_placement_t *placement = allocate(expert_count, rank_count);
    if (placement == NULL) {
        return MOXIE_ERR_MEMORY;
    }
    memcpy(placement->rank_of_expert, rank_of_expert, sizeof(int32_t) * (size_t)expert_count);
    count_experts(placement);
    status = place_locals(placement, local_of_expert);
    if (status != MOXIE_OK) {
        free(placement);
        return status;
    }
    *out = placement;
    return MOXIE_OK;
}

moxie_placement_t *placement_copy(const moxie_placement_t *placement)
{
    moxie_placement_t *copy = allocate(placement->expert_count, placement->rank_count);
    if (copy != NULL) {
        /* The arrays follow the struct in one allocation, in the same order. */
        memcpy(copy->rank_of_expert, placement->rank_of_expert,
               placement_bytes(placement->expert_count, placement->rank_count) -
                   sizeof(moxie_placement_t));
    }
    return copy;
}

void moxie_placement_destroy(moxie_placement_t *placement)
{
    free(placement);
}

/* FNV-1a over the map (http://www.isthe.com/chongo/tech/comp/fnv/). */
uint64_t placement_digest(const moxie_placement_t *placement)
{
    uint64_t digest = 0xCBF29CE484222325u;
    for (int32_t expert = 0; expert < placement->expert_count; expert++) {
        digest = (digest ^ (uint64_t)placement->rank_of_expert[expert]) * 0x100000001B3u;
        digest = (digest ^ (uint64_t)placement->local_of_expert[expert]) * 0x100000001B3u;
    }
    return digest;
}

int32_t moxie_placement_expert_count(const moxie_placement_t *placement)
{
    return placement->expert_count;
}

int32_t moxie_placement_rank_count(const moxie_placement_t *placement)
{
    return placement->rank_count;
}

int32_t moxie_placement_rank(const moxie_placement_t *placement, int32_t expert)
{
    if (expert < 0 || expert >= placement->expert_count) {
        return -1;
    }
    return placement->rank_of_expert[expert];
}

int32_t moxie_placement_local(const moxie_placement_t *placement, int32_t expert)
{
    if (expert < 0 || expert >= placement->expert_count) {
        return -1;
    }
    return placement->local_of_expert[expert];
}

int32_t moxie_placement_local_count(const moxie_placement_t *placement, int32_t rank)
{
    if (rank < 0 || rank >= placement->rank_count) {
        return -1;
    }
    return placement->expert_start[rank + 1] - placement->expert_start[rank];
}

int32_t moxie_placement_expert(const moxie_placement_t *placement, int32_t rank, int32_t local)
{
    if (local < 0 || local >= moxie_placement_local_count(placement, rank)) {
        return -1;
    }
    return placement->expert_of_local[placement->expert_start[rank] + local];
}
