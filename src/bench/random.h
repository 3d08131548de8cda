/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers that are the same on every machine: the mixer of splitmix64 (Steele, Lea, Flood:
 * Fast splittable pseudorandom number generators, 2014) over a counter. */
#ifndef MOXIE_BENCH_RANDOM_H
#define MOXIE_BENCH_RANDOM_H

#include <stdint.h>

#define RANDOM_STEP UINT64_C(0x9E3779B97F4A7C15)

/* What a stream of numbers is for, so that no two purposes share one. */
enum {
    RANDOM_FOR_ROUTING = 1,
    RANDOM_FOR_PERMUTATION,
    RANDOM_FOR_EMBEDDING,
    RANDOM_FOR_GATE,
    RANDOM_FOR_HOME_ROWS,
    RANDOM_FOR_EXPERT_ROWS,
    RANDOM_FOR_WEIGHTS,
    RANDOM_FOR_SCALES
};

/* A bijection of 64 bits whose output bits all depend on all input bits. */
static inline uint64_t random_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

/* The start of the stream (seed, purpose, which of them). */
static inline uint64_t random_key(uint64_t seed, uint64_t purpose, uint64_t index)
{
    return random_mix(random_mix(random_mix(seed + RANDOM_STEP) + purpose) + index * RANDOM_STEP);
}

/* The next number of a stream whose state began as a random_key(). */
static inline uint64_t random_next(uint64_t *state)
{
    *state += RANDOM_STEP;
    return random_mix(*state);
}

/* Uniform in [0, limit), limit >= 1, without bias: what would be biased is drawn again. */
static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
    uint64_t biased = -limit % limit; /* 2^64 mod limit */
    for (;;) {
        uint64_t number = random_next(state);
        if (number >= biased)
            return number % limit;
    }
}

#endif
