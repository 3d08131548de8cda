/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times the two calls in stream order. The ranks' streams leave a barrier on the devices; what
 * follows lies between two events. Iterations are launched many at a time, so that a call finds its
 * launch in the queue already and the GPU never falls idle between them. How long a rank waited for
 * its peers is told by counters that only the CPU reads: that is measured afterwards, call by call.
 */
#include "bench/timing_stream.h"

#include "bench/baseline.h"

/* Iterations that are launched before the CPU waits for them. */
enum { BATCH_COUNT = 10 };

/* A start and an end of every call in a batch. */
enum { MARK_COUNT = BATCH_COUNT * SLOT_COUNT * 2 };

/* Graphs of a call at most: one for each input set that is used in turn. */
enum { GRAPH_COUNT_MAX = 16 };

/* Calls in a graph: what lies between the launch of a graph and its first call counts for a tenth.
 */
enum { GRAPH_CALL_COUNT = 10 };

/* How often rank 0 tells how far it is. */
enum { PROGRESS_PERIOD_MS = 200 };

/* What a rank's launches share. */
typedef struct stream_timing {
    const session_t *session;
    device_t *device;
    const timing_t *timing;
    int32_t graph_count; /* 0: calls are launched by themselves */
    device_graph_t *graphs[SLOT_COUNT][GRAPH_COUNT_MAX];
} stream_timing_t;

/* A failure that a launch told at once, or that is known now that the stream was waited for. */
static bool fail(const stream_timing_t *run, slot_t slot, failure_t *failure)
{
    return failure_from_library(failure, run->session->rank, session_slot_name(run->session, slot));
}

/* The calls as a caller makes them. */
static bool make_call(const stream_timing_t *run, slot_t slot, int64_t turn, failure_t *failure)
{
    return session_call(run->session, slot, turn) == MOXIE_OK || fail(run, slot, failure);
}

static bool launch_moxie(const stream_timing_t *run, slot_t slot, int64_t turn, failure_t *failure)
{
    if (run->graph_count == 0) {
        return make_call(run, slot, turn, failure);
    }
    run->device->ops->graph_launch(run->device, run->graphs[slot][turn % run->graph_count]);
    return true;
}

static bool launch_baseline(const stream_timing_t *run, slot_t slot, int64_t turn,
                            uint64_t *travel_ns, failure_t *failure)
{
    bool derives_route = slot == SLOT_DISPATCH && run->session->plan->is_fresh;
    return (!derives_route || baseline_update_route(run->session, failure)) &&
           baseline_call(run->session, slot, turn, travel_ns, failure);
}

static bool leave_barrier(const stream_timing_t *run, failure_t *failure)
{
    return moxie_stream_barrier(run->session->group, run->device->stream) == MOXIE_OK ||
           failure_from_library(failure, run->session->rank, "barrier");
}

/* Calls that are launched together. */
static uint64_t calls_at_once(const stream_timing_t *run, side_t side)
{
    return side == SIDE_MOXIE && run->graph_count > 0 ? GRAPH_CALL_COUNT : 1;
}

static int64_t turn_of(const stream_timing_t *run, side_t side, int64_t iteration)
{
    return iteration * run->timing->side_count + (int64_t)side;
}

/* Both calls of one iteration; marks from `mark` on, none when it is negative. */
static bool launch_pair(const stream_timing_t *run, side_t side, int64_t iteration, int32_t mark,
                        failure_t *failure)
{
    device_t *device = run->device;
    int64_t turn = turn_of(run, side, iteration);
    for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
        if (!leave_barrier(run, failure)) {
            return false;
        }
        if (mark >= 0) {
            device->ops->mark(device, mark++);
        }
        bool is_launched = side == SIDE_MOXIE ? launch_moxie(run, slot, turn, failure)
                                              : launch_baseline(run, slot, turn, NULL, failure);
        if (!is_launched) {
            return false;
        }
        if (mark >= 0) {
            device->ops->mark(device, mark++);
        }
    }
    return true;
}

/* Waits for the stream, and hears what the devices found. */
static bool settle(const stream_timing_t *run, failure_t *failure)
{
    run->device->ops->wait(run->device);
    link_alive(run->session->link);
    if (session_status(run->session) != MOXIE_OK ||
        moxie_group_status(run->session->group) != MOXIE_OK) {
        return failure_from_library(failure, run->session->rank, "timing");
    }
    return device_check(run->device, failure);
}

/* Iterations [first, last) of one side. The first pair is launched twice: the one that is not timed
 * keeps the GPU busy while the CPU gets ahead of it. */
static bool measure_batch(const stream_timing_t *run, side_t side, int64_t first, int64_t last,
                          failure_t *failure)
{
    device_t *device = run->device;
    int64_t warmup_count = run->session->plan->options->warmups;
    bool is_launched = launch_pair(run, side, first, -1, failure);
    for (int64_t i = first; i < last && is_launched; i++) {
        is_launched = launch_pair(run, side, i, (int32_t)(i - first) * SLOT_COUNT * 2, failure);
    }
    if (!is_launched || !settle(run, failure)) {
        return false;
    }
    for (int64_t i = first > warmup_count ? first : warmup_count; i < last; i++) {
        for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
            int32_t mark = ((int32_t)(i - first) * SLOT_COUNT + (int32_t)slot) * 2;
            sample_t *samples = timing_of_rank(run->timing, side, slot, run->session->rank);
            samples[i - warmup_count].time_ns =
                device->ops->between_ns(device, mark, mark + 1) / calls_at_once(run, side);
        }
    }
    return device_check(device, failure);
}

/* What a call of Moxie's waited for its peers, or the bare transfer in one of the baseline. */
static bool measure_wait(const stream_timing_t *run, side_t side, slot_t slot, int64_t iteration,
                         failure_t *failure)
{
    const session_t *session = run->session;
    int64_t turn = turn_of(run, side, iteration);
    moxie_group_counters_t before = MOXIE_GROUP_COUNTERS_INIT;
    moxie_group_counters_t after = MOXIE_GROUP_COUNTERS_INIT;
    uint64_t travel_ns = 0;
    if (!leave_barrier(run, failure) || !settle(run, failure)) {
        return false;
    }
    (void)moxie_group_counters(session->group, &before);
    bool is_launched = side == SIDE_MOXIE ? launch_moxie(run, slot, turn, failure)
                                          : launch_baseline(run, slot, turn, &travel_ns, failure);
    if (!is_launched || !settle(run, failure)) {
        return false;
    }
    (void)moxie_group_counters(session->group, &after);
    sample_t *sample = &timing_of_rank(run->timing, side, slot, session->rank)[iteration];
    uint64_t calls = calls_at_once(run, side);
    sample->wait_ns = side == SIDE_MOXIE ? (after.wait_ns - before.wait_ns) / calls : travel_ns;
    sample->prepare_ns = (after.prepare_ns - before.prepare_ns) / calls;
    sample->move_ns = (after.move_ns - before.move_ns) / calls;
    sample->finish_ns = (after.finish_ns - before.finish_ns) / calls;
    return true;
}

static bool measure_waits(const stream_timing_t *run, failure_t *failure)
{
    for (int64_t iteration = 0; iteration < run->timing->iteration_count; iteration++) {
        for (int32_t side = 0; side < run->timing->side_count; side++) {
            for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
                if (!measure_wait(run, (side_t)side, slot, iteration, failure)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static device_graph_t *capture(const stream_timing_t *run, slot_t slot, int64_t turn,
                               failure_t *failure)
{
    device_t *device = run->device;
    device->ops->capture_begin(device);
    bool is_made = device_check(device, failure);
    for (int64_t call = 0; call < GRAPH_CALL_COUNT && is_made; call++) {
        is_made = make_call(run, slot, turn + call, failure);
    }
    device_graph_t *graph = device->ops->capture_end(device);
    if (is_made && graph == NULL) {
        (void)device_check(device, failure);
    }
    if (!is_made) {
        device->ops->graph_release(device, graph);
        graph = NULL;
    }
    return graph;
}

/* A graph for each kind of call and input set that it begins with. Each is launched once, since the
 * first launch takes longer. */
static bool make_graphs(stream_timing_t *run, failure_t *failure)
{
    const plan_t *plan = run->session->plan;
    int32_t count = plan->home_set_count < plan->expert_set_count ? plan->home_set_count
                                                                  : plan->expert_set_count;
    count = count < GRAPH_COUNT_MAX ? count : GRAPH_COUNT_MAX;
    for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
        for (int32_t turn = 0; turn < count; turn++) {
            run->graphs[slot][turn] = capture(run, slot, turn, failure);
            if (run->graphs[slot][turn] == NULL) {
                return false;
            }
        }
    }
    if (moxie_group_barrier(run->session->group) != MOXIE_OK) {
        return failure_from_library(failure, run->session->rank, "making graphs");
    }
    run->graph_count = count;
    for (int32_t turn = 0; turn < count; turn++) {
        for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
            (void)launch_moxie(run, slot, turn, failure);
        }
    }
    return settle(run, failure);
}

static void release_graphs(const stream_timing_t *run)
{
    for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
        for (int32_t turn = 0; turn < GRAPH_COUNT_MAX; turn++) {
            run->device->ops->graph_release(run->device, run->graphs[slot][turn]);
        }
    }
}

static void tell_progress(const session_t *session, int64_t done, int64_t count)
{
    bool is_due = link_now_ms() - session->link->told_ms >= PROGRESS_PERIOD_MS;
    if (session->rank == 0 && session->plan->has_progress && is_due) {
        link_progress(session->link, "timing", done, count);
    }
}

static bool measure_times(const stream_timing_t *run, ceiling_t *ceiling, failure_t *failure)
{
    const timing_t *timing = run->timing;
    int64_t warmup_count = run->session->plan->options->warmups;
    int64_t count = warmup_count + timing->iteration_count;
    int64_t ceiling_done = 0;
    for (int64_t first = 0; first < count; first += BATCH_COUNT) {
        int64_t last = first + BATCH_COUNT < count ? first + BATCH_COUNT : count;
        for (int32_t side = 0; side < timing->side_count; side++) {
            if (!measure_batch(run, (side_t)side, first, last, failure)) {
                return false;
            }
        }
        int64_t timed_count = last < warmup_count ? 0 : last - warmup_count;
        int64_t ceiling_due = timed_count * ceiling->count / timing->iteration_count;
        if (!ceiling_measure(run->session, ceiling, ceiling_done, ceiling_due, failure)) {
            return false;
        }
        ceiling_done = ceiling_due;
        tell_progress(run->session, first, count);
    }
    return true;
}

bool timing_stream_measure(const session_t *session, ceiling_t *ceiling, const timing_t *timing,
                           failure_t *failure)
{
    stream_timing_t run = {.session = session, .device = session->device, .timing = timing};
    run.device->ops->marks_open(run.device, MARK_COUNT);
    bool is_graph = session->plan->options->launch == LAUNCH_GRAPH;
    bool is_done = device_check(run.device, failure) && (!is_graph || make_graphs(&run, failure)) &&
                   measure_times(&run, ceiling, failure) && measure_waits(&run, failure);
    release_graphs(&run);
    return is_done;
}
