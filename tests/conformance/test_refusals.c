/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong routings, differing shapes and small capacities: every rank gets the same error with the
 * same details, and the group goes on. */
#include "conformance/conformance.h"

#include "conformance/refusal.h"

#include <stdio.h>
#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const scenario_t base = {.seed = 8000,
                                .hidden = 12,
                                .expert_count = 10,
                                .topk = 4,
                                .token_count_max = 20,
                                .tokens = TOKENS_FULL};

/* One wrong id of a routing. */
typedef struct wrong_id {
    int32_t rank;
    int64_t token;
    int32_t slot;
    int64_t id; /* TWICE: what the token's first slot has */
} wrong_id_t;

#define TWICE INT64_MIN

typedef struct wrong_routing {
    scenario_ids_t ids;
    wrong_id_t wrong[3];
    size_t wrong_count;
} wrong_routing_t;

static int64_t first_id(const scenario_world_t *world, int32_t rank, int64_t token)
{
    const moxie_routing_t *routing = &world->routing[rank];
    const int64_t index = token * world->world.topk;
    return routing->index_type == MOXIE_INDEX_INT64 ? ((const int64_t *)routing->topk_idx)[index]
                                                    : ((const int32_t *)routing->topk_idx)[index];
}

/* Rows that a rank receives at most, of whatever layout. */
static int64_t rows_max(const world_rank_t *self, const scenario_t *scenario)
{
    return self->options->rank_count * scenario->token_count_max * scenario->topk +
           scenario->expert_count * scenario->alignment;
}

/* How a route is given a routing. */
typedef enum giving {
    BY_UPDATE,
    BY_DISPATCH, /* which brings it */
    GIVING_COUNT,
} giving_t;

/* The settled status. */
static moxie_status_t give_routing(world_rank_t *self, moxie_group_t *group, moxie_route_t *route,
                                   const scenario_t *scenario, const moxie_routing_t *routing,
                                   giving_t giving)
{
    device_t *device = self->device;
    if (giving == BY_UPDATE) {
        return device_update(device, route, routing, scenario->topk);
    }
    const size_t row_bytes = (size_t)scenario->hidden * sizeof(uint16_t);
    moxie_window_t *window = NULL;
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = rows_max(self, scenario);
    if (!world_expect(self, "window_allocate",
                      moxie_window_allocate(group, (size_t)out.row_capacity * row_bytes, &window),
                      MOXIE_OK)) {
        return MOXIE_ERR_INTERNAL;
    }
    void *x = device_allocate(device, ((size_t)routing->token_count + 1) * row_bytes);
    in.x = x;
    out.recv_x = moxie_window_base(window);
    const device_routing_t copy = device_routing(device, routing, scenario->topk);
    moxie_status_t status =
        moxie_dispatch_routing(route, &copy.given, &in, &out, device_stream(device));
    device_routing_scramble(device, &copy);
    status = device_settle(device, route, status);
    device_synchronise(device);
    device_routing_free(device, &copy);
    device_free(device, x);
    world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    moxie_window_free(window);
    return status;
}

/* The expected error is the reference's, which looks at all ranks' routings. */
static bool check_wrong_routing(world_rank_t *self, moxie_group_t *group,
                                const wrong_routing_t *wrong, moxie_layout_t layout,
                                giving_t giving)
{
    scenario_t scenario = scenario_complete(&base);
    scenario.ids = wrong->ids;
    scenario.layout = layout;
    scenario_world_t world;
    scenario_build(&scenario, self->options->rank_count, &world);
    for (size_t i = 0; i < wrong->wrong_count; i++) {
        const wrong_id_t *id = &wrong->wrong[i];
        const int32_t rank = id->rank % self->options->rank_count;
        scenario_set_id(&world, rank, id->token, id->slot,
                        id->id == TWICE ? first_id(&world, rank, id->token) : id->id);
    }
    moxie_error_t expected = MOXIE_ERROR_INIT;
    if (moxie_reference_check(&world.world) != MOXIE_ERR_ROUTING) {
        world_fail(self, "the reference accepts the wrong routing");
    }
    (void)moxie_last_error(&expected);

    const moxie_route_options_t options = scenario_route_options(&scenario, &world);
    moxie_route_t *route = NULL;
    bool good =
        world_expect(self, "route_create", moxie_route_create(group, &options, &route), MOXIE_OK);
    if (good) {
        const moxie_status_t status =
            give_routing(self, group, route, &scenario, &world.routing[self->rank], giving);
        good = refusal_is_shared(self, group, "wrong routing", status, MOXIE_ERR_ROUTING) &&
               refusal_is_like(self, "wrong routing", &expected);
    }
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    good = good &&
           world_expect(self, "status of a refused route", moxie_route_status(route),
                        MOXIE_ERR_ROUTING) &&
           refusal_is_like(self, "route_status", &expected);
    if (good && moxie_route_extent(route, &extent) == MOXIE_OK) {
        world_fail(self, "a refused route has an extent");
        good = false;
    }
    moxie_route_destroy(route);
    scenario_free(&world);
    return good;
}

static void play_wrong_routings(world_rank_t *self)
{
    const wrong_routing_t cases[] = {
        {IDS_INT32, {{0, 0, 0, 10}}, 1},
        {IDS_INT32, {{1, 19, 3, -2}}, 1},
        {IDS_INT64, {{2, 7, 1, (int64_t)1 << 32}}, 1},
        {IDS_INT64, {{2, 7, 1, INT64_MAX}}, 1},
        {IDS_INT32, {{1, 5, 2, TWICE}}, 1},
        {IDS_MIXED, {{2, 19, 3, TWICE}}, 1},
        {IDS_MIXED, {{2, 3, 2, TWICE}, {1, 18, 3, 99}, {1, 18, 1, TWICE}}, 3},
        {IDS_INT32, {{0, 9, 0, INT32_MIN}, {1, 1, 0, 10}, {2, 0, 0, 10}}, 3},
    };
    moxie_group_t *group = world_group(self, "wrong");
    if (group == NULL) {
        return;
    }
    for (size_t i = 0; i < COUNT(cases) && !self->failed; i++) {
        if (check_wrong_routing(self, group, &cases[i], MOXIE_LAYOUT_RANK_MAJOR, BY_UPDATE) &&
            check_wrong_routing(self, group, &cases[i], MOXIE_LAYOUT_RANK_MAJOR, BY_DISPATCH) &&
            check_wrong_routing(self, group, &cases[i], MOXIE_LAYOUT_EXPERT_MAJOR, BY_DISPATCH)) {
            trial_play(self, group, &base); /* the group works on */
        }
    }
    moxie_group_destroy(group);
}

static void test_wrong_routings(void **state)
{
    (void)state;
    conformance_run(1, play_wrong_routings, NULL);
    conformance_run(3, play_wrong_routings, NULL);
}

/* The n-th way in which one rank's shape can differ. */
#define SHAPE_COUNT 7

static scenario_t differing(const scenario_t *scenario, int n)
{
    scenario_t other = *scenario;
    switch (n) {
    case 0:
        other.hidden++;
        break;
    case 1:
        other.expert_count++;
        break;
    case 2:
        other.topk--;
        break;
    case 3:
        other.token_count_max++;
        break;
    case 4:
        other.alignment = 8;
        break;
    case 5:
        other.layout = MOXIE_LAYOUT_EXPERT_MAJOR;
        break;
    default:
        other.placement = PLACEMENT_MAP;
        break;
    }
    other.tokens = TOKENS_NONE; /* so that ids fit every shape */
    return other;
}

static void play_differing_shapes(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "shapes");
    if (group == NULL) {
        return;
    }
    for (int n = 0; n < 2 * SHAPE_COUNT && !self->failed; n++) {
        const int32_t odd_one = n < SHAPE_COUNT ? self->options->rank_count - 1 : 0;
        const scenario_t complete = scenario_complete(&base);
        const scenario_t scenario =
            self->rank == odd_one ? differing(&complete, n % SHAPE_COUNT) : complete;
        scenario_world_t world;
        scenario_build(&scenario, self->options->rank_count, &world);
        const moxie_route_options_t options = scenario_route_options(&scenario, &world);
        moxie_route_t *route = NULL;
        char what[40];
        snprintf(what, sizeof(what), "differing shape %d", n);
        if (world_expect(self, what, moxie_route_create(group, &options, &route), MOXIE_OK)) {
            refusal_is_shared(
                self, group, what,
                device_update(self->device, route, &world.routing[self->rank], scenario.topk),
                MOXIE_ERR_MISMATCH);
        }
        moxie_route_destroy(route);
        scenario_free(&world);
        if (!self->failed) {
            trial_play(self, group, &base);
        }
    }
    moxie_group_destroy(group);
}

static void test_differing_shapes(void **state)
{
    (void)state;
    conformance_run(3, play_differing_shapes, NULL);
}

/* Updates a route whose capacity is `capacity_change` rows more than rank `narrow` needs. */
static bool check_capacity(world_rank_t *self, moxie_group_t *group, moxie_layout_t layout,
                           int32_t narrow, int64_t capacity_change, giving_t giving)
{
    scenario_t scenario = scenario_complete(&base);
    scenario.layout = layout;
    scenario.alignment = layout == MOXIE_LAYOUT_EXPERT_MAJOR ? 16 : 1;
    scenario_world_t world;
    scenario_build(&scenario, self->options->rank_count, &world);
    int64_t need = -1;
    bool good = world_expect(self, "reference_recv_rows",
                             moxie_reference_recv_rows(&world.world, narrow, &need), MOXIE_OK);
    moxie_route_options_t options = scenario_route_options(&scenario, &world);
    if (self->rank == narrow) {
        options.row_capacity = need + capacity_change;
    }
    moxie_route_t *route = NULL;
    good = good && world_expect(self, "route_create", moxie_route_create(group, &options, &route),
                                MOXIE_OK);
    if (good) {
        const moxie_status_t status =
            give_routing(self, group, route, &scenario, &world.routing[self->rank], giving);
        if (capacity_change >= 0) {
            good = world_expect(self, "capacity of exactly the need", status, MOXIE_OK);
        } else {
            moxie_error_t expected = refusal_of(narrow, -1, -1, need, need + capacity_change);
            good = refusal_is_shared(self, group, "capacity", status, MOXIE_ERR_CAPACITY) &&
                   refusal_is_like(self, "capacity", &expected);
        }
    }
    moxie_route_destroy(route);
    scenario_free(&world);
    return good;
}

static void play_small_capacities(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "capacity");
    if (group == NULL) {
        return;
    }
    const moxie_layout_t layouts[] = {MOXIE_LAYOUT_RANK_MAJOR, MOXIE_LAYOUT_EXPERT_MAJOR};
    for (size_t i = 0; i < COUNT(layouts); i++) {
        for (int32_t narrow = 0; narrow < self->options->rank_count; narrow++) {
            for (int64_t change = -2; change <= 0; change++) {
                for (int giving = 0; giving < GIVING_COUNT && !self->failed; giving++) {
                    if (check_capacity(self, group, layouts[i], narrow, change, (giving_t)giving)) {
                        trial_play(self, group, &base);
                    }
                }
            }
        }
    }
    moxie_group_destroy(group);
}

static void test_small_capacities(void **state)
{
    (void)state;
    conformance_run(1, play_small_capacities, NULL);
    conformance_run(3, play_small_capacities, NULL);
}

/* More tokens on one rank than the shape allows. */
static void check_too_many_tokens(world_rank_t *self, moxie_group_t *group, giving_t giving)
{
    const scenario_t scenario = scenario_complete(&base);
    scenario_world_t world;
    scenario_build(&scenario, self->options->rank_count, &world);
    moxie_route_options_t options = scenario_route_options(&scenario, &world);
    options.token_count_max -= 1;
    moxie_routing_t routing = world.routing[self->rank];
    if (self->rank != 1) {
        routing.token_count = options.token_count_max;
    }
    moxie_route_t *route = NULL;
    const moxie_error_t expected =
        refusal_of(1, -1, -1, options.token_count_max, options.token_count_max + 1);
    if (world_expect(self, "route_create", moxie_route_create(group, &options, &route), MOXIE_OK) &&
        refusal_is_shared(self, group, "too many tokens",
                          give_routing(self, group, route, &scenario, &routing, giving),
                          MOXIE_ERR_ARGUMENT) &&
        refusal_is_like(self, "too many tokens", &expected)) {
        trial_play(self, group, &base);
    }
    moxie_route_destroy(route);
    scenario_free(&world);
}

static void play_too_many_tokens(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "tokens");
    for (int giving = 0; group != NULL && giving < GIVING_COUNT && !self->failed; giving++) {
        check_too_many_tokens(self, group, (giving_t)giving);
    }
    moxie_group_destroy(group);
}

static void test_too_many_tokens(void **state)
{
    (void)state;
    conformance_run(3, play_too_many_tokens, NULL);
}

/* A dispatch that would be right if the route had a routing. */
static moxie_status_t dispatch_nothing(const trial_t *trial)
{
    const size_t row_bytes = (size_t)trial->scenario.hidden * sizeof(uint16_t);
    device_t *device = trial->self->device;
    void *x = device_allocate(device, ((size_t)trial->token_count + 1) * row_bytes);
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    in.x = x;
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = trial->row_capacity;
    out.recv_x = moxie_window_base(trial->memory.outputs);
    const moxie_status_t status = device_settle(
        device, trial->route, moxie_dispatch(trial->route, &in, &out, device_stream(device)));
    device_free(device, x);
    return status;
}

/* A route that had a routing and is given a wrong one keeps none. */
static void play_a_route_loses_its_routing(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "loses");
    if (group == NULL) {
        return;
    }
    trial_t trial;
    if (trial_open(&trial, self, group, &base, NULL)) {
        moxie_routing_t wrong = trial.world.routing[self->rank];
        if (self->rank == 1) {
            scenario_set_id(&trial.world, 1, 2, 1, 4711);
        }
        refusal_is_shared(self, group, "wrong routing",
                          device_update(self->device, trial.route, &wrong, trial.scenario.topk),
                          MOXIE_ERR_ROUTING);
        moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
        if (moxie_route_extent(trial.route, &extent) == MOXIE_OK ||
            moxie_layout_check(trial.route) == MOXIE_OK) {
            world_fail(self, "a refused route has a routing");
        }
        refusal_is_shared(self, group, "dispatch without a routing", dispatch_nothing(&trial),
                          MOXIE_ERR_ARGUMENT);
        if (!self->failed && trial_reroute(&trial, &base)) {
            trial_dispatch(&trial, 1);
        }
    }
    trial_close(&trial);
    moxie_group_destroy(group);
}

static void test_a_route_loses_its_routing(void **state)
{
    (void)state;
    conformance_run(3, play_a_route_loses_its_routing, NULL);
}

const struct CMUnitTest refusal_tests[] = {
    cmocka_unit_test(test_wrong_routings),
    cmocka_unit_test(test_differing_shapes),
    cmocka_unit_test(test_small_capacities),
    cmocka_unit_test(test_too_many_tokens),
    cmocka_unit_test(test_a_route_loses_its_routing),
};
const size_t refusal_test_count = COUNT(refusal_tests);
