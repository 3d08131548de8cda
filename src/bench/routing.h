/* SPDX-License-Identifier: Apache-2.0 */
/* Routings: who sends which token where. Every generator is a pure function of its request, so any
 * process can make the routing of any rank. */
#ifndef MOXIE_BENCH_ROUTING_H
#define MOXIE_BENCH_ROUTING_H

#include "bench/failure.h"
#include "moxie/placement.h"
#include "moxie/route.h"

/* What --routing asks for. */
typedef enum routing_kind {
    ROUTING_UNIFORM,
    ROUTING_BALANCED,
    ROUTING_ZIPF,
    ROUTING_TEXT,
    ROUTING_FILE
} routing_kind_t;

/* A parsed --routing. */
typedef struct routing_spec {
    routing_kind_t kind;
    double exponent;   /* zipf:S */
    const char *path;  /* text:FILE and file:PATH; points into the parsed text */
    const char *where; /* the flag or key that gave it, for messages; the caller's */
} routing_spec_t;

/* Parses "uniform", "zipf:1.2", "text:FILE" … */
bool routing_spec_parse(const char *text, const char *where, routing_spec_t *spec,
                        failure_t *failure);

/* The routings of all ranks. */
typedef struct routing_set {
    int32_t rank_count;
    int32_t expert_count;
    int32_t topk;
    int64_t *token_start; /* [rank_count + 1] where each rank's tokens begin */
    int32_t *topk_idx;    /* [tokens of all ranks, topk] */
    float *topk_weights;  /* [tokens of all ranks, topk] */
} routing_set_t;

/* Makes room for a set; `token_count` has the tokens of each rank. False: no memory. */
bool routing_set_init(routing_set_t *set, int32_t rank_count, int32_t expert_count, int32_t topk,
                      const int64_t *token_count);

/* Releases a set. A zeroed one is allowed. */
void routing_set_release(routing_set_t *set);

/* Bytes that a set takes. */
uint64_t routing_set_bytes(int32_t rank_count, int32_t topk, int64_t token_count_sum);

/* Tokens of a rank. */
int64_t routing_token_count(const routing_set_t *set, int32_t rank);

/* Tokens of the rank that has most. */
int64_t routing_token_count_max(const routing_set_t *set);

/* The routing of a rank as the library takes it; points into the set. */
moxie_routing_t routing_of_rank(const routing_set_t *set, int32_t rank);

/* Fills a set whose counts are there, by any kind but ROUTING_FILE. */
bool routing_generate(const routing_spec_t *spec, uint64_t seed, routing_set_t *set,
                      failure_t *failure);

/* Each token's experts: any topk different ones, all sets equally likely. */
bool routing_uniform(uint64_t seed, routing_set_t *set);

/* Token t: the experts (t · topk + k) mod expert_count, so that all get equally many. */
void routing_balanced(uint64_t seed, routing_set_t *set);

/* The expert in place i of a seeded order is drawn with probability ∝ 1 / (i + 1)^exponent. */
bool routing_zipf(double exponent, uint64_t seed, routing_set_t *set);

/* Tokens of a text, through a seeded embedding and gate. */
bool routing_text(const routing_spec_t *spec, uint64_t seed, routing_set_t *set,
                  failure_t *failure);

/* Random positive weights with the sum 1. */
void routing_random_weights(uint64_t *random, int32_t topk, float *weights);

/* Rows that `rank` sends to each rank: its tokens with at least one expert there. */
void routing_rows_to_peer(const routing_set_t *set, const moxie_placement_t *placement,
                          int32_t rank, int64_t *rows_to_peer);

#endif
