/* SPDX-License-Identifier: Apache-2.0 */
/* Balanced routing: round and round over the experts. */
#include "bench/random.h"
#include "bench/routing.h"

void routing_balanced(uint64_t seed, routing_set_t *set)
{
    for (int32_t rank = 0; rank < set->rank_count; rank++) {
        uint64_t random = random_key(seed, RANDOM_FOR_ROUTING, (uint64_t)rank);
        int64_t first = set->token_start[rank] * set->topk;
        int64_t slot_count = routing_token_count(set, rank) * set->topk;
        for (int64_t slot = 0; slot < slot_count; slot++)
            set->topk_idx[first + slot] = (int32_t)(slot % set->expert_count);
        for (int64_t slot = 0; slot < slot_count; slot += set->topk)
            routing_random_weights(&random, set->topk, set->topk_weights + first + slot);
    }
}
