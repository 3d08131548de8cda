/* SPDX-License-Identifier: Apache-2.0 */
/* Text routing: token → embedding → gate → topk experts, all seeded and in whole numbers, so that
 * every machine picks the same experts. A word goes to the same experts wherever it stands. */
#include "bench/exact_math.h"
#include "bench/file.h"
#include "bench/random.h"
#include "bench/routing.h"
#include "bench/text.h"

#include <stdlib.h>
#include <string.h>

enum { EMBEDDING_SIZE = 64 };

/* The largest text that is read. */
#define TEXT_BYTES_MAX ((size_t)1 << 30)

/* Standard deviation of a logit: 64 products of two numbers uniform in [-127, 127]. */
#define LOGIT_DEVIATION 43349.0

/* Elements uniform in [-127, 127]; what is out of range becomes 0. */
static void fill_vector(uint64_t key, int8_t vector[EMBEDDING_SIZE])
{
    for (int32_t i = 0; i < EMBEDDING_SIZE; i += 8) {
        uint64_t bits = random_next(&key);
        memcpy(vector + i, &bits, sizeof(bits));
    }
    for (int32_t i = 0; i < EMBEDDING_SIZE; i++)
        if (vector[i] == INT8_MIN)
            vector[i] = 0;
}

static int32_t dot(const int8_t *a, const int8_t *b)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < EMBEDDING_SIZE; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Puts an expert into the best so far, by falling logit; equal logits keep the order of ids. */
static void insert(int32_t expert, int32_t logit, int32_t topk, int32_t *ids, int32_t *logits)
{
    int32_t slot = topk;
    while (slot > 0 && logit > logits[slot - 1])
        slot--;
    if (slot == topk)
        return;
    for (int32_t i = topk - 1; i > slot; i--) {
        ids[i] = ids[i - 1];
        logits[i] = logits[i - 1];
    }
    ids[slot] = expert;
    logits[slot] = logit;
}

/* Softmax over the logits, renormalised over the chosen experts. */
static void weigh(const int32_t *logits, int32_t topk, float *weights)
{
    double share[MOXIE_TOPK_MAX];
    double sum = 0.0;
    for (int32_t slot = 0; slot < topk; slot++) {
        share[slot] = exact_exp((double)(logits[slot] - logits[0]) / LOGIT_DEVIATION);
        sum += share[slot];
    }
    for (int32_t slot = 0; slot < topk; slot++)
        weights[slot] = (float)(share[slot] / sum);
}

static void route_word(const int8_t *gate, uint64_t seed, uint64_t hash, const routing_set_t *set,
                       int64_t slot_start)
{
    int8_t embedding[EMBEDDING_SIZE];
    int32_t logits[MOXIE_TOPK_MAX];
    int32_t *ids = set->topk_idx + slot_start;
    for (int32_t slot = 0; slot < set->topk; slot++)
        logits[slot] = INT32_MIN;
    fill_vector(random_key(seed, RANDOM_FOR_EMBEDDING, hash), embedding);
    for (int32_t expert = 0; expert < set->expert_count; expert++)
        insert(expert, dot(embedding, gate + (size_t)expert * EMBEDDING_SIZE), set->topk, ids,
               logits);
    weigh(logits, set->topk, set->topk_weights + slot_start);
}

/* Where a word was routed first: open addressing, a power of two of places. */
typedef struct seen {
    uint64_t *hash; /* of the word in each place */
    int64_t *slot;  /* where its experts are in the set; -1: the place is free */
    size_t place_count;
} seen_t;

static bool seen_init(seen_t *seen, int64_t word_count)
{
    seen->place_count = 16;
    while (seen->place_count < (size_t)word_count * 2)
        seen->place_count *= 2;
    seen->hash = malloc(seen->place_count * sizeof(*seen->hash));
    seen->slot = malloc(seen->place_count * sizeof(*seen->slot));
    if (seen->slot != NULL)
        memset(seen->slot, 0xFF, seen->place_count * sizeof(*seen->slot));
    return seen->hash != NULL && seen->slot != NULL;
}

static size_t seen_find(const seen_t *seen, uint64_t hash)
{
    size_t place = random_mix(hash) & (seen->place_count - 1);
    while (seen->slot[place] >= 0 && seen->hash[place] != hash)
        place = (place + 1) & (seen->place_count - 1);
    return place;
}

static void route_all(const text_tokens_t *text, const int8_t *gate, uint64_t seed, seen_t *seen,
                      routing_set_t *set)
{
    size_t topk = (size_t)set->topk;
    for (int64_t token = 0; token < set->token_start[set->rank_count]; token++) {
        uint64_t hash = text->hash[token % text->count];
        int64_t slot = token * set->topk;
        size_t place = seen_find(seen, hash);
        if (seen->slot[place] < 0) {
            route_word(gate, seed, hash, set, slot);
            seen->hash[place] = hash;
            seen->slot[place] = slot;
            continue;
        }
        memcpy(set->topk_idx + slot, set->topk_idx + seen->slot[place], topk * sizeof(int32_t));
        memcpy(set->topk_weights + slot, set->topk_weights + seen->slot[place],
               topk * sizeof(float));
    }
}

static bool route_tokens(const text_tokens_t *text, uint64_t seed, routing_set_t *set)
{
    seen_t seen = {0};
    int8_t *gate = malloc((size_t)set->expert_count * EMBEDDING_SIZE);
    bool is_ready = seen_init(&seen, text->count) && gate != NULL;
    if (is_ready) {
        for (int32_t expert = 0; expert < set->expert_count; expert++)
            fill_vector(random_key(seed, RANDOM_FOR_GATE, (uint64_t)expert),
                        gate + (size_t)expert * EMBEDDING_SIZE);
        route_all(text, gate, seed, &seen, set);
    }
    free(gate);
    free(seen.hash);
    free(seen.slot);
    return is_ready;
}

bool routing_text(const routing_spec_t *spec, uint64_t seed, routing_set_t *set, failure_t *failure)
{
    file_bytes_t file = {0};
    text_tokens_t text = {0};
    if (!file_read(spec->path, spec->where, TEXT_BYTES_MAX, &file, failure))
        return false;
    bool is_cut = text_tokenise(&file, spec->path, &text, failure);
    file_release(&file);
    if (!is_cut)
        return false;
    bool is_routed = route_tokens(&text, seed, set) ||
                     failure_set(failure, EXIT_FAILED, "not enough memory to route a text");
    text_tokens_release(&text);
    return is_routed;
}
