/* SPDX-License-Identifier: Apache-2.0 */
/* Routes that are used again, several at once, in several groups at once. */
#include "conformance/conformance.h"

#include <stdio.h>
#include <string.h>

#define COUNT(array)  (sizeof(array) / sizeof((array)[0]))
#define TRIAL_COUNT   4
#define CACHED_ROUNDS 5
#define MIXED_STEPS   60

static scenario_t mixed_scenario(uint64_t seed)
{
    scenario_t scenario = scenario_random(seed, 30, 200);
    scenario.odd_fenv = false;
    return scenario;
}

/* One route, new payload each round. */
static void play_cached(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "cached");
    if (group == NULL) {
        return;
    }
    for (uint64_t seed = 1; seed <= 6 && !self->failed; seed++) {
        const scenario_t scenario = mixed_scenario(7000 + seed);
        trial_t trial;
        bool good = trial_open(&trial, self, group, &scenario, NULL);
        for (uint64_t round = 0; good && round < CACHED_ROUNDS; round++) {
            for (int step = 0; good && step < TRIAL_STEP_COUNT; step++) {
                good = trial_step(&trial, step, round);
            }
        }
        trial_close(&trial);
    }
    moxie_group_destroy(group);
}

static void test_cached_routes(void **state)
{
    (void)state;
    conformance_run(1, play_cached, NULL);
    conformance_run(4, play_cached, NULL);
}

/* Several routes at once, their steps in a random order that all ranks share; combine does not
 * always follow dispatch. */
static void play_mixed(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "mixed");
    if (group == NULL) {
        return;
    }
    trial_t trials[TRIAL_COUNT];
    memset(trials, 0, sizeof(trials));
    size_t opened = 0;
    bool good = true;
    for (; good && opened < TRIAL_COUNT; opened++) {
        const scenario_t scenario = mixed_scenario(7100 + opened);
        good = trial_open(&trials[opened], self, group, &scenario, NULL);
    }
    for (uint64_t i = 0; good && i < MIXED_STEPS; i++) {
        const uint64_t choice = payload_hash(7200, i, 0, 0);
        good =
            trial_step(&trials[choice % TRIAL_COUNT], (int)((choice >> 8) % TRIAL_STEP_COUNT), i);
    }
    while (opened > 0) {
        trial_close(&trials[--opened]);
    }
    moxie_group_destroy(group);
}

static void test_several_routes_in_flight(void **state)
{
    (void)state;
    conformance_run(2, play_mixed, NULL);
    conformance_run(3, play_mixed, NULL);
}

/* Two groups of the same ranks, their steps in turn. */
static void play_groups(world_rank_t *self)
{
    moxie_group_t *groups[2] = {NULL, NULL};
    trial_t trials[2];
    memset(trials, 0, sizeof(trials));
    bool good = true;
    for (size_t i = 0; good && i < 2; i++) {
        char name[16];
        snprintf(name, sizeof(name), "group%zu", i);
        groups[i] = world_group(self, name);
        const scenario_t scenario = mixed_scenario(7300 + i);
        good = groups[i] != NULL && trial_open(&trials[i], self, groups[i], &scenario, NULL);
    }
    for (uint64_t i = 0; good && i < MIXED_STEPS; i++) {
        good = trial_step(&trials[i % 2], (int)(i / 2 % TRIAL_STEP_COUNT), i);
    }
    for (size_t i = 0; i < 2; i++) {
        if (trials[i].self != NULL) {
            trial_close(&trials[i]);
        }
        moxie_group_destroy(groups[i]);
    }
}

static void test_several_groups_in_flight(void **state)
{
    (void)state;
    conformance_run(3, play_groups, NULL);
}

/* One route, a new routing each time: nothing of an earlier one may remain. */
static void play_updates(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "updates");
    if (group == NULL) {
        return;
    }
    scenario_t scenario = mixed_scenario(7400);
    scenario.token_count_max = 40;
    trial_t trial;
    bool good = trial_open(&trial, self, group, &scenario, NULL);
    for (uint64_t variant = 1; good && variant <= 12; variant++) {
        scenario.variant = variant;
        scenario.tokens = (scenario_tokens_t)(variant % 4);
        scenario.routing = (scenario_routing_t)(variant % 3);
        scenario.weights = (scenario_weights_t)(variant / 2 % 4);
        good = trial_reroute(&trial, &scenario);
        for (int step = 0; good && step < TRIAL_STEP_COUNT; step++) {
            good = trial_step(&trial, step, variant);
        }
    }
    trial_close(&trial);
    moxie_group_destroy(group);
}

static void test_a_route_is_updated_again_and_again(void **state)
{
    (void)state;
    conformance_run(3, play_updates, NULL);
}

const struct CMUnitTest route_tests[] = {
    cmocka_unit_test(test_cached_routes),
    cmocka_unit_test(test_several_routes_in_flight),
    cmocka_unit_test(test_several_groups_in_flight),
    cmocka_unit_test(test_a_route_is_updated_again_and_again),
};
const size_t route_test_count = COUNT(route_tests);
