/* SPDX-License-Identifier: Apache-2.0 */
/* Plays a scenario: a trial's life, its windows, and what its steps share. */
#include "support/trial.h"

#include "support/trial_step.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool allocate_windows(trial_t *trial)
{
    arena_t dispatch, gradients, y, d_recv;
    trial_plan_dispatch(trial, &dispatch);
    trial_plan_d_y(trial, &gradients);
    trial_plan_y(trial, &y);
    trial_plan_d_recv(trial, &d_recv);
    trial->owns_memory = true;
    return trial_expect(trial, "window_allocate of outputs",
                        moxie_window_allocate(trial->group, larger(dispatch.bytes, gradients.bytes),
                                              &trial->memory.outputs)) &&
           trial_expect(trial, "window_allocate of inputs",
                        moxie_window_allocate(trial->group, larger(y.bytes, d_recv.bytes),
                                              &trial->memory.inputs));
}

/* (source rank, token) pairs that arrive at `rank`, from all ranks or from one. */
static int64_t pairs_at(const scenario_world_t *world, int32_t rank, int32_t only_source)
{
    moxie_world_t plain = world->world;
    moxie_routing_t *routing = calloc((size_t)world->rank_count, sizeof(*routing));
    if (routing == NULL) {
        abort();
    }
    for (int32_t source = 0; source < world->rank_count; source++) {
        routing[source] = world->routing[source];
        if (only_source >= 0 && source != only_source) {
            routing[source].token_count = 0;
        }
    }
    plain.routing = routing;
    plain.layout = MOXIE_LAYOUT_RANK_MAJOR;
    plain.mode = MOXIE_MODE_STANDARD;
    int64_t count = -1;
    (void)moxie_reference_recv_rows(&plain, rank, &count);
    free(routing);
    return count;
}

static bool expect_count(trial_t *trial, const char *name, int64_t got, int64_t expected)
{
    if (got == expected) {
        return true;
    }
    world_fail(trial->self, "%s: %s is %" PRId64 ", not %" PRId64, trial->what, name, got,
               expected);
    return false;
}

bool trial_check_rows(trial_t *trial)
{
    const int32_t rank = trial->self->rank;
    const int64_t logical = pairs_at(&trial->world, rank, -1);
    const int64_t wire = logical - pairs_at(&trial->world, rank, rank);
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    return trial_expect(trial, "extent", moxie_route_extent(trial->route, &extent)) &&
           expect_count(trial, "logical_row_count", extent.logical_row_count, logical) &&
           expect_count(trial, "wire_row_count", extent.wire_row_count, wire);
}

static bool check_extent(trial_t *trial)
{
    const int32_t rank = trial->self->rank;
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    int64_t need = -1;
    if (!trial_expect(trial, "extent", moxie_route_extent(trial->route, &extent)) ||
        !trial_expect(trial, "reference_recv_rows",
                      moxie_reference_recv_rows(&trial->world.world, rank, &need))) {
        return false;
    }
    trial->token_count = trial->world.routing[rank].token_count;
    trial->recv_row_count = need;
    trial->row_capacity =
        need + (int64_t)(payload_hash(trial->scenario.seed, 77, (uint64_t)rank, 0) % 4);
    return expect_count(trial, "token_count", extent.token_count, trial->token_count) &&
           expect_count(trial, "recv_row_count", extent.recv_row_count, need) &&
           (trial->scenario.mode == MOXIE_MODE_LOW_LATENCY || trial_check_rows(trial)) &&
           expect_count(trial, "local_expert_count", extent.local_expert_count,
                        moxie_placement_local_count(trial->world.placement, rank));
}

/* A call that brings a routing: an update, or a dispatch where `in` is given. */
typedef struct routing_call {
    const moxie_dispatch_in_t *in; /* NULL: an update */
    const moxie_dispatch_out_t *out;
} routing_call_t;

static moxie_status_t make_call(const trial_t *trial, const routing_call_t *call,
                                const moxie_routing_t *routing)
{
    moxie_stream_t stream = device_stream(trial->self->device);
    return call->in == NULL
               ? moxie_route_update(trial->route, routing, stream)
               : moxie_dispatch_routing(trial->route, routing, call->in, call->out, stream);
}

/* In low latency on a device the dispatches read the routing: it stays where it is. */
static moxie_status_t call_for_dispatches(trial_t *trial, const routing_call_t *call)
{
    device_t *device = trial->self->device;
    const int32_t topk = trial->scenario.topk;
    if (trial->routing == NULL) {
        trial->routing =
            device_create(device, device_routing_bytes(trial->scenario.token_count_max, topk) + 1);
    }
    const device_routing_t routing =
        device_routing_into(device, &trial->world.routing[trial->self->rank], topk, trial->routing);
    return make_call(trial, call, &routing.given);
}

/* The call alone reads the routing: it is scrambled right behind it. */
static moxie_status_t call_and_scramble(const trial_t *trial, const routing_call_t *call)
{
    device_t *device = trial->self->device;
    const device_routing_t routing =
        device_routing(device, &trial->world.routing[trial->self->rank], trial->scenario.topk);
    const moxie_status_t status = make_call(trial, call, &routing.given);
    device_routing_scramble(device, &routing);
    device_synchronise(device);
    device_routing_free(device, &routing);
    return status;
}

static moxie_status_t call_with_routing(trial_t *trial, const routing_call_t *call)
{
    const bool is_read_later =
        trial->scenario.mode == MOXIE_MODE_LOW_LATENCY && device_is_remote(trial->self->device);
    return is_read_later ? call_for_dispatches(trial, call) : call_and_scramble(trial, call);
}

/* So that nothing of it can be left from the update that has told the trial its rows. */
static moxie_status_t update_to_another_variant(const trial_t *trial)
{
    scenario_t scenario = trial->scenario;
    scenario_world_t world;
    scenario.variant += 1000;
    scenario_build(&scenario, trial->self->options->rank_count, &world);
    const moxie_status_t status = device_update(trial->self->device, trial->route,
                                                &world.routing[trial->self->rank], scenario.topk);
    scenario_free(&world);
    return status;
}

moxie_status_t trial_call_dispatch_routing(trial_t *trial, const moxie_dispatch_in_t *in,
                                           const moxie_dispatch_out_t *out)
{
    const moxie_status_t status = update_to_another_variant(trial);
    return status != MOXIE_OK ? status : call_with_routing(trial, &(routing_call_t){in, out});
}

static bool update(trial_t *trial)
{
    device_t *device = trial->self->device;
    trial->has_dispatched = false;
    const trial_fenv_t fenv = trial_fenv_enter(trial);
    moxie_status_t status = call_with_routing(trial, &(routing_call_t){NULL, NULL});
    const bool kept = trial_fenv_leave(trial, fenv);
    status = device_settle(device, trial->route, status);
    return kept && trial_expect(trial, "route_update", status) &&
           trial_expect(trial, "route_status", moxie_route_status(trial->route)) &&
           trial_expect(trial, "layout_check", moxie_layout_check(trial->route));
}

/* A route whose state takes exactly what the quote says, in memory of ours. */
static void provide_state(trial_t *trial, moxie_route_options_t *options)
{
    moxie_group_options_t group = MOXIE_GROUP_OPTIONS_INIT;
    group.rank = trial->self->rank;
    group.rank_count = trial->self->options->rank_count;
    group.backend = trial->self->options->backend;
    moxie_route_quote_t quote = MOXIE_ROUTE_QUOTE_INIT;
    if (!trial_expect(trial, "route_memory_quote",
                      moxie_route_memory_quote(&group, options, &quote))) {
        return;
    }
    trial->state = aligned_alloc(64, (quote.state_bytes + 63) / 64 * 64);
    if (trial->state == NULL) {
        abort();
    }
    memset(trial->state, 0xA5, quote.state_bytes);
    options->state = trial->state;
    options->state_bytes = quote.state_bytes;
}

bool trial_open(trial_t *trial, world_rank_t *self, moxie_group_t *group,
                const scenario_t *scenario, const trial_memory_t *memory)
{
    *trial = (trial_t){.self = self, .group = group, .scenario = scenario_complete(scenario)};
    scenario_describe(&trial->scenario, trial->what, sizeof(trial->what));
    scenario_build(&trial->scenario, self->options->rank_count, &trial->world);
    moxie_route_options_t options = scenario_route_options(&trial->scenario, &trial->world);
    if (trial->scenario.own_state && !device_is_remote(self->device)) {
        provide_state(trial, &options);
    }
    if (!trial_expect(trial, "route_create", moxie_route_create(group, &options, &trial->route)) ||
        !update(trial) || !check_extent(trial)) {
        return false;
    }
    if (memory == NULL) {
        return allocate_windows(trial);
    }
    trial->memory = *memory;
    return true;
}

static void free_windows(trial_t *trial)
{
    if (trial->owns_memory) {
        moxie_window_free(trial->memory.inputs);
        moxie_window_free(trial->memory.outputs);
    }
    trial->memory = (trial_memory_t){NULL, NULL};
}

bool trial_reroute(trial_t *trial, const scenario_t *scenario)
{
    const bool has_slots = trial->scenario.mode == MOXIE_MODE_LOW_LATENCY;
    scenario_free(&trial->world);
    if (!has_slots) {
        free_windows(trial);
    }
    trial->scenario = scenario_complete(scenario);
    scenario_describe(&trial->scenario, trial->what, sizeof(trial->what));
    scenario_build(&trial->scenario, trial->self->options->rank_count, &trial->world);
    return update(trial) && check_extent(trial) && (has_slots || allocate_windows(trial));
}

bool trial_recover(trial_t *trial)
{
    return !device_is_remote(trial->self->device) || update(trial);
}

void trial_close(trial_t *trial)
{
    moxie_route_destroy(trial->route);
    if (trial->routing != NULL) {
        device_destroy(trial->self->device, trial->routing);
    }
    free(trial->state);
    free_windows(trial);
    scenario_free(&trial->world);
}

bool trial_step(trial_t *trial, int step, uint64_t round)
{
    if (trial->scenario.mode == MOXIE_MODE_LOW_LATENCY) {
        return step % 2 == 0 || !trial->has_dispatched ? trial_dispatch(trial, round)
                                                       : trial_combine(trial, round);
    }
    switch (step) {
    case 0:
        return trial_dispatch(trial, round);
    case 1:
        return trial_combine(trial, round);
    case 2:
        return trial_dispatch_backward(trial, round);
    default:
        return trial_combine_backward(trial, round);
    }
}

bool trial_play(world_rank_t *self, moxie_group_t *group, const scenario_t *scenario)
{
    trial_t trial;
    bool good = trial_open(&trial, self, group, scenario, NULL);
    for (int step = 0; good && step < TRIAL_STEP_COUNT; step++) {
        good = trial_step(&trial, step, 0);
    }
    trial_close(&trial);
    return good;
}
