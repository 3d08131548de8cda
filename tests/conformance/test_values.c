/* SPDX-License-Identifier: Apache-2.0 */
/* Values: types, roundings, NaNs and friends, weights, the caller's floating-point modes. */
#include "conformance/conformance.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Hidden sizes around every vector width, so that kernels' tails are met. */
static const int64_t tails[] = {1,  3,  8,  15,  16,  17,  31,  32,  33,
                                63, 64, 65, 127, 255, 256, 257, 511, 700};

static scenario_t base_scenario(uint64_t seed, size_t i)
{
    return (scenario_t){.seed = seed + i,
                        .hidden = tails[i % COUNT(tails)],
                        .expert_count = 9,
                        .topk = 4,
                        .token_count_max = 14,
                        .routing = i % 3 == 2 ? ROUTING_HOLES : ROUTING_UNIFORM};
}

/* Every combination of the types of x, y, wire and output. */
static void test_dtypes(void **state)
{
    (void)state;
    const moxie_dtype_t dtypes[] = {MOXIE_DTYPE_BF16, MOXIE_DTYPE_FP32};
    scenario_t scenarios[16 * COUNT(tails) / 2];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = base_scenario(2000, i / 8);
        scenarios[i].x_dtype = dtypes[i & 1];
        scenarios[i].y_dtype = dtypes[i & 1];
        scenarios[i].wire_dtype = dtypes[(i >> 1) & 1];
        scenarios[i].out_dtype = dtypes[(i >> 2) & 1];
    }
    conformance_play(3, scenarios, COUNT(scenarios));
}

static void test_odd_payload(void **state)
{
    (void)state;
    scenario_t scenarios[2 * COUNT(tails)];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = base_scenario(3000, i);
        scenarios[i].special = true;
        scenarios[i].y_dtype = i % 2 == 0 ? MOXIE_DTYPE_BF16 : MOXIE_DTYPE_FP32;
        scenarios[i].x_dtype = i % 3 == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].wire_dtype = i % 5 == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].out_dtype = i % 7 == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
    }
    conformance_play(2, scenarios, COUNT(scenarios));
    conformance_play(3, scenarios, COUNT(scenarios));
}

static void test_weights(void **state)
{
    (void)state;
    scenario_t scenarios[4 * 6];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = base_scenario(4000, i);
        scenarios[i].weights = (scenario_weights_t)(i % 4);
        scenarios[i].unweighted = (i / 4) % 2 == 1;
        scenarios[i].y_dtype = i % 3 == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].out_dtype = i % 5 == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
    }
    conformance_play(3, scenarios, COUNT(scenarios));
}

/* Rounding upward and flushing subnormals in the caller change no bit, and stay as they were. */
static void test_callers_floating_point_modes(void **state)
{
    (void)state;
    scenario_t scenarios[COUNT(tails)];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = base_scenario(5000, i);
        scenarios[i].odd_fenv = true;
        scenarios[i].special = i % 2 == 0;
        scenarios[i].weights = i % 4 == 0 ? WEIGHTS_ODD : WEIGHTS_PLAIN;
        scenarios[i].y_dtype = i % 3 == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].wire_dtype = i % 4 == 1 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
        scenarios[i].out_dtype = i % 5 == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
    }
    conformance_play(2, scenarios, COUNT(scenarios));
    conformance_play(3, scenarios, COUNT(scenarios));
}

static void test_outputs_left_out_on_some_ranks(void **state)
{
    (void)state;
    scenario_t scenarios[24];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = base_scenario(6000, i);
        scenarios[i].null_outputs = true;
        scenarios[i].alignment = i % 2 == 0 ? 1 : 16;
        scenarios[i].tokens = i % 5 == 0 ? TOKENS_SOME_EMPTY : TOKENS_RAGGED;
    }
    conformance_play(1, scenarios, COUNT(scenarios));
    conformance_play(4, scenarios, COUNT(scenarios));
}

/* Every knob of the backend at its smallest: no spinning, everything past the caches … */
static void play_knobs(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "names");
    moxie_knob_info_t knob = MOXIE_KNOB_INFO_INIT;
    for (size_t i = 0; group != NULL && moxie_group_knob(group, i, &knob) == MOXIE_OK; i++) {
        const moxie_knob_setting_t setting = {knob.name, knob.value_min};
        moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
        options.knobs = &setting;
        options.knob_count = 1;
        char name[16];
        snprintf(name, sizeof(name), "knob%zu", i);
        moxie_group_t *set = world_group_with(self, name, &options);
        for (uint64_t seed = 0; set != NULL && seed < 24 && !self->failed; seed++) {
            scenario_t scenario = scenario_random(6500 + seed, 40, 700);
            scenario.aligned = seed % 2 == 0;
            scenario.hidden = scenario.aligned ? (scenario.hidden + 63) / 64 * 64 : scenario.hidden;
            trial_play(self, set, &scenario);
        }
        moxie_group_destroy(set);
    }
    moxie_group_destroy(group);
}

static void test_knobs(void **state)
{
    (void)state;
    conformance_run(3, play_knobs, NULL);
}

const struct CMUnitTest value_tests[] = {
    cmocka_unit_test(test_dtypes),
    cmocka_unit_test(test_odd_payload),
    cmocka_unit_test(test_weights),
    cmocka_unit_test(test_callers_floating_point_modes),
    cmocka_unit_test(test_outputs_left_out_on_some_ranks),
    cmocka_unit_test(test_knobs),
};
const size_t value_test_count = COUNT(value_tests);
