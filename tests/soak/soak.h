/* SPDX-License-Identifier: Apache-2.0 */
/* What soak tests have in common: arguments, ranks that dawdle, memory and a few routes that are
 * used over and over. Arguments: iterations, ranks, processes or threads, and optionally a seed. On
 * shm, or on the backend that MOXIE_TEST_BACKEND names. */
#ifndef SOAK_SOAK_H
#define SOAK_SOAK_H

#include "support/backends.h"
#include "support/trial.h"

#define SOAK_ROUTES_ALIVE 3

typedef struct soak soak_t;

/* One iteration on all ranks. False when something was wrong, which has been recorded. */
typedef bool (*soak_iterate_fn)(world_rank_t *self, moxie_group_t *group,
                                const trial_memory_t *memory, trial_t trials[SOAK_ROUTES_ALIVE],
                                uint64_t iteration);

struct soak {
    soak_iterate_fn iterate;
    size_t (*window_bytes)(const soak_t *soak); /* of each of the two windows */
    uint64_t capabilities;                      /* that the backend must have: MOXIE_CAP_… */
    uint64_t one_yields_of;                     /* a rank gives way once in so many times, */
    uint64_t one_sleeps_of;                     /* sleeps once in so many, */
    long sleep_ns_max;                          /* for less than this */
    /* From the command line. */
    uint64_t iteration_count;
    uint64_t seed;
    int32_t rank_count;
    world_mode_t mode;
    found_backend_t backend;
};

/* Every rank dawdles on its own, at a place with a number. */
void soak_dawdle(const soak_t *soak, int32_t rank, uint64_t place);

/* Runs it as main(). */
int soak_main(int argc, char **argv, soak_t *soak);

#endif
