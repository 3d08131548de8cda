/* SPDX-License-Identifier: Apache-2.0 */
/* Zipf routing: a few experts are popular, most are not. Draws without replacement. */
#include "bench/exact_math.h"
#include "bench/random.h"
#include "bench/routing.h"

#include <stdlib.h>

/* Popularity is counted in whole units, so that drawing is exact; 2^40 · 2^20 experts fit. */
#define POPULARITY_UNIT 0x1p40

/* An expert and its popularity, most popular first. */
typedef struct candidate {
    uint64_t popularity;
    int32_t expert;
} candidate_t;

static uint64_t fill_candidates(candidate_t *candidates, int32_t count, double exponent,
                                uint64_t seed)
{
    uint64_t random = random_key(seed, RANDOM_FOR_PERMUTATION, 0);
    uint64_t sum = 0;
    for (int32_t place = 0; place < count; place++) {
        double share = exact_exp(-exponent * exact_log(place + 1.0));
        uint64_t popularity = (uint64_t)(share * POPULARITY_UNIT);
        candidates[place].popularity = popularity > 0 ? popularity : 1;
        candidates[place].expert = place;
        sum += candidates[place].popularity;
    }
    for (int32_t place = count - 1; place > 0; place--) {
        int32_t other = (int32_t)random_below(&random, (uint64_t)place + 1);
        int32_t expert = candidates[place].expert;
        candidates[place].expert = candidates[other].expert;
        candidates[other].expert = expert;
    }
    return sum;
}

/* Draws one candidate of those not taken yet, whose popularities have the sum `*sum`. */
static int32_t draw(uint64_t *random, const candidate_t *candidates, bool *is_taken, uint64_t *sum)
{
    uint64_t left = random_below(random, *sum);
    int32_t place = 0;
    while (is_taken[place] || left >= candidates[place].popularity) {
        if (!is_taken[place])
            left -= candidates[place].popularity;
        place++;
    }
    is_taken[place] = true;
    *sum -= candidates[place].popularity;
    return place;
}

static void route_token(uint64_t *random, const candidate_t *candidates, bool *is_taken,
                        uint64_t sum, int32_t topk, int32_t *ids)
{
    int32_t places[MOXIE_TOPK_MAX];
    for (int32_t slot = 0; slot < topk; slot++) {
        places[slot] = draw(random, candidates, is_taken, &sum);
        ids[slot] = candidates[places[slot]].expert;
    }
    for (int32_t slot = 0; slot < topk; slot++)
        is_taken[places[slot]] = false;
}

bool routing_zipf(double exponent, uint64_t seed, routing_set_t *set)
{
    candidate_t *candidates = malloc((size_t)set->expert_count * sizeof(*candidates));
    bool *is_taken = calloc((size_t)set->expert_count, sizeof(*is_taken));
    bool is_made = candidates != NULL && is_taken != NULL;
    uint64_t sum = is_made ? fill_candidates(candidates, set->expert_count, exponent, seed) : 0;
    for (int32_t rank = 0; is_made && rank < set->rank_count; rank++) {
        uint64_t random = random_key(seed, RANDOM_FOR_ROUTING, (uint64_t)rank);
        for (int64_t token = set->token_start[rank]; token < set->token_start[rank + 1]; token++) {
            route_token(&random, candidates, is_taken, sum, set->topk,
                        set->topk_idx + token * set->topk);
            routing_random_weights(&random, set->topk, set->topk_weights + token * set->topk);
        }
    }
    free(candidates);
    free(is_taken);
    return is_made;
}
