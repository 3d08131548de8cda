/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong arguments of dispatch, combine and their backward on one rank: every rank is refused alike,
 * no output is written, and the group goes on. */
#include "conformance/conformance.h"

#include "conformance/refusal.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ODD_RANK     1

static const moxie_layout_t layouts[] = {MOXIE_LAYOUT_EXPERT_MAJOR, MOXIE_LAYOUT_RANK_MAJOR};

static const scenario_t base = {.seed = 8500,
                                .hidden = 20,
                                .expert_count = 6,
                                .topk = 2,
                                .token_count_max = 15,
                                .tokens = TOKENS_FULL,
                                .x_dtype = MOXIE_DTYPE_FP32}; /* windows for either type */

static scenario_t base_of(moxie_layout_t layout)
{
    scenario_t scenario = base;
    scenario.layout = layout;
    return scenario;
}

/* All structs of the calls, right before one rank spoils them. */
typedef struct calls {
    moxie_routing_t routing; /* in memory for the library */
    moxie_dispatch_in_t dispatch_in;
    moxie_dispatch_out_t dispatch_out;
    moxie_combine_in_t combine_in;
    moxie_combine_out_t combine_out;
    moxie_dispatch_backward_in_t dispatch_backward_in;
    moxie_dispatch_backward_out_t dispatch_backward_out;
    moxie_combine_backward_in_t combine_backward_in;
    moxie_combine_backward_out_t combine_backward_out;
    char *outputs;        /* in a window */
    size_t outputs_bytes; /* of that window */
    char *inputs;         /* in a window */
    char *home;
    size_t rows_bytes; /* of all received rows */
    size_t home_bytes; /* of all rows at home */
    int64_t need;
} calls_t;

static void prepare(const trial_t *trial, char *home, const device_routing_t *routing,
                    calls_t *calls)
{
    const size_t row_bytes = (size_t)trial->scenario.hidden * sizeof(uint16_t);
    *calls = (calls_t){.routing = routing->given,
                       .dispatch_in = MOXIE_DISPATCH_IN_INIT,
                       .dispatch_out = MOXIE_DISPATCH_OUT_INIT,
                       .combine_in = MOXIE_COMBINE_IN_INIT,
                       .combine_out = MOXIE_COMBINE_OUT_INIT,
                       .dispatch_backward_in = MOXIE_DISPATCH_BACKWARD_IN_INIT,
                       .dispatch_backward_out = MOXIE_DISPATCH_BACKWARD_OUT_INIT,
                       .combine_backward_in = MOXIE_COMBINE_BACKWARD_IN_INIT,
                       .combine_backward_out = MOXIE_COMBINE_BACKWARD_OUT_INIT,
                       .outputs = moxie_window_base(trial->memory.outputs),
                       .outputs_bytes = moxie_window_bytes(trial->memory.outputs),
                       .inputs = moxie_window_base(trial->memory.inputs),
                       .home = home,
                       .rows_bytes = (size_t)trial->recv_row_count * row_bytes,
                       .home_bytes = (size_t)trial->token_count * row_bytes,
                       .need = trial->recv_row_count};
    calls->dispatch_in.x = home;
    calls->dispatch_out.row_capacity = calls->need;
    calls->dispatch_out.recv_x = calls->outputs;
    calls->combine_in.y = calls->inputs;
    calls->combine_out.out = home;
    calls->dispatch_backward_in.d_recv_x = calls->inputs;
    calls->dispatch_backward_in.d_recv_weights = (const float *)(void *)calls->inputs;
    calls->dispatch_backward_out.d_x = home;
    calls->dispatch_backward_out.d_topk_weights =
        (float *)(void *)(home + (calls->home_bytes + 3) / 4 * 4);
    calls->combine_backward_in.d_out = home;
    calls->combine_backward_in.y = calls->inputs;
    calls->combine_backward_out.row_capacity = calls->need;
    calls->combine_backward_out.d_y = calls->outputs;
    if (trial->scenario.layout == MOXIE_LAYOUT_EXPERT_MAJOR) { /* else it has no weights */
        calls->combine_backward_out.d_topk_weights = calls->dispatch_backward_out.d_topk_weights;
    }
}

enum call { DISPATCH, DISPATCH_ROUTING, COMBINE, DISPATCH_BACKWARD, COMBINE_BACKWARD };

static moxie_status_t start_call(moxie_route_t *route, enum call call, const calls_t *calls,
                                 moxie_stream_t stream)
{
    switch (call) {
    case DISPATCH:
        return moxie_dispatch(route, &calls->dispatch_in, &calls->dispatch_out, stream);
    case DISPATCH_ROUTING:
        return moxie_dispatch_routing(route, &calls->routing, &calls->dispatch_in,
                                      &calls->dispatch_out, stream);
    case COMBINE:
        return moxie_combine(route, &calls->combine_in, &calls->combine_out, stream);
    case DISPATCH_BACKWARD:
        return moxie_dispatch_backward(route, &calls->dispatch_backward_in,
                                       &calls->dispatch_backward_out, stream);
    case COMBINE_BACKWARD:
        break;
    }
    return moxie_combine_backward(route, &calls->combine_backward_in, &calls->combine_backward_out,
                                  stream);
}

static moxie_status_t run_call(const trial_t *trial, enum call call, const calls_t *calls)
{
    device_t *device = trial->self->device;
    return device_settle(device, trial->route,
                         start_call(trial->route, call, calls, device_stream(device)));
}

static void capacity_of_dispatch(calls_t *calls)
{
    calls->dispatch_out.row_capacity--;
}

static void capacity_of_combine_backward(calls_t *calls)
{
    calls->combine_backward_out.row_capacity--;
}

static void recv_x_in_no_window(calls_t *calls)
{
    calls->dispatch_out.recv_x = calls->home;
}

static void recv_x_over_the_end(calls_t *calls)
{
    calls->dispatch_out.recv_x = calls->outputs + calls->outputs_bytes - sizeof(uint16_t);
}

static void y_in_no_window(calls_t *calls)
{
    calls->combine_in.y = calls->home;
}

static void d_recv_x_in_no_window(calls_t *calls)
{
    calls->dispatch_backward_in.d_recv_x = calls->home;
}

static void d_y_in_no_window(calls_t *calls)
{
    calls->combine_backward_out.d_y = calls->home;
}

static void other_x_type(calls_t *calls)
{
    calls->dispatch_in.dtype = MOXIE_DTYPE_FP32;
}

static void other_wire_type(calls_t *calls)
{
    calls->combine_in.wire_dtype = MOXIE_DTYPE_FP32;
}

static void other_weighting(calls_t *calls)
{
    calls->combine_in.unweighted = 1;
}

static void x_is_no_type(calls_t *calls)
{
    calls->dispatch_in.dtype = (moxie_dtype_t)17;
}

static void wire_is_fp8(calls_t *calls)
{
    calls->combine_in.wire_dtype = MOXIE_DTYPE_FP8_E4M3;
}

static void out_is_no_type(calls_t *calls)
{
    calls->combine_out.dtype = (moxie_dtype_t)0;
}

static void x_is_missing(calls_t *calls)
{
    calls->dispatch_in.x = NULL;
}

static void recv_x_is_missing(calls_t *calls)
{
    calls->dispatch_out.recv_x = NULL;
}

static void y_is_missing(calls_t *calls)
{
    calls->combine_in.y = NULL;
}

static void out_is_missing(calls_t *calls)
{
    calls->combine_out.out = NULL;
}

static void gradient_without_weights(calls_t *calls)
{
    calls->combine_backward_in.unweighted = 1;
    calls->combine_backward_out.d_topk_weights = calls->dispatch_backward_out.d_topk_weights;
}

static const struct {
    const char *name;
    enum call call;
    void (*spoil)(calls_t *calls);
    moxie_status_t wanted;
} spoilt[] = {
    {"small capacity of dispatch", DISPATCH, capacity_of_dispatch, MOXIE_ERR_CAPACITY},
    {"small capacity of d_y", COMBINE_BACKWARD, capacity_of_combine_backward, MOXIE_ERR_CAPACITY},
    {"recv_x in no window", DISPATCH, recv_x_in_no_window, MOXIE_ERR_WINDOW},
    {"recv_x beyond its window", DISPATCH, recv_x_over_the_end, MOXIE_ERR_WINDOW},
    {"y in no window", COMBINE, y_in_no_window, MOXIE_ERR_WINDOW},
    {"d_recv_x in no window", DISPATCH_BACKWARD, d_recv_x_in_no_window, MOXIE_ERR_WINDOW},
    {"d_y in no window", COMBINE_BACKWARD, d_y_in_no_window, MOXIE_ERR_WINDOW},
    {"another type of x", DISPATCH, other_x_type, MOXIE_ERR_MISMATCH},
    {"another wire type", COMBINE, other_wire_type, MOXIE_ERR_MISMATCH},
    {"weighted and not", COMBINE, other_weighting, MOXIE_ERR_MISMATCH},
    {"x of no type", DISPATCH, x_is_no_type, MOXIE_ERR_ARGUMENT},
    {"a wire type not done yet", COMBINE, wire_is_fp8, MOXIE_ERR_UNSUPPORTED},
    {"out of no type", COMBINE, out_is_no_type, MOXIE_ERR_ARGUMENT},
    {"x is missing", DISPATCH, x_is_missing, MOXIE_ERR_ARGUMENT},
    {"y is missing", COMBINE, y_is_missing, MOXIE_ERR_ARGUMENT},
    {"out is missing", COMBINE, out_is_missing, MOXIE_ERR_ARGUMENT},
    {"recv_x is missing", DISPATCH, recv_x_is_missing, MOXIE_ERR_ARGUMENT},
    {"gradients of no weights", COMBINE_BACKWARD, gradient_without_weights, MOXIE_ERR_ARGUMENT},
    {"small capacity, with a routing", DISPATCH_ROUTING, capacity_of_dispatch, MOXIE_ERR_CAPACITY},
    {"recv_x in no window, with a routing", DISPATCH_ROUTING, recv_x_in_no_window,
     MOXIE_ERR_WINDOW},
    {"recv_x beyond its window, with a routing", DISPATCH_ROUTING, recv_x_over_the_end,
     MOXIE_ERR_WINDOW},
    {"another type of x, with a routing", DISPATCH_ROUTING, other_x_type, MOXIE_ERR_MISMATCH},
    {"x of no type, with a routing", DISPATCH_ROUTING, x_is_no_type, MOXIE_ERR_ARGUMENT},
    {"x is missing, with a routing", DISPATCH_ROUTING, x_is_missing, MOXIE_ERR_ARGUMENT},
    {"recv_x is missing, with a routing", DISPATCH_ROUTING, recv_x_is_missing, MOXIE_ERR_ARGUMENT},
};

static bool is_poison(device_t *device, const char *memory, size_t bytes)
{
    char *seen = malloc(bytes + 1);
    if (seen == NULL) {
        abort();
    }
    device_download(device, seen, memory, bytes);
    size_t i = 0;
    while (i < bytes && seen[i] == 0x77) {
        i++;
    }
    free(seen);
    return i == bytes;
}

/* Rows, and the gradients of weights behind them. */
static size_t home_bytes_of(const trial_t *trial)
{
    return ((size_t)trial->token_count + 1) *
           ((size_t)trial->scenario.hidden + (size_t)trial->scenario.topk + 1) * sizeof(float);
}

static void check_spoilt(trial_t *trial, size_t index)
{
    device_t *device = trial->self->device;
    const size_t home_bytes = home_bytes_of(trial);
    char *home = device_allocate(device, home_bytes);
    const device_routing_t routing =
        device_routing(device, &trial->world.routing[trial->self->rank], trial->scenario.topk);
    calls_t calls;
    prepare(trial, home, &routing, &calls);
    if (trial->self->rank == ODD_RANK) {
        spoilt[index].spoil(&calls);
    }
    device_fill(device, home, 0x77, home_bytes);
    device_fill(device, calls.outputs, 0x77, calls.rows_bytes);
    refusal_is_shared(trial->self, trial->group, spoilt[index].name,
                      run_call(trial, spoilt[index].call, &calls), spoilt[index].wanted);
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    if (!trial->self->failed && spoilt[index].wanted != MOXIE_ERR_MISMATCH &&
        error.peer != ODD_RANK) {
        world_fail(trial->self, "%s: the error names rank %d, not %d: %s", spoilt[index].name,
                   error.peer, ODD_RANK, error.message);
    }
    if (!is_poison(device, home, home_bytes) ||
        !is_poison(device, calls.outputs, calls.rows_bytes)) {
        world_fail(trial->self, "%s: outputs were written", spoilt[index].name);
    }
    device_routing_free(device, &routing);
    device_free(device, home);
}

/* After each refusal the same route goes on; on a device, with its next update. */
static void play_spoilt(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "spoilt");
    if (group == NULL) {
        return;
    }
    for (size_t layout = 0; layout < COUNT(layouts) && !self->failed; layout++) {
        const scenario_t scenario = base_of(layouts[layout]);
        trial_t trial;
        if (trial_open(&trial, self, group, &scenario, NULL)) {
            for (size_t i = 0; i < COUNT(spoilt) && !self->failed; i++) {
                check_spoilt(&trial, i);
                trial_recover(&trial);
                for (int step = 0; !self->failed && step < TRIAL_STEP_COUNT; step++) {
                    trial_step(&trial, step, i);
                }
            }
        }
        trial_close(&trial);
    }
    moxie_group_destroy(group);
}

static void test_spoilt_calls(void **state)
{
    (void)state;
    conformance_run(2, play_spoilt, NULL);
    conformance_run(3, play_spoilt, NULL);
}

/* A barrier of the group is no call on the route; a device's ranks meet along a route. */
static void check_barrier(trial_t *trial, const calls_t *calls)
{
    world_expect(trial->self, "dispatch and barrier",
                 trial->self->rank == ODD_RANK ? moxie_group_barrier(trial->group)
                                               : run_call(trial, DISPATCH, calls),
                 MOXIE_ERR_MISMATCH);
}

/* One rank calls something else than its peers: all learn it, nobody waits for ever. */
static void check_different_calls(world_rank_t *self, moxie_group_t *group,
                                  const scenario_t *scenario)
{
    trial_t trial;
    if (trial_open(&trial, self, group, scenario, NULL)) {
        char *home = device_allocate(self->device, home_bytes_of(&trial));
        const device_routing_t routing =
            device_routing(self->device, &trial.world.routing[self->rank], trial.scenario.topk);
        calls_t calls;
        prepare(&trial, home, &routing, &calls);
        /* All other details of these two are alike. */
        world_expect(self, "dispatch and backward of combine",
                     run_call(&trial, self->rank == ODD_RANK ? COMBINE_BACKWARD : DISPATCH, &calls),
                     MOXIE_ERR_MISMATCH);
        if (!device_is_remote(self->device)) {
            check_barrier(&trial, &calls);
        }
        trial_recover(&trial);
        world_expect(self, "combine and update",
                     self->rank == ODD_RANK
                         ? device_update(self->device, trial.route,
                                         &trial.world.routing[self->rank], trial.scenario.topk)
                         : run_call(&trial, COMBINE, &calls),
                     MOXIE_ERR_MISMATCH);
        trial_recover(&trial);
        world_expect(self, "dispatch with a routing and without",
                     run_call(&trial, self->rank == ODD_RANK ? DISPATCH : DISPATCH_ROUTING, &calls),
                     MOXIE_ERR_MISMATCH);
        trial_recover(&trial);
        world_expect(self, "dispatch without a routing and with one",
                     run_call(&trial, self->rank == ODD_RANK ? DISPATCH_ROUTING : DISPATCH, &calls),
                     MOXIE_ERR_MISMATCH);
        device_routing_free(self->device, &routing);
        device_free(self->device, home);
    }
    trial_close(&trial);
}

static void play_different_calls(world_rank_t *self)
{
    for (size_t layout = 0; layout < COUNT(layouts) && !self->failed; layout++) {
        moxie_group_t *group = world_group(self, "different");
        const scenario_t scenario = base_of(layouts[layout]);
        if (group != NULL) {
            check_different_calls(self, group, &scenario);
        }
        moxie_group_destroy(group);
    }
}

static void test_different_calls(void **state)
{
    (void)state;
    conformance_run(3, play_different_calls, NULL);
}

/* The same call, on different routes. A device's ranks meet along a route: there it is a rank that
 * does not come, and the deadline tells. */
static void play_different_routes(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "routes");
    if (group == NULL) {
        return;
    }
    trial_t trials[2];
    memset(trials, 0, sizeof(trials));
    if (trial_open(&trials[0], self, group, &base, NULL) &&
        trial_open(&trials[1], self, group, &base, NULL)) {
        const trial_t *mine = &trials[self->rank == ODD_RANK];
        char *home = device_allocate(self->device, home_bytes_of(mine));
        const device_routing_t routing =
            device_routing(self->device, &mine->world.routing[self->rank], mine->scenario.topk);
        calls_t calls;
        prepare(mine, home, &routing, &calls);
        world_expect(self, "different routes", run_call(mine, DISPATCH, &calls),
                     MOXIE_ERR_MISMATCH);
        device_routing_free(self->device, &routing);
        device_free(self->device, home);
    }
    for (size_t i = 0; i < 2; i++) {
        if (trials[i].self != NULL) {
            trial_close(&trials[i]);
        }
    }
    moxie_group_destroy(group);
}

static void test_different_routes(void **state)
{
    (void)state;
    conformance_require_not(MOXIE_CAP_STREAM);
    conformance_run(3, play_different_routes, NULL);
}

const struct CMUnitTest call_refusal_tests[] = {
    cmocka_unit_test(test_spoilt_calls),
    cmocka_unit_test(test_different_calls),
    cmocka_unit_test(test_different_routes),
};
const size_t call_refusal_test_count = COUNT(call_refusal_tests);
