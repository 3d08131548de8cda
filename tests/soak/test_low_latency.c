/* SPDX-License-Identifier: Apache-2.0 */
/* Back-to-back low-latency calls on a few routes, in random order, with new routings and types and
 * random delays in each rank, every output compared with the reference. Nothing but the calls
 * themselves keeps the ranks together. Arguments as of test_soak. */
#include "support/backends.h"
#include "support/check.h"
#include "support/trial.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOKEN_COUNT_MAX    8
#define HIDDEN_MAX         160
#define EXPERT_MAX         24
#define TOPK_MAX           8
#define ROUTES_ALIVE       3
#define ITERATIONS_A_ROUTE 250

typedef struct soak {
    uint64_t iteration_count;
    uint64_t seed;
    int32_t rank_count;
    world_mode_t mode;
    const char *backend;
    bool has_fp8;
} soak_t;

/* Every rank dawdles on its own: mostly not, sometimes a yield, rarely long enough to sleep. */
static void dawdle(const soak_t *soak, int32_t rank, uint64_t n)
{
    const uint64_t hash = payload_hash(soak->seed, 82, (uint64_t)rank, n);
    const struct timespec pause = {0, (long)(hash >> 40) % 100000};
    if (hash % 64 == 0) {
        nanosleep(&pause, NULL);
    } else if (hash % 8 == 0) {
        sched_yield();
    }
}

static void dawdle_between(trial_t *trial)
{
    const soak_t *soak = trial->self->arg;
    dawdle(soak, trial->self->rank, trial->scenario.variant * 4 + 3);
}

/* Room for all slots of the largest scenario, in fp32, with scales, red zones and odd offsets. */
static size_t window_bytes(const soak_t *soak)
{
    const size_t rows = (size_t)soak->rank_count * TOKEN_COUNT_MAX * EXPERT_MAX + 4;
    return rows * (HIDDEN_MAX + TOPK_MAX * 2 + 8) * sizeof(float) + 8192;
}

static bool open_route(trial_t *trial, world_rank_t *self, moxie_group_t *group,
                       const trial_memory_t *memory, uint64_t iteration)
{
    const soak_t *soak = self->arg;
    if (trial->self != NULL) {
        trial_close(trial);
    }
    const scenario_t scenario = scenario_random_low_latency(soak->seed + iteration, TOKEN_COUNT_MAX,
                                                            HIDDEN_MAX, soak->has_fp8);
    const bool good = trial_open(trial, self, group, &scenario, memory);
    trial->between = dawdle_between;
    return good;
}

/* Another routing, other types, halves or not. */
static bool change_route(trial_t *trial, uint64_t iteration)
{
    const soak_t *soak = trial->self->arg;
    const scenario_t other = scenario_random_low_latency(
        soak->seed + 7 * iteration, TOKEN_COUNT_MAX, HIDDEN_MAX, soak->has_fp8);
    scenario_t scenario = trial->scenario;
    scenario.variant = iteration;
    scenario.tokens = other.tokens;
    scenario.routing = other.routing;
    scenario.weights = other.weights;
    scenario.x_dtype = other.x_dtype;
    scenario.quantised = other.quantised;
    scenario.scale_type = other.scale_type;
    scenario.scale_layout = other.scale_layout;
    scenario.halves = other.halves;
    return trial_reroute(trial, &scenario);
}

static bool iterate(world_rank_t *self, moxie_group_t *group, const trial_memory_t *memory,
                    trial_t *trials, uint64_t iteration)
{
    const soak_t *soak = self->arg;
    const uint64_t choice = payload_hash(soak->seed, 83, iteration, 0);
    trial_t *trial = &trials[(choice >> 8) % ROUTES_ALIVE];
    dawdle(soak, self->rank, iteration * 4);
    if (iteration % ITERATIONS_A_ROUTE == 0) {
        for (uint64_t i = 0; i < ROUTES_ALIVE; i++) {
            if (!open_route(&trials[i], self, group, memory, iteration + i)) {
                return false;
            }
        }
    } else if ((choice >> 16) % 4 == 0 && !change_route(trial, iteration)) {
        return false;
    }
    dawdle(soak, self->rank, iteration * 4 + 1);
    return trial_step(trial, (int)(choice >> 24) & 1, iteration);
}

static void soak_rank(world_rank_t *self)
{
    const soak_t *soak = self->arg;
    moxie_group_t *group = world_group(self, "soak");
    const size_t bytes = window_bytes(soak);
    trial_memory_t memory = {NULL, NULL};
    trial_t trials[ROUTES_ALIVE];
    memset(trials, 0, sizeof(trials));
    bool good = group != NULL &&
                world_expect(self, "window_allocate",
                             moxie_window_allocate(group, bytes, &memory.outputs), MOXIE_OK) &&
                world_expect(self, "window_allocate",
                             moxie_window_allocate(group, bytes, &memory.inputs), MOXIE_OK);
    uint64_t iteration = 0;
    for (; good && iteration < soak->iteration_count; iteration++) {
        good = iterate(self, group, &memory, trials, iteration);
    }
    if (!good) {
        fprintf(stderr, "rank %d failed in iteration %" PRIu64 ", seed %" PRIu64 "\n", self->rank,
                iteration - 1, soak->seed);
    }
    for (size_t i = 0; i < ROUTES_ALIVE; i++) {
        if (trials[i].self != NULL) {
            trial_close(&trials[i]);
        }
    }
    moxie_window_free(memory.inputs);
    moxie_window_free(memory.outputs);
    moxie_group_destroy(group);
}

static void test_soak(void **state)
{
    const soak_t *soak = *state;
    soak_t copy = *soak;
    const world_options_t options = {.rank_count = soak->rank_count,
                                     .mode = soak->mode,
                                     .backend = soak->backend,
                                     .deadline_s = 3600};
    world_run(&options, soak_rank, &copy);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: %s ITERATIONS RANKS processes|threads [SEED]\n", argv[0]);
        return 2;
    }
    device_prepare_process();
    static soak_t soak;
    soak = (soak_t){.iteration_count = strtoull(argv[1], NULL, 10),
                    .seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1,
                    .rank_count = (int32_t)strtol(argv[2], NULL, 10),
                    .mode = strcmp(argv[3], "threads") == 0 ? WORLD_THREADS : WORLD_PROCESSES,
                    .backend = backends_wanted("shm")};
    found_backend_t found;
    char lack[MOXIE_ERROR_MESSAGE_BYTES] = "there is no such backend";
    if (!backends_find(soak.backend, &found) ||
        backends_lack(&found, soak.mode, soak.rank_count, lack, sizeof(lack))[0] != '\0') {
        printf("SKIPPED: backend %s: %s\n", soak.backend, lack);
        return EXIT_SKIPPED;
    }
    if ((found.info.capabilities & MOXIE_CAP_LOW_LATENCY) == 0) {
        printf("SKIPPED: backend %s has no low latency\n", soak.backend);
        return EXIT_SKIPPED;
    }
    soak.has_fp8 = (found.info.capabilities & MOXIE_CAP_FP8) != 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_soak, &soak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
