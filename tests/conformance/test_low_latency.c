/* SPDX-License-Identifier: Apache-2.0 */
/* Low latency: shapes, types, halves, routes that are used again in any order. */
#include "conformance/conformance.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define STEPS       60
#define TRIAL_COUNT 4

static const int32_t rank_counts[] = {1, 2, 3, 5, 8};

static scenario_t make_scenario(uint64_t seed, size_t i)
{
    return (scenario_t){.seed = seed + i,
                        .mode = MOXIE_MODE_LOW_LATENCY,
                        .hidden = i % 2 == 0 ? 40 : 129,
                        .expert_count = 11,
                        .topk = 3,
                        .token_count_max = 9,
                        .halves = i % 3 == 2};
}

static void play_on_all_rank_counts(const scenario_t *scenarios, size_t count)
{
    for (size_t r = 0; r < COUNT(rank_counts); r++) {
        conformance_play(rank_counts[r], scenarios, count);
    }
}

static void test_token_counts(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY);
    const scenario_tokens_t tokens[] = {TOKENS_RAGGED, TOKENS_FULL, TOKENS_SOME_EMPTY, TOKENS_NONE};
    scenario_t scenarios[3 * COUNT(tokens)];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = make_scenario(8000, i);
        scenarios[i].tokens = tokens[i % COUNT(tokens)];
        scenarios[i].token_count_max = i < 4 ? 1 : i < 8 ? 8 : 50;
        scenarios[i].null_outputs = i % 5 == 4;
    }
    scenarios[3].token_count_max = 0;
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_placements_and_routings(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY);
    scenario_t scenarios[24];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = make_scenario(8100, i);
        scenarios[i].placement = (scenario_placement_t)(i % 4);
        scenarios[i].routing = (scenario_routing_t)(i / 4 % 3);
        scenarios[i].ids = (scenario_ids_t)(i % 3);
        scenarios[i].expert_count = i % 5 == 0 ? 2 : 17;
        scenarios[i].topk = i % 2 == 0 ? 6 : 1;
    }
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_types(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY);
    scenario_t scenarios[16];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = make_scenario(8200, i);
        scenarios[i].y_dtype = i & 1 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].wire_dtype = i & 2 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].out_dtype = i & 4 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].weights = (scenario_weights_t)(i / 2 % 4);
        scenarios[i].unweighted = i % 5 == 0;
        scenarios[i].special = i % 3 == 0;
        scenarios[i].odd_fenv = i % 4 == 0;
    }
    conformance_play(3, scenarios, COUNT(scenarios));
}

static void test_fp8(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY | MOXIE_CAP_FP8);
    const int64_t hidden_sizes[] = {1, 127, 128, 513, 2880};
    scenario_t scenarios[30];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = make_scenario(8300, i);
        scenarios[i].hidden = hidden_sizes[i % COUNT(hidden_sizes)];
        scenarios[i].quantised = i % 2 == 0;
        scenarios[i].x_dtype = i % 2 == 0 ? MOXIE_DTYPE_BF16 : MOXIE_DTYPE_FP8_E4M3;
        scenarios[i].scale_type = (moxie_scale_type_t)(MOXIE_SCALE_FP32 + i / 2 % 3);
        scenarios[i].scale_layout = (moxie_scale_layout_t)(MOXIE_SCALES_ROW_MAJOR + i / 6 % 2);
        scenarios[i].special = i % 7 == 0;
    }
    conformance_play(1, scenarios, COUNT(scenarios));
    conformance_play(4, scenarios, COUNT(scenarios));
}

static void test_random(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY | MOXIE_CAP_FP8);
    scenario_t scenarios[20];
    for (size_t r = 0; r < COUNT(rank_counts); r++) {
        for (size_t i = 0; i < COUNT(scenarios); i++) {
            scenarios[i] = scenario_random_low_latency(8400 + 100 * r + i, 20, 600, true);
        }
        conformance_play(rank_counts[r], scenarios, COUNT(scenarios));
    }
}

/* Several routes at once, their calls in a random order that all ranks share: two dispatches, or
 * two combines, may follow each other; routings change between them. */
static void play_mixed(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "mixed");
    trial_t trials[TRIAL_COUNT];
    memset(trials, 0, sizeof(trials));
    bool good = group != NULL;
    for (size_t i = 0; good && i < TRIAL_COUNT; i++) {
        const scenario_t scenario = scenario_random_low_latency(8900 + i, 12, 200, false);
        good = trial_open(&trials[i], self, group, &scenario, NULL);
    }
    for (uint64_t i = 0; good && i < STEPS; i++) {
        const uint64_t choice = payload_hash(8950, i, 0, 0);
        trial_t *trial = &trials[choice % TRIAL_COUNT];
        if ((choice >> 16) % 4 == 0) {
            scenario_t scenario = trial->scenario;
            scenario.variant++;
            good = trial_reroute(trial, &scenario);
        }
        good = good && trial_step(trial, (int)((choice >> 8) % TRIAL_STEP_COUNT), i);
    }
    for (size_t i = 0; i < TRIAL_COUNT; i++) {
        if (trials[i].self != NULL) {
            trial_close(&trials[i]);
        }
    }
    moxie_group_destroy(group);
}

static void test_any_order(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY);
    conformance_run(2, play_mixed, NULL);
    conformance_run(4, play_mixed, NULL);
}

const struct CMUnitTest low_latency_tests[] = {
    cmocka_unit_test(test_token_counts), cmocka_unit_test(test_placements_and_routings),
    cmocka_unit_test(test_types),        cmocka_unit_test(test_fp8),
    cmocka_unit_test(test_random),       cmocka_unit_test(test_any_order),
};
const size_t low_latency_test_count = COUNT(low_latency_tests);
