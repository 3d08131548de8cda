/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong arguments in low latency. What a rank finds out before its rows leave every rank is told
 * alike, by the call that sends them; the route goes on. */
#include "conformance/conformance.h"

#include "conformance/refusal.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ODD_RANK     1

static const scenario_t base = {.seed = 9500,
                                .mode = MOXIE_MODE_LOW_LATENCY,
                                .layout = MOXIE_LAYOUT_RANK_MAJOR,
                                .alignment = 1,
                                .hidden = 136,
                                .expert_count = 6,
                                .topk = 2,
                                .token_count_max = 5,
                                .tokens = TOKENS_FULL};

/* A dispatch and a combine, right before one rank spoils one of them. */
typedef struct calls {
    trial_t *trial;
    moxie_dispatch_in_t dispatch_in;
    moxie_dispatch_out_t dispatch_out;
    moxie_combine_in_t combine_in;
    moxie_combine_out_t combine_out;
    char *home; /* in no window */
} calls_t;

static void prepare(trial_t *trial, char *home, calls_t *calls)
{
    *calls = (calls_t){.trial = trial,
                       .dispatch_in = MOXIE_DISPATCH_IN_INIT,
                       .dispatch_out = MOXIE_DISPATCH_OUT_INIT,
                       .combine_in = MOXIE_COMBINE_IN_INIT,
                       .combine_out = MOXIE_COMBINE_OUT_INIT,
                       .home = home};
    calls->dispatch_in.x = home;
    calls->dispatch_in.wire_dtype = MOXIE_DTYPE_FP8_E4M3;
    (void)moxie_route_slots(trial->route, &calls->dispatch_out);
    if (trial->scenario.layout == MOXIE_LAYOUT_EXPERT_MAJOR) {
        char *window = moxie_window_base(trial->memory.outputs);
        calls->dispatch_out.recv_x = window;
        calls->dispatch_out.recv_scales =
            window + calls->dispatch_out.row_capacity * trial->scenario.hidden;
    }
    calls->combine_in.y = moxie_window_base(trial->memory.inputs);
    calls->combine_out.out = home;
}

static void x_is_missing(calls_t *calls)
{
    calls->dispatch_in.x = NULL;
}

static void other_scales(calls_t *calls)
{
    calls->dispatch_in.scale_type = MOXIE_SCALE_FP32_POW2;
}

static void rows_of_fp32(calls_t *calls)
{
    calls->dispatch_in.dtype = MOXIE_DTYPE_FP32;
    calls->dispatch_in.wire_dtype = MOXIE_DTYPE_FP32;
}

static void small_capacity(calls_t *calls)
{
    calls->dispatch_out.row_capacity--;
}

static void own_recv_x(calls_t *calls)
{
    calls->dispatch_out.recv_x = calls->home;
}

static void recv_x_is_missing(calls_t *calls)
{
    calls->dispatch_out.recv_x = NULL;
}

static void weights_of_expert_major(calls_t *calls)
{
    calls->dispatch_out.row_weight = (void *)calls->home;
}

static void counts_of_rank_major(calls_t *calls)
{
    calls->dispatch_out.source_count = (void *)calls->home;
}

static void y_in_the_slots(calls_t *calls)
{
    moxie_dispatch_out_t slots = MOXIE_DISPATCH_OUT_INIT;
    (void)moxie_route_slots(calls->trial->route, &slots);
    calls->combine_in.y = slots.recv_x;
}

static void y_in_no_window(calls_t *calls)
{
    calls->combine_in.y = calls->home;
}

static void out_is_missing(calls_t *calls)
{
    calls->combine_out.out = NULL;
}

#define ANY_LAYOUT   ((moxie_layout_t)0)
#define RANK_MAJOR   MOXIE_LAYOUT_RANK_MAJOR
#define EXPERT_MAJOR MOXIE_LAYOUT_EXPERT_MAJOR

static const struct {
    moxie_layout_t layout;
    bool is_combine;
    void (*spoil)(calls_t *calls);
    moxie_status_t wanted;
    const char *message;
} spoilt[] = {
    {ANY_LAYOUT, false, x_is_missing, MOXIE_ERR_ARGUMENT, "rank 1: x is NULL"},
    {ANY_LAYOUT, false, other_scales, MOXIE_ERR_MISMATCH,
     "scale_type is 2 on rank 1 and 1 on rank 0"},
    {ANY_LAYOUT, false, rows_of_fp32, MOXIE_ERR_UNSUPPORTED,
     "rank 1: low latency dispatches rows of bf16 and fp8, not of fp32"},
    {RANK_MAJOR, false, own_recv_x, MOXIE_ERR_ARGUMENT,
     "rank 1: recv_x is not the route's own, which moxie_route_slots() tells"},
    {RANK_MAJOR, false, weights_of_expert_major, MOXIE_ERR_ARGUMENT,
     "rank 1: row_weight, row_source and expert_start are of expert_major, the route is "
     "rank_major"},
    {EXPERT_MAJOR, false, counts_of_rank_major, MOXIE_ERR_ARGUMENT,
     "rank 1: recv_topk_idx, recv_topk_weights and source_count are of rank_major, the route is "
     "expert_major"},
    {EXPERT_MAJOR, false, recv_x_is_missing, MOXIE_ERR_ARGUMENT, "rank 1: recv_x is NULL"},
    {EXPERT_MAJOR, false, small_capacity, MOXIE_ERR_CAPACITY,
     "rank 1 receives 30 rows and its row_capacity is 29"},
    {RANK_MAJOR, true, y_in_the_slots, MOXIE_ERR_ARGUMENT,
     "rank 1: y lies in the route's slots, where the next rows may come"},
    {ANY_LAYOUT, true, y_in_no_window, MOXIE_ERR_WINDOW,
     "rank 1: y does not lie in a window of the group: allocate it with moxie_window_allocate()"},
    {ANY_LAYOUT, true, out_is_missing, MOXIE_ERR_ARGUMENT, "rank 1: out is NULL"},
};

static void expect_message(world_rank_t *self, const char *wanted)
{
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    if (!self->failed && strcmp(error.message, wanted) != 0) {
        world_fail(self, "the error says '%s', not '%s'", error.message, wanted);
    }
}

static void check_spoilt(trial_t *trial, size_t index, char *home)
{
    world_rank_t *self = trial->self;
    calls_t calls;
    prepare(trial, home, &calls);
    if (self->rank == ODD_RANK) {
        spoilt[index].spoil(&calls);
    }
    moxie_stream_t stream = device_stream(self->device);
    const moxie_status_t status =
        spoilt[index].is_combine
            ? moxie_combine(trial->route, &calls.combine_in, &calls.combine_out, stream)
            : moxie_dispatch(trial->route, &calls.dispatch_in, &calls.dispatch_out, stream);
    refusal_is_shared(self, trial->group, spoilt[index].message,
                      device_settle(self->device, trial->route, status), spoilt[index].wanted);
    expect_message(self, spoilt[index].message);
}

static void play_spoilt(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "spoilt");
    scenario_t scenario = base;
    scenario.layout = *(const moxie_layout_t *)self->arg;
    trial_t trial;
    if (group != NULL && trial_open(&trial, self, group, &scenario, NULL)) {
        char *home = device_allocate(self->device, 64 * (size_t)base.hidden * sizeof(float));
        for (size_t i = 0; i < COUNT(spoilt) && !self->failed; i++) {
            if (spoilt[i].layout != ANY_LAYOUT && spoilt[i].layout != scenario.layout) {
                continue;
            }
            trial_dispatch(&trial, i);
            check_spoilt(&trial, i, home);
            trial_recover(&trial);
            trial_dispatch(&trial, i);
            trial_combine(&trial, i);
        }
        device_free(self->device, home);
        trial_close(&trial);
    }
    moxie_group_destroy(group);
}

static void test_spoilt_calls(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY | MOXIE_CAP_FP8);
    moxie_layout_t layout = RANK_MAJOR;
    conformance_run(3, play_spoilt, &layout);
    layout = EXPERT_MAJOR;
    conformance_run(3, play_spoilt, &layout);
}

/* The update takes any routing; the dispatch tells all ranks what is wrong with it. */
static void play_bad_routing(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "routing");
    trial_t trial;
    if (group != NULL && trial_open(&trial, self, group, &base, NULL)) {
        device_t *device = self->device;
        char *home = device_allocate(device, 64 * (size_t)base.hidden * sizeof(float));
        calls_t calls;
        prepare(&trial, home, &calls);
        if (self->rank == ODD_RANK) {
            scenario_set_id(&trial.world, ODD_RANK, 3, 1, 6);
        }
        const device_routing_t routing =
            device_routing(device, &trial.world.routing[self->rank], base.topk);
        world_expect(self, "update",
                     moxie_route_update(trial.route, &routing.given, device_stream(device)),
                     MOXIE_OK);
        const moxie_status_t status = moxie_dispatch(trial.route, &calls.dispatch_in,
                                                     &calls.dispatch_out, device_stream(device));
        refusal_is_shared(self, group, "a routing with a wrong id",
                          device_settle(device, trial.route, status), MOXIE_ERR_ROUTING);
        const moxie_error_t wanted = refusal_of(ODD_RANK, 3, 1, -1, 6);
        refusal_is_like(self, "a routing with a wrong id", &wanted);
        /* On a device the status keeps the first failure. */
        world_expect(self, "a combine after it",
                     device_settle(device, trial.route,
                                   moxie_combine(trial.route, &calls.combine_in, &calls.combine_out,
                                                 device_stream(device))),
                     device_is_remote(device) ? MOXIE_ERR_ROUTING : MOXIE_ERR_ARGUMENT);
        device_routing_free(device, &routing);
        device_free(device, home);
        scenario_t next = base;
        next.variant = 1;
        if (trial_reroute(&trial, &next)) {
            trial_dispatch(&trial, 1);
        }
        trial_close(&trial);
    }
    moxie_group_destroy(group);
}

static void test_bad_routing(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY | MOXIE_CAP_FP8);
    conformance_run(3, play_bad_routing, NULL);
}

/* One rank dispatches and the others combine: all learn it, nobody waits for ever. */
static void play_different_calls(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "different");
    trial_t trial;
    if (group != NULL && trial_open(&trial, self, group, &base, NULL) &&
        trial_dispatch(&trial, 0)) {
        char *home = device_allocate(self->device, 64 * (size_t)base.hidden * sizeof(float));
        moxie_stream_t stream = device_stream(self->device);
        calls_t calls;
        prepare(&trial, home, &calls);
        const moxie_status_t status =
            self->rank == ODD_RANK
                ? moxie_dispatch(trial.route, &calls.dispatch_in, &calls.dispatch_out, stream)
                : moxie_combine(trial.route, &calls.combine_in, &calls.combine_out, stream);
        refusal_is_shared(self, group, "a dispatch and combines",
                          device_settle(self->device, trial.route, status), MOXIE_ERR_MISMATCH);
        trial_recover(&trial);
        trial_dispatch(&trial, 1);
        trial_combine(&trial, 1);
        device_free(self->device, home);
        trial_close(&trial);
    }
    moxie_group_destroy(group);
}

static void test_different_calls(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY | MOXIE_CAP_FP8);
    conformance_run(3, play_different_calls, NULL);
}

/* What a rank can tell by itself. */
static void check_local(trial_t *trial, const moxie_route_t *standard)
{
    world_rank_t *self = trial->self;
    moxie_stream_t stream = device_stream(self->device);
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    moxie_combine_in_t combine_in = MOXIE_COMBINE_IN_INIT;
    moxie_combine_out_t combine_out = MOXIE_COMBINE_OUT_INIT;
    const moxie_dispatch_backward_in_t backward_in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    const moxie_dispatch_backward_out_t backward_out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    moxie_route_t *plain = (moxie_route_t *)(uintptr_t)standard;
    world_expect(self, "backward",
                 moxie_dispatch_backward(trial->route, &backward_in, &backward_out, stream),
                 MOXIE_ERR_UNSUPPORTED);
    expect_message(self, "routes of low latency have no backward");
    world_expect(self, "slots of a standard route", moxie_route_slots(standard, &out),
                 MOXIE_ERR_UNSUPPORTED);
    world_expect(self, "half of a standard call", moxie_dispatch_send(plain, &in, stream),
                 MOXIE_ERR_UNSUPPORTED);
    expect_message(self, "dispatch_send: only routes of low latency have halves");
    world_expect(self, "a second half first", moxie_dispatch_receive(trial->route, &out, stream),
                 MOXIE_ERR_ARGUMENT);
    world_expect(self, "a second half first",
                 moxie_combine_receive(trial->route, &combine_out, stream), MOXIE_ERR_ARGUMENT);
    in.x = moxie_window_base(trial->memory.outputs);
    (void)moxie_route_slots(trial->route, &out);
    if (world_expect(self, "a first half", moxie_dispatch_send(trial->route, &in, stream),
                     MOXIE_OK)) {
        world_expect(self, "another first half",
                     moxie_combine_send(trial->route, &combine_in, stream), MOXIE_ERR_ARGUMENT);
        world_expect(self, "the second half", moxie_dispatch_receive(trial->route, &out, stream),
                     MOXIE_OK);
    }
}

static void check_options(world_rank_t *self, moxie_group_t *group)
{
    moxie_route_t *route = NULL;
    scenario_world_t world;
    scenario_build(&base, self->options->rank_count, &world);
    moxie_route_options_t options = scenario_route_options(&base, &world);
    options.alignment = 2;
    world_expect(self, "an alignment", moxie_route_create(group, &options, &route),
                 MOXIE_ERR_ARGUMENT);
    expect_message(self, "route option alignment is 2, allowed are 1 to 1");
    options.alignment = 1;
    options.row_capacity = 7;
    world_expect(self, "a capacity", moxie_route_create(group, &options, &route),
                 MOXIE_ERR_ARGUMENT);
    expect_message(self,
                   "route option row_capacity is 7, in low latency there is a slot for every row");
    options.row_capacity = 0;
    options.mode = (moxie_mode_t)2;
    world_expect(self, "no mode", moxie_route_create(group, &options, &route), MOXIE_ERR_ARGUMENT);
    expect_message(self, "route option mode 2 is no mode");
    options.mode = MOXIE_MODE_LOW_LATENCY;
    options.hidden += self->rank == ODD_RANK;
    refusal_is_shared(self, group, "another shape", moxie_route_create(group, &options, &route),
                      MOXIE_ERR_MISMATCH);
    expect_message(self, "hidden is 137 on rank 1 and 136 on rank 0");
    scenario_free(&world);
}

static void play_local(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "local");
    scenario_t standard = base;
    standard.mode = MOXIE_MODE_STANDARD;
    trial_t trials[2];
    if (group != NULL && trial_open(&trials[0], self, group, &base, NULL) &&
        trial_open(&trials[1], self, group, &standard, NULL)) {
        check_options(self, group);
        check_local(&trials[0], trials[1].route);
        trial_dispatch(&trials[0], 0);
        trial_close(&trials[0]);
        trial_close(&trials[1]);
    }
    moxie_group_destroy(group);
}

static void test_what_a_rank_finds_by_itself(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_LOW_LATENCY);
    conformance_run(2, play_local, NULL);
}

/* What a backend does not claim it refuses when the route is made. */
static void play_unclaimed(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "unclaimed");
    moxie_route_t *route = NULL;
    scenario_world_t world;
    scenario_build(&base, self->options->rank_count, &world);
    const moxie_route_options_t options = scenario_route_options(&base, &world);
    if (group != NULL) {
        world_expect(self, "a route of low latency", moxie_route_create(group, &options, &route),
                     MOXIE_ERR_UNSUPPORTED);
    }
    scenario_free(&world);
    moxie_group_destroy(group);
}

static void test_unclaimed(void **state)
{
    (void)state;
    conformance_require_not(MOXIE_CAP_LOW_LATENCY);
    conformance_run(2, play_unclaimed, NULL);
}

const struct CMUnitTest low_latency_refusal_tests[] = {
    cmocka_unit_test(test_spoilt_calls),    cmocka_unit_test(test_bad_routing),
    cmocka_unit_test(test_different_calls), cmocka_unit_test(test_what_a_rank_finds_by_itself),
    cmocka_unit_test(test_unclaimed),
};
const size_t low_latency_refusal_test_count = COUNT(low_latency_refusal_tests);
