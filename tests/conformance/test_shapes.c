/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes: sizes, placements, routings and rank counts, all four operations in both layouts. */
#include "conformance/conformance.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int32_t rank_counts[] = {1, 2, 3, 5, 8};

static void play_on_all_rank_counts(const scenario_t *scenarios, size_t count)
{
    for (size_t i = 0; i < COUNT(rank_counts); i++) {
        conformance_play(rank_counts[i], scenarios, count);
    }
}

static void test_hidden_sizes(void **state)
{
    (void)state;
    const scenario_t scenarios[] = {
        {.seed = 1, .hidden = 1, .expert_count = 5, .topk = 2, .token_count_max = 11},
        {.seed = 2, .hidden = 7, .expert_count = 9, .topk = 3, .token_count_max = 13},
        {.seed = 3, .hidden = 1024, .expert_count = 16, .topk = 8, .token_count_max = 12},
        {.seed = 4, .hidden = 2880, .expert_count = 13, .topk = 4, .token_count_max = 7},
        {.seed = 5, .hidden = 7168, .expert_count = 16, .topk = 8, .token_count_max = 5},
    };
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_topks(void **state)
{
    (void)state;
    const scenario_t scenarios[] = {
        {.seed = 11, .hidden = 40, .expert_count = 40, .topk = 1, .token_count_max = 33},
        {.seed = 12, .hidden = 40, .expert_count = 40, .topk = 8, .token_count_max = 33},
        {.seed = 13, .hidden = 40, .expert_count = 40, .topk = 32, .token_count_max = 33},
        {.seed = 14, .hidden = 9, .expert_count = 70, .topk = 64, .token_count_max = 9},
        {.seed = 15, .hidden = 9, .expert_count = 3, .topk = 5, .token_count_max = 21},
    };
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_token_counts(void **state)
{
    (void)state;
    const scenario_t base = {.hidden = 24, .expert_count = 11, .topk = 3, .token_count_max = 29};
    scenario_t scenarios[6];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = base;
        scenarios[i].seed = 20 + i;
    }
    scenarios[0].tokens = TOKENS_FULL;
    scenarios[1].tokens = TOKENS_SOME_EMPTY;
    scenarios[2].tokens = TOKENS_NONE;
    scenarios[3].tokens = TOKENS_NONE;
    scenarios[3].token_count_max = 0;
    scenarios[3].null_outputs = true;
    scenarios[4].tokens = TOKENS_FULL;
    scenarios[4].token_count_max = 1;
    scenarios[5].tokens = TOKENS_FULL;
    scenarios[5].token_count_max = 300;
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_placements(void **state)
{
    (void)state;
    const scenario_placement_t placements[] = {PLACEMENT_BLOCK, PLACEMENT_MAP, PLACEMENT_PERMUTED,
                                               PLACEMENT_SOME_EMPTY};
    const int32_t expert_counts[] = {1, 2, 7, 17};
    scenario_t scenarios[COUNT(placements) * COUNT(expert_counts)];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = (scenario_t){.seed = 30 + i,
                                    .hidden = 18,
                                    .expert_count = expert_counts[i / COUNT(placements)],
                                    .topk = 4,
                                    .token_count_max = 23,
                                    .placement = placements[i % COUNT(placements)],
                                    .alignment = i % 3 == 0 ? 16 : 1};
    }
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_routings(void **state)
{
    (void)state;
    const scenario_routing_t routings[] = {ROUTING_UNIFORM, ROUTING_HOLES, ROUTING_ONE_EXPERT};
    scenario_t scenarios[COUNT(routings) * 3];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = (scenario_t){.seed = 50 + i,
                                    .hidden = 33,
                                    .expert_count = 10,
                                    .topk = 6,
                                    .token_count_max = 40,
                                    .routing = routings[i % COUNT(routings)],
                                    .ids = (scenario_ids_t)(i / COUNT(routings))};
    }
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_alignments(void **state)
{
    (void)state;
    const int64_t alignments[] = {1, 2, 3, 16, 128};
    scenario_t scenarios[COUNT(alignments) * 2];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = (scenario_t){.seed = 70 + i,
                                    .hidden = 21,
                                    .expert_count = 9,
                                    .topk = 3,
                                    .token_count_max = 26,
                                    .alignment = alignments[i / 2],
                                    .routing = i % 2 == 0 ? ROUTING_HOLES : ROUTING_ONE_EXPERT,
                                    .x_dtype = i % 2 == 0 ? MOXIE_DTYPE_BF16 : MOXIE_DTYPE_FP32};
    }
    play_on_all_rank_counts(scenarios, COUNT(scenarios));
}

static void test_random_shapes(void **state)
{
    (void)state;
    scenario_t scenarios[20];
    for (size_t r = 0; r < COUNT(rank_counts); r++) {
        for (size_t i = 0; i < COUNT(scenarios); i++) {
            scenarios[i] = scenario_random(1000 * (r + 1) + i, 64, 600);
        }
        conformance_play(rank_counts[r], scenarios, COUNT(scenarios));
    }
}

const struct CMUnitTest shape_tests[] = {
    cmocka_unit_test(test_hidden_sizes),  cmocka_unit_test(test_topks),
    cmocka_unit_test(test_token_counts),  cmocka_unit_test(test_placements),
    cmocka_unit_test(test_routings),      cmocka_unit_test(test_alignments),
    cmocka_unit_test(test_random_shapes),
};
const size_t shape_test_count = COUNT(shape_tests);
