/* SPDX-License-Identifier: Apache-2.0 */
/* Back-to-back low-latency calls on a few routes, in random order, with new routings and types and
 * random delays in each rank, every output compared with the reference. Nothing but the calls
 * themselves keeps the ranks together. Arguments: soak/soak.h. */
#include "soak/soak.h"

#define TOKEN_COUNT_MAX    8
#define HIDDEN_MAX         160
#define EXPERT_MAX         24
#define TOPK_MAX           8
#define ITERATIONS_A_ROUTE 250

static void dawdle_between(trial_t *trial)
{
    const soak_t *soak = trial->self->arg;
    soak_dawdle(soak, trial->self->rank, trial->scenario.variant * 4 + 3);
}

/* Room for all slots of the largest scenario, in fp32, with scales, red zones and odd offsets. */
static size_t window_bytes(const soak_t *soak)
{
    const size_t rows = (size_t)soak->rank_count * TOKEN_COUNT_MAX * EXPERT_MAX + 4;
    return rows * (HIDDEN_MAX + TOPK_MAX * 2 + 8) * sizeof(float) + 8192;
}

static bool has_fp8(const soak_t *soak)
{
    return (soak->backend.info.capabilities & MOXIE_CAP_FP8) != 0;
}

static bool open_route(trial_t *trial, world_rank_t *self, moxie_group_t *group,
                       const trial_memory_t *memory, uint64_t iteration)
{
    const soak_t *soak = self->arg;
    if (trial->self != NULL) {
        trial_close(trial);
    }
    const scenario_t scenario = scenario_random_low_latency(soak->seed + iteration, TOKEN_COUNT_MAX,
                                                            HIDDEN_MAX, has_fp8(soak));
    const bool good = trial_open(trial, self, group, &scenario, memory);
    trial->between = dawdle_between;
    return good;
}

/* Another routing, other types, halves or not. */
static bool change_route(trial_t *trial, uint64_t iteration)
{
    const soak_t *soak = trial->self->arg;
    const scenario_t other = scenario_random_low_latency(
        soak->seed + 7 * iteration, TOKEN_COUNT_MAX, HIDDEN_MAX, has_fp8(soak));
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
    trial_t *trial = &trials[(choice >> 8) % SOAK_ROUTES_ALIVE];
    soak_dawdle(soak, self->rank, iteration * 4);
    if (iteration % ITERATIONS_A_ROUTE == 0) {
        for (uint64_t i = 0; i < SOAK_ROUTES_ALIVE; i++) {
            if (!open_route(&trials[i], self, group, memory, iteration + i)) {
                return false;
            }
        }
    } else if ((choice >> 16) % 4 == 0 && !change_route(trial, iteration)) {
        return false;
    }
    soak_dawdle(soak, self->rank, iteration * 4 + 1);
    return trial_step(trial, (int)(choice >> 24) & 1, iteration);
}

int main(int argc, char **argv)
{
    static soak_t soak = {.iterate = iterate,
                          .window_bytes = window_bytes,
                          .capabilities = MOXIE_CAP_LOW_LATENCY,
                          .one_yields_of = 8,
                          .one_sleeps_of = 64,
                          .sleep_ns_max = 100000};
    return soak_main(argc, argv, &soak);
}
