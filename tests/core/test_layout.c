/* SPDX-License-Identifier: Apache-2.0 */
/* Route states of all ranks made in one process: every hop against the reference, and
 * layout_check() on states that were broken on purpose. */
#include "support/check.h"
#include "support/scenario.h"

#include "core/layout.h"

#include <stdlib.h>
#include <string.h>

#define RANKS_MAX 5
#define LINE      64

typedef struct states {
    scenario_t scenario;
    scenario_world_t world;
    route_state_t *of_rank[RANKS_MAX];
    int32_t rank_count;
} states_t;

static route_state_t *make_state(const states_t *states, int32_t rank)
{
    const scenario_t *scenario = &states->scenario;
    const route_shape_t shape = {.rank = rank,
                                 .rank_count = states->rank_count,
                                 .expert_count = scenario->expert_count,
                                 .topk = scenario->topk,
                                 .layout = (int32_t)scenario->layout,
                                 .hidden = scenario->hidden,
                                 .token_count_max = scenario->token_count_max,
                                 .alignment = scenario->alignment};
    assert_ok(route_shape_check(&shape));
    route_state_t plan;
    route_state_plan(&shape, &plan);
    route_state_t *state = aligned_alloc(LINE, (plan.bytes + LINE - 1) / LINE * LINE);
    assert_non_null(state);
    memset(state, 0xA5, plan.bytes);
    *state = plan;
    return state;
}

/* Counts on every rank, then everybody's counts to everybody, then what follows from them. */
static void make_states(const scenario_t *scenario, int32_t rank_count, states_t *states)
{
    *states = (states_t){.scenario = scenario_complete(scenario), .rank_count = rank_count};
    scenario_build(&states->scenario, rank_count, &states->world);
    for (int32_t rank = 0; rank < rank_count; rank++) {
        states->of_rank[rank] = make_state(states, rank);
        assert_ok(route_state_count(states->of_rank[rank], states->world.placement,
                                    &states->world.routing[rank]));
    }
    for (int32_t rank = 0; rank < rank_count; rank++) {
        for (int32_t source = 0; source < rank_count; source++) {
            if (source == rank) {
                continue;
            }
            memcpy(route_row_count(states->of_rank[rank], source),
                   route_row_count(states->of_rank[source], source),
                   sizeof(int64_t) * (size_t)rank_count);
            memcpy(route_expert_count(states->of_rank[rank], source),
                   route_expert_count(states->of_rank[source], source),
                   sizeof(int64_t) * (size_t)scenario->expert_count);
        }
    }
    for (int32_t rank = 0; rank < rank_count; rank++) {
        route_state_derive(states->of_rank[rank], states->world.placement);
    }
}

static void free_states(states_t *states)
{
    for (int32_t rank = 0; rank < states->rank_count; rank++) {
        free(states->of_rank[rank]);
    }
    scenario_free(&states->world);
}

/* Row (rank, token) of x is these two numbers. */
static const void *name_row(void *ctx, int32_t rank, int64_t row)
{
    float *name = ctx;
    name[0] = (float)rank;
    name[1] = (float)row;
    return name;
}

/* What the reference delivers to `peer` lies where the hops of all ranks say, and nothing else. */
static void check_hops(const states_t *states, int32_t peer)
{
    moxie_world_t world = states->world.world;
    world.hidden = 2;
    int64_t row_count = -1;
    assert_ok(moxie_reference_recv_rows(&world, peer, &row_count));
    assert_int_equal(states->of_rank[peer]->recv_row_count, row_count);
    float *rows = calloc((size_t)row_count + 1, 2 * sizeof(float));
    moxie_row_source_t *sources = calloc((size_t)row_count + 1, sizeof(*sources));
    assert_true(rows != NULL && sources != NULL);
    float name[2];
    const moxie_row_reader_t x = {name_row, name, MOXIE_DTYPE_FP32};
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = row_count;
    out.recv_x = rows;
    out.row_source = sources;
    assert_ok(moxie_reference_dispatch(&world, peer, &x, &out));
    for (int32_t rank = 0; rank < states->rank_count; rank++) {
        const route_state_t *state = states->of_rank[rank];
        for (int64_t token = 0; token < state->token_count; token++) {
            for (int64_t i = route_hop_start(state)[token]; i < route_hop_start(state)[token + 1];
                 i++) {
                const route_hop_t *hop = &route_hops(state)[i];
                if (hop->rank != peer) {
                    continue;
                }
                assert_in_range(hop->row, 0, row_count - 1);
                assert_true(rows[2 * hop->row] == (float)rank);
                assert_true(rows[2 * hop->row + 1] == (float)token);
                if (world.layout == MOXIE_LAYOUT_EXPERT_MAJOR) {
                    assert_int_equal(sources[hop->row].slot, hop->slot);
                }
            }
        }
    }
    free(rows);
    free(sources);
}

static void test_hops_agree_with_the_reference(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        const scenario_t scenario = scenario_random(seed, 30, 8);
        states_t states;
        make_states(&scenario, (int32_t)(1 + seed % RANKS_MAX), &states);
        for (int32_t rank = 0; rank < states.rank_count; rank++) {
            assert_ok(layout_check(states.of_rank[rank], states.world.placement));
            check_hops(&states, rank);
            const int64_t worst =
                layout_worst_case(&states.of_rank[rank]->shape,
                                  moxie_placement_local_count(states.world.placement, rank));
            assert_in_range(states.of_rank[rank]->recv_row_count, 0, worst);
        }
        free_states(&states);
    }
}

/* A state may move: it holds offsets only. */
static void test_states_can_move(void **state)
{
    (void)state;
    const scenario_t scenario = scenario_random(5, 30, 8);
    states_t states;
    make_states(&scenario, 3, &states);
    route_state_t *old = states.of_rank[1];
    const size_t bytes = old->bytes;
    route_state_t *moved = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);
    assert_non_null(moved);
    memcpy(moved, old, bytes);
    memset(old, 0x5A, bytes);
    free(old);
    states.of_rank[1] = moved;
    assert_ok(layout_check(moved, states.world.placement));
    free_states(&states);
}

static const scenario_t breakable = {.seed = 6,
                                     .hidden = 4,
                                     .expert_count = 7,
                                     .topk = 3,
                                     .token_count_max = 12,
                                     .alignment = 2,
                                     .tokens = TOKENS_FULL};

/* Each breaks one thing of rank 1's state. */
static void break_a_row(route_state_t *state)
{
    route_hops(state)[4].row++;
}

static void break_a_rank(route_state_t *state)
{
    route_hops(state)[4].rank ^= 1;
}

static void break_the_last_row(route_state_t *state)
{
    route_hops(state)[route_hop_start(state)[state->token_count] - 1].row--;
}

static void break_row_counts(route_state_t *state)
{
    route_row_count(state, 0)[1]++;
}

static void break_expert_counts(route_state_t *state)
{
    route_expert_count(state, 2)[3]++;
}

static void break_own_counts(route_state_t *state)
{
    route_row_count(state, 1)[0]--;
    route_expert_count(state, 1)[0]--;
}

static void break_needs(route_state_t *state)
{
    route_recv_count(state)[2]++;
}

static void break_own_need(route_state_t *state)
{
    state->recv_row_count++;
}

static void break_logical_rows(route_state_t *state)
{
    state->logical_row_count--;
}

static void break_block_starts(route_state_t *state)
{
    route_block_start(state)[1]++;
}

static void break_hop_starts(route_state_t *state)
{
    route_hop_start(state)[3]++;
}

static void break_a_missing_hop(route_state_t *state)
{
    route_hop_start(state)[state->token_count]--;
}

static void break_hop_order(route_state_t *state)
{
    /* A token whose hops go to two ranks, the two swapped: sums would run the other way. */
    for (int64_t token = 0; token < state->token_count; token++) {
        const int64_t first = route_hop_start(state)[token];
        route_hop_t *hops = route_hops(state);
        if (route_hop_start(state)[token + 1] - first < 2 ||
            hops[first].rank == hops[first + 1].rank) {
            continue;
        }
        const route_hop_t hop = hops[first];
        hops[first] = hops[first + 1];
        hops[first + 1] = hop;
        return;
    }
    fail_msg("no token goes to two ranks");
}

static void break_an_expert(route_state_t *state)
{
    route_experts(state, 2)[1] = (route_experts(state, 2)[1] + 1) % state->shape.expert_count;
}

static const struct {
    const char *name;
    void (*apply)(route_state_t *state);
    int expert_major_only;
    int rank_major_only;
} breaks[] = {
    {"a row", break_a_row, 0, 0},
    {"a rank", break_a_rank, 0, 0},
    {"the last row", break_the_last_row, 0, 0},
    {"row counts", break_row_counts, 0, 1},
    {"expert counts", break_expert_counts, 1, 0},
    {"own counts", break_own_counts, 0, 0},
    {"needs", break_needs, 0, 0},
    {"own need", break_own_need, 0, 0},
    {"logical rows", break_logical_rows, 0, 0},
    {"block starts", break_block_starts, 1, 0},
    {"hop starts", break_hop_starts, 0, 0},
    {"a missing hop", break_a_missing_hop, 0, 0},
    {"order of hops", break_hop_order, 0, 0},
    {"an expert", break_an_expert, 1, 0},
};

static void check_break(moxie_layout_t layout, size_t index)
{
    scenario_t scenario = breakable;
    scenario.layout = layout;
    states_t states;
    make_states(&scenario, 3, &states);
    assert_ok(layout_check(states.of_rank[1], states.world.placement));
    breaks[index].apply(states.of_rank[1]);
    if (layout_check(states.of_rank[1], states.world.placement) != MOXIE_ERR_INTERNAL) {
        fail_msg("%s broken in layout %d: layout_check accepts it", breaks[index].name,
                 (int)layout);
    }
    free_states(&states);
}

static void test_layout_check_can_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
        if (!breaks[i].expert_major_only) {
            check_break(MOXIE_LAYOUT_RANK_MAJOR, i);
        }
        if (!breaks[i].rank_major_only) {
            check_break(MOXIE_LAYOUT_EXPERT_MAJOR, i);
        }
    }
}

static void test_shapes_that_no_route_has(void **state)
{
    (void)state;
    const route_shape_t good = {.rank_count = 2,
                                .expert_count = 4,
                                .topk = 2,
                                .layout = MOXIE_LAYOUT_RANK_MAJOR,
                                .hidden = 8,
                                .token_count_max = 4,
                                .alignment = 1};
    assert_ok(route_shape_check(&good));
    route_shape_t shapes[8];
    for (size_t i = 0; i < 8; i++) {
        shapes[i] = good;
    }
    shapes[0].expert_count = 0;
    shapes[1].topk = 0;
    shapes[2].topk = MOXIE_TOPK_MAX + 1;
    shapes[3].hidden = 0;
    shapes[4].token_count_max = -1;
    shapes[5].alignment = 0;
    shapes[6].layout = 3;
    shapes[7].hidden = INT64_MAX;
    for (size_t i = 0; i < 8; i++) {
        assert_status(route_shape_check(&shapes[i]), MOXIE_ERR_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hops_agree_with_the_reference),
        cmocka_unit_test(test_states_can_move),
        cmocka_unit_test(test_layout_check_can_fail),
        cmocka_unit_test(test_shapes_that_no_route_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
