/* SPDX-License-Identifier: Apache-2.0 */
/* Every knob of shm reaches what it is for: the group's counters change with it. Which kernels
 * row_kernels takes no counter tells, but the time does: cuda/test_knobs.c. */
#include "support/check.h"
#include "support/world.h"

#include "moxie/moxie.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RANKS = 2, TOKENS = 8, HIDDEN = 1024, LATE_MS = 2, WAITS = 50 };

/* What a case sets, and rank 0's counters of it. Ranks are threads here. */
typedef struct knob_case {
    moxie_knob_setting_t knobs[2];
    moxie_group_counters_t seen;
    atomic_int call_count; /* barriers that rank 0 has come to */
} knob_case_t;

static moxie_group_t *open_group(world_rank_t *self)
{
    const knob_case_t *of = self->arg;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.knobs = of->knobs;
    options.knob_count = 2;
    return world_group_with(self, "knobs", &options);
}

/* Rank 1 comes late to a barrier, and not before rank 0 has come. */
static void come_late(knob_case_t *of, int call)
{
    const struct timespec late = {0, LATE_MS * 1000000};
    while (atomic_load(&of->call_count) <= call)
        (void)sched_yield();
    (void)nanosleep(&late, NULL);
}

/* Rank 0 waits for rank 1, which is late. On a busy machine rank 0 may itself be held up between
 * coming and waiting: so there are many short waits, of which a few may be lost. */
static void play_late(world_rank_t *self)
{
    moxie_group_counters_t counters = MOXIE_GROUP_COUNTERS_INIT;
    knob_case_t *of = self->arg;
    moxie_group_t *group = open_group(self);
    if (group == NULL)
        return;
    for (int call = 0; call < WAITS; call++) {
        if (self->rank == 0)
            atomic_fetch_add(&of->call_count, 1);
        else
            come_late(of, call);
        world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    }
    world_expect(self, "counters", moxie_group_counters(group, &counters), MOXIE_OK);
    if (self->rank == 0 && counters.wait_ns < (uint64_t)WAITS * LATE_MS * 500000)
        world_fail(self, "it waited %d us", (int)(counters.wait_ns / 1000));
    moxie_group_destroy(group);
    if (self->rank == 0)
        of->seen = counters;
}

static void dispatch(world_rank_t *self, moxie_group_t *group, moxie_window_t *window)
{
    static float x[TOKENS][HIDDEN];
    int32_t experts[TOKENS][1];
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    moxie_route_t *route = NULL;
    char *base = moxie_window_base(window);
    for (int t = 0; t < TOKENS; t++)
        experts[t][0] = t % RANKS;
    shape.expert_count = RANKS;
    shape.topk = 1;
    shape.hidden = HIDDEN;
    shape.token_count_max = TOKENS;
    routing.token_count = TOKENS;
    routing.topk_idx = experts;
    in.x = x;
    in.dtype = MOXIE_DTYPE_FP32;
    out.row_capacity = (int64_t)TOKENS * RANKS;
    out.recv_x = base;
    out.recv_topk_idx = (int32_t *)(void *)(base + sizeof(x) * RANKS);
    if (world_expect(self, "route", moxie_route_create(group, &shape, &route), MOXIE_OK) &&
        world_expect(self, "update", moxie_route_update(route, &routing, NULL), MOXIE_OK))
        world_expect(self, "dispatch", moxie_dispatch(route, &in, &out, NULL), MOXIE_OK);
    moxie_route_destroy(route);
}

static void play_dispatch(world_rank_t *self)
{
    moxie_group_counters_t counters = MOXIE_GROUP_COUNTERS_INIT;
    moxie_window_t *window = NULL;
    moxie_group_t *group = open_group(self);
    if (group == NULL)
        return;
    size_t bytes = sizeof(float) * TOKENS * HIDDEN * RANKS + 4096;
    if (world_expect(self, "window", moxie_window_allocate(group, bytes, &window), MOXIE_OK))
        dispatch(self, group, window);
    world_expect(self, "counters", moxie_group_counters(group, &counters), MOXIE_OK);
    moxie_window_free(window);
    moxie_group_destroy(group);
    if (self->rank == 0)
        ((knob_case_t *)self->arg)->seen = counters;
}

static moxie_group_counters_t run(world_fn play, const char *name, int64_t value, const char *other,
                                  int64_t other_value)
{
    const world_options_t options = {
        .rank_count = RANKS, .mode = WORLD_THREADS, .backend = "shm", .deadline_s = 60};
    knob_case_t of = {.knobs = {{name, value}, {other, other_value}}};
    world_run(&options, play, &of);
    return of.seen;
}

static void test_spin_count_keeps_a_wait_awake(void **state)
{
    (void)state;
    uint64_t asleep = run(play_late, "spin_count", 0, "yield_count", 0).sleep_count;
    uint64_t awake = run(play_late, "spin_count", 1000000, "yield_count", 0).sleep_count;
    assert_true(asleep >= WAITS / 2);
    assert_true(awake < asleep / 2);
}

static void test_yield_count_keeps_a_wait_awake(void **state)
{
    (void)state;
    uint64_t asleep = run(play_late, "spin_count", 0, "yield_count", 0).sleep_count;
    uint64_t awake = run(play_late, "spin_count", 0, "yield_count", 1000000).sleep_count;
    assert_true(asleep >= WAITS / 2);
    assert_true(awake < asleep / 2);
}

static void test_stream_min_bytes_decides_how_rows_are_written(void **state)
{
    (void)state;
    moxie_group_counters_t past = run(play_dispatch, "stream_min_bytes", 0, "row_kernels", 0);
    moxie_group_counters_t through =
        run(play_dispatch, "stream_min_bytes", INT64_MAX, "row_kernels", 0);
    assert_true(past.streamed_bytes > 0);
    assert_int_equal(through.streamed_bytes, 0);
    assert_true(through.copied_bytes > past.copied_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spin_count_keeps_a_wait_awake),
        cmocka_unit_test(test_yield_count_keeps_a_wait_awake),
        cmocka_unit_test(test_stream_min_bytes_decides_how_rows_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
