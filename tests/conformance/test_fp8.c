/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch of fp8 rows: quantised ahead or on the way, every kind of scales in either layout,
 * hidden sizes that 128 does not divide, odd values; combine and backward follow on the same route.
 */
#include "conformance/conformance.h"

#include "conformance/refusal.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int64_t hidden_sizes[] = {1, 64, 127, 128, 129, 511, 512, 640, 1000, 2880};

/* Every combination of scales and of who quantises, over the sizes. */
static scenario_t make_scenario(uint64_t seed, size_t i)
{
    return (scenario_t){
        .seed = seed + i,
        .hidden = hidden_sizes[i % COUNT(hidden_sizes)],
        .expert_count = 9,
        .topk = 4,
        .token_count_max = 14,
        .alignment = i % 3 == 0 ? 16 : 1,
        .routing = i % 4 == 3 ? ROUTING_HOLES : ROUTING_UNIFORM,
        .quantised = i % 2 == 0,
        .x_dtype = i % 2 == 0 ? MOXIE_DTYPE_BF16 : MOXIE_DTYPE_FP8_E4M3,
        .scale_type = (moxie_scale_type_t)(MOXIE_SCALE_FP32 + i / 2 % 3),
        .scale_layout = (moxie_scale_layout_t)(MOXIE_SCALES_ROW_MAJOR + i / 6 % 2),
    };
}

static void test_scales(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_FP8);
    scenario_t scenarios[60];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = make_scenario(7000, i);
    }
    conformance_play(1, scenarios, COUNT(scenarios));
    conformance_play(3, scenarios, COUNT(scenarios));
}

static void test_odd_values(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_FP8);
    scenario_t scenarios[24];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = make_scenario(7100, i);
        scenarios[i].special = true;
        scenarios[i].odd_fenv = i % 3 == 0;
    }
    conformance_play(2, scenarios, COUNT(scenarios));
}

/* Rows longer than what a kernel quantises at a time. */
static void test_long_rows(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_FP8);
    scenario_t scenarios[6];
    for (size_t i = 0; i < COUNT(scenarios); i++) {
        scenarios[i] = make_scenario(7200, 2 * i);
        scenarios[i].hidden = i % 2 == 0 ? 9000 : 8192;
        scenarios[i].token_count_max = 5;
    }
    conformance_play(2, scenarios, COUNT(scenarios));
}

static void test_random(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_FP8);
    const int32_t rank_counts[] = {1, 2, 4, 5};
    scenario_t scenarios[20];
    for (size_t r = 0; r < COUNT(rank_counts); r++) {
        for (size_t i = 0; i < COUNT(scenarios); i++) {
            scenarios[i] = scenario_random_fp8(7300 + 100 * r + i, 40, 900);
        }
        conformance_play(rank_counts[r], scenarios, COUNT(scenarios));
    }
}

#define ODD_RANK 1

/* A dispatch of fp8 rows, right before one rank spoils it. */
typedef struct call {
    moxie_dispatch_in_t in;
    moxie_dispatch_out_t out;
    char *window_end;
} call_t;

static void other_scale_type(call_t *call)
{
    call->in.scale_type = MOXIE_SCALE_UE8M0;
}

static void other_scale_layout(call_t *call)
{
    call->in.scale_layout = MOXIE_SCALES_COLUMN_MAJOR;
}

static void no_scale_type(call_t *call)
{
    call->in.scale_type = (moxie_scale_type_t)7;
}

static void no_scale_layout(call_t *call)
{
    call->in.scale_layout = (moxie_scale_layout_t)0;
}

static void no_recv_scales(call_t *call)
{
    call->out.recv_scales = NULL;
}

static void odd_recv_scales(call_t *call)
{
    call->out.recv_scales = (char *)call->out.recv_scales + 2;
}

static void recv_scales_in_no_window(call_t *call)
{
    call->out.recv_scales = (void *)(uintptr_t)call->in.x;
}

static void recv_scales_over_the_end(call_t *call)
{
    call->out.recv_scales = call->window_end - sizeof(uint32_t);
}

static void scales_of_bf16(call_t *call)
{
    call->in.x_scales = call->in.x;
}

static void no_x_scales(call_t *call)
{
    call->in.dtype = MOXIE_DTYPE_FP8_E4M3;
}

static void quantised_fp32(call_t *call)
{
    call->in.dtype = MOXIE_DTYPE_FP32;
}

static void unscaled_rows(call_t *call)
{
    call->in.wire_dtype = MOXIE_DTYPE_BF16;
}

static const struct {
    void (*spoil)(call_t *call);
    moxie_status_t wanted;
    const char *message; /* NULL: backends say it in their own words */
} spoilt[] = {
    {other_scale_type, MOXIE_ERR_MISMATCH, "scale_type is 3 on rank 1 and 1 on rank 0"},
    {other_scale_layout, MOXIE_ERR_MISMATCH, "scale_layout is 2 on rank 1 and 1 on rank 0"},
    {no_scale_type, MOXIE_ERR_ARGUMENT, "rank 1: scale_type 7 is no type of scales"},
    {no_scale_layout, MOXIE_ERR_ARGUMENT, "rank 1: scale_layout 0 is no layout of scales"},
    {no_recv_scales, MOXIE_ERR_ARGUMENT, "rank 1: recv_scales is NULL"},
    {odd_recv_scales, MOXIE_ERR_ARGUMENT, "rank 1: recv_scales is not aligned to 4 bytes"},
    {recv_scales_in_no_window, MOXIE_ERR_WINDOW,
     "rank 1: recv_scales does not lie in a window of the group: allocate it with "
     "moxie_window_allocate()"},
    {recv_scales_over_the_end, MOXIE_ERR_WINDOW, NULL},
    {scales_of_bf16, MOXIE_ERR_ARGUMENT, "rank 1: x_scales are of fp8 rows, these are bf16"},
    {no_x_scales, MOXIE_ERR_ARGUMENT, "rank 1: x_scales is NULL"},
    {quantised_fp32, MOXIE_ERR_UNSUPPORTED,
     "rank 1: rows of type 2 (fp32) cannot arrive as type 3 (fp8)"},
    {unscaled_rows, MOXIE_ERR_ARGUMENT, "rank 1: recv_scales are of fp8 rows, these are bf16"},
};

static void check_spoilt(trial_t *trial, size_t index, char *home)
{
    device_t *device = trial->self->device;
    const char *message = spoilt[index].message;
    char *window = moxie_window_base(trial->memory.outputs);
    call_t call = {MOXIE_DISPATCH_IN_INIT, MOXIE_DISPATCH_OUT_INIT,
                   window + moxie_window_bytes(trial->memory.outputs) / 4 * 4};
    call.in.x = home;
    call.in.wire_dtype = MOXIE_DTYPE_FP8_E4M3;
    call.out.row_capacity = trial->row_capacity;
    call.out.recv_x = window;
    call.out.recv_scales =
        window + (size_t)((trial->row_capacity * trial->scenario.hidden + 3) / 4 * 4);
    if (trial->self->rank == ODD_RANK) {
        spoilt[index].spoil(&call);
    }
    const moxie_status_t status =
        device_settle(device, trial->route,
                      moxie_dispatch(trial->route, &call.in, &call.out, device_stream(device)));
    refusal_is_shared(trial->self, trial->group,
                      message != NULL ? message : "recv_scales over the end", status,
                      spoilt[index].wanted);
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    if (!trial->self->failed && message != NULL && strcmp(error.message, message) != 0) {
        world_fail(trial->self, "the error says '%s', not '%s'", error.message, message);
    }
}

static void play_spoilt(world_rank_t *self)
{
    const scenario_t scenario = {.seed = 7900,
                                 .hidden = 300,
                                 .expert_count = 6,
                                 .topk = 2,
                                 .token_count_max = 9,
                                 .tokens = TOKENS_FULL,
                                 .quantised = true};
    moxie_group_t *group = world_group(self, "spoilt");
    trial_t trial;
    if (group != NULL && trial_open(&trial, self, group, &scenario, NULL)) {
        char *home = device_allocate(self->device,
                                     (size_t)(trial.token_count * scenario.hidden) * sizeof(float));
        for (size_t i = 0; i < COUNT(spoilt) && !self->failed; i++) {
            check_spoilt(&trial, i, home);
            trial_recover(&trial);
            trial_dispatch(&trial, i);
        }
        device_free(self->device, home);
        trial_close(&trial);
    }
    moxie_group_destroy(group);
}

static void test_refusals(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_FP8);
    conformance_run(3, play_spoilt, NULL);
}

/* What a backend does not claim it refuses on the spot. */
static void play_unclaimed(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "unclaimed");
    const scenario_t scenario = {
        .seed = 7950, .hidden = 128, .expert_count = 4, .topk = 2, .token_count_max = 3};
    trial_t trial;
    if (group != NULL && trial_open(&trial, self, group, &scenario, NULL)) {
        moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
        moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
        in.wire_dtype = MOXIE_DTYPE_FP8_E4M3;
        world_expect(self, "dispatch of fp8 rows",
                     moxie_dispatch(trial.route, &in, &out, device_stream(self->device)),
                     MOXIE_ERR_UNSUPPORTED);
        trial_dispatch(&trial, 0);
        trial_close(&trial);
    }
    moxie_group_destroy(group);
}

static void test_unclaimed(void **state)
{
    (void)state;
    conformance_require_not(MOXIE_CAP_FP8);
    conformance_run(2, play_unclaimed, NULL);
}

const struct CMUnitTest fp8_tests[] = {
    cmocka_unit_test(test_scales),    cmocka_unit_test(test_odd_values),
    cmocka_unit_test(test_long_rows), cmocka_unit_test(test_random),
    cmocka_unit_test(test_refusals),  cmocka_unit_test(test_unclaimed),
};
const size_t fp8_test_count = COUNT(fp8_tests);
