/* SPDX-License-Identifier: Apache-2.0 */
/* Parses --routing, holds the routings of all ranks, and calls the generator. */
#include "bench/routing.h"

#include "bench/random.h"

#include <stdlib.h>
#include <string.h>

/* Larger exponents would send everything to the same experts in the same way. */
#define EXPONENT_MAX 16.0

static bool parse_exponent(const char *text, const char *where, double *exponent,
                           failure_t *failure)
{
    char *end = NULL;
    bool is_plain = text[0] != '\0' && strspn(text, "0123456789.") == strlen(text);
    *exponent = is_plain ? strtod(text, &end) : -1.0;
    if (is_plain && *end == '\0' && *exponent <= EXPONENT_MAX)
        return true;
    return failure_set(failure, EXIT_USAGE, "%s: zipf:%.100s: the exponent must be 0 to %g", where,
                       text, EXPONENT_MAX);
}

bool routing_spec_parse(const char *text, const char *where, routing_spec_t *spec,
                        failure_t *failure)
{
    static const char zipf[] = "zipf:", words[] = "text:", file[] = "file:";
    *spec = (routing_spec_t){.kind = ROUTING_UNIFORM, .where = where};
    if (strcmp(text, "uniform") == 0)
        return true;
    if (strcmp(text, "balanced") == 0) {
        spec->kind = ROUTING_BALANCED;
        return true;
    }
    if (strncmp(text, zipf, strlen(zipf)) == 0) {
        spec->kind = ROUTING_ZIPF;
        return parse_exponent(text + strlen(zipf), where, &spec->exponent, failure);
    }
    bool is_text = strncmp(text, words, strlen(words)) == 0;
    if (!is_text && strncmp(text, file, strlen(file)) != 0)
        return failure_set(failure, EXIT_USAGE,
                           "%s: '%.100s' is none of uniform, balanced, zipf:S, text:FILE, "
                           "file:PATH",
                           where, text);
    spec->kind = is_text ? ROUTING_TEXT : ROUTING_FILE;
    spec->path = text + strlen(words);
    if (spec->path[0] == '\0')
        return failure_set(failure, EXIT_USAGE, "%s: '%s' lacks a file name", where, text);
    return true;
}

uint64_t routing_set_bytes(int32_t rank_count, int32_t topk, int64_t token_count_sum)
{
    return (uint64_t)token_count_sum * (uint64_t)topk * (sizeof(int32_t) + sizeof(float)) +
           ((uint64_t)rank_count + 1) * sizeof(int64_t);
}

bool routing_set_init(routing_set_t *set, int32_t rank_count, int32_t expert_count, int32_t topk,
                      const int64_t *token_count)
{
    *set = (routing_set_t){.rank_count = rank_count, .expert_count = expert_count, .topk = topk};
    set->token_start = calloc((size_t)rank_count + 1, sizeof(int64_t));
    if (set->token_start == NULL)
        return false;
    for (int32_t rank = 0; rank < rank_count; rank++)
        set->token_start[rank + 1] = set->token_start[rank] + token_count[rank];
    size_t slot_count = (size_t)set->token_start[rank_count] * (size_t)topk;
    set->topk_idx = malloc(slot_count * sizeof(int32_t) + 1);
    set->topk_weights = malloc(slot_count * sizeof(float) + 1);
    if (set->topk_idx != NULL && set->topk_weights != NULL)
        return true;
    routing_set_release(set);
    return false;
}

void routing_set_release(routing_set_t *set)
{
    free(set->token_start);
    free(set->topk_idx);
    free(set->topk_weights);
    *set = (routing_set_t){0};
}

int64_t routing_token_count(const routing_set_t *set, int32_t rank)
{
    return set->token_start[rank + 1] - set->token_start[rank];
}

int64_t routing_token_count_max(const routing_set_t *set)
{
    int64_t most = 0;
    for (int32_t rank = 0; rank < set->rank_count; rank++)
        if (routing_token_count(set, rank) > most)
            most = routing_token_count(set, rank);
    return most;
}

moxie_routing_t routing_of_rank(const routing_set_t *set, int32_t rank)
{
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = routing_token_count(set, rank);
    routing.topk_idx = set->topk_idx + set->token_start[rank] * set->topk;
    routing.topk_weights = set->topk_weights + set->token_start[rank] * set->topk;
    return routing;
}

void routing_random_weights(uint64_t *random, int32_t topk, float *weights)
{
    uint32_t part[MOXIE_TOPK_MAX];
    uint64_t sum = 0;
    for (int32_t slot = 0; slot < topk; slot++) {
        part[slot] = 1 + (uint32_t)(random_next(random) >> 44);
        sum += part[slot];
    }
    for (int32_t slot = 0; slot < topk; slot++)
        weights[slot] = (float)((double)part[slot] / (double)sum);
}

bool routing_generate(const routing_spec_t *spec, uint64_t seed, routing_set_t *set,
                      failure_t *failure)
{
    bool is_made = true;
    switch (spec->kind) {
    case ROUTING_UNIFORM:
        is_made = routing_uniform(seed, set);
        break;
    case ROUTING_BALANCED:
        routing_balanced(seed, set);
        break;
    case ROUTING_ZIPF:
        is_made = routing_zipf(spec->exponent, seed, set);
        break;
    case ROUTING_TEXT:
        return routing_text(spec, seed, set, failure);
    case ROUTING_FILE:
        break; /* a recording is read, not generated */
    }
    return is_made || failure_set(failure, EXIT_FAILED, "not enough memory for a routing");
}

void routing_rows_to_peer(const routing_set_t *set, const moxie_placement_t *placement,
                          int32_t rank, int64_t *rows_to_peer)
{
    memset(rows_to_peer, 0, (size_t)set->rank_count * sizeof(*rows_to_peer));
    for (int64_t token = set->token_start[rank]; token < set->token_start[rank + 1]; token++) {
        const int32_t *ids = set->topk_idx + token * set->topk;
        int32_t peers[MOXIE_TOPK_MAX];
        int32_t peer_count = 0;
        for (int32_t slot = 0; slot < set->topk; slot++) {
            int32_t peer = moxie_placement_rank(placement, ids[slot]);
            bool is_new = peer >= 0;
            for (int32_t i = 0; i < peer_count && is_new; i++)
                is_new = peers[i] != peer;
            if (!is_new)
                continue;
            peers[peer_count++] = peer;
            rows_to_peer[peer]++;
        }
    }
}
