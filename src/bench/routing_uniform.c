/* SPDX-License-Identifier: Apache-2.0 */
/* Uniform routing: the first topk cards of a shuffled deck, for each token. */
#include "bench/random.h"
#include "bench/routing.h"

#include <stdlib.h>

/* Moves a random topk of the deck to its front. The deck stays a permutation, so it need not be
 * sorted again for the next token. */
static void draw(uint64_t *random, int32_t *deck, int32_t expert_count, int32_t topk)
{
    for (int32_t slot = 0; slot < topk; slot++) {
        int32_t other = slot + (int32_t)random_below(random, (uint64_t)(expert_count - slot));
        int32_t expert = deck[other];
        deck[other] = deck[slot];
        deck[slot] = expert;
    }
}

bool routing_uniform(uint64_t seed, routing_set_t *set)
{
    int32_t *deck = malloc((size_t)set->expert_count * sizeof(*deck));
    if (deck == NULL)
        return false;
    for (int32_t rank = 0; rank < set->rank_count; rank++) {
        uint64_t random = random_key(seed, RANDOM_FOR_ROUTING, (uint64_t)rank);
        for (int32_t expert = 0; expert < set->expert_count; expert++)
            deck[expert] = expert;
        for (int64_t token = set->token_start[rank]; token < set->token_start[rank + 1]; token++) {
            draw(&random, deck, set->expert_count, set->topk);
            for (int32_t slot = 0; slot < set->topk; slot++)
                set->topk_idx[token * set->topk + slot] = deck[slot];
            routing_random_weights(&random, set->topk, set->topk_weights + token * set->topk);
        }
    }
    free(deck);
    return true;
}
