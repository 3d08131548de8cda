/* SPDX-License-Identifier: Apache-2.0 */
/* Back-to-back randomized exchanges with random delays in each rank, every output compared with the
 * reference. Arguments: soak/soak.h. */
#include "soak/soak.h"

#define TOKEN_COUNT_MAX 64
#define HIDDEN_MAX      512
#define ALIGNMENT_MAX   128
#define EXPERT_MAX      24
#define TOPK_MAX        8
#define STEPS_A_ROUTE   4

/* Room for the largest scenario, in fp32, with padding, red zones and odd offsets. */
static size_t window_bytes(const soak_t *soak)
{
    const size_t tokens = (size_t)soak->rank_count * TOKEN_COUNT_MAX;
    const size_t rows = tokens * TOPK_MAX + (size_t)EXPERT_MAX * ALIGNMENT_MAX + 4;
    return rows * (HIDDEN_MAX + TOPK_MAX * 2 + 4) * sizeof(float) + 4096;
}

/* Each slot holds a route for a few iterations, then a new scenario takes it over. */
static bool iterate(world_rank_t *self, moxie_group_t *group, const trial_memory_t *memory,
                    trial_t *trials, uint64_t iteration)
{
    const soak_t *soak = self->arg;
    const uint64_t choice = payload_hash(soak->seed, 83, iteration, 0);
    trial_t *trial = &trials[iteration % SOAK_ROUTES_ALIVE];
    soak_dawdle(soak, self->rank, 2 * iteration);
    if (iteration / SOAK_ROUTES_ALIVE % STEPS_A_ROUTE == 0) {
        if (trial->self != NULL) {
            trial_close(trial);
        }
        const scenario_t scenario =
            scenario_random(soak->seed + iteration, TOKEN_COUNT_MAX, HIDDEN_MAX);
        if (!trial_open(trial, self, group, &scenario, memory)) {
            return false;
        }
    }
    soak_dawdle(soak, self->rank, 2 * iteration + 1);
    return trial_step(trial, (int)(choice % TRIAL_STEP_COUNT), iteration);
}

int main(int argc, char **argv)
{
    static soak_t soak = {.iterate = iterate,
                          .window_bytes = window_bytes,
                          .one_yields_of = 4,
                          .one_sleeps_of = 16,
                          .sleep_ns_max = 200000};
    return soak_main(argc, argv, &soak);
}
