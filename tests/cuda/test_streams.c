/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller may do with streams and graphs: calls that wait for nothing, replays with new
 * routings, several routes and groups in the air, errors that only the device knows. Argument:
 * threads, which may share GPUs, or processes, with a GPU each; without one both. */
#include "conformance/refusal.h"
#include "cuda/flight.h"
#include "driver/cuda.h"
#include "support/backends.h"
#include "support/check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { THREAD_COUNT = 3, PROCESS_COUNT_MAX = 4, REPLAYS = 20, GATE_MS = 5000 };

static found_backend_t backend;
static world_mode_t mode;
static int32_t rank_count;

/* Token counts are a graph's own: every rank always has all its tokens, some of them unrouted. */
static const scenario_t shape = {.seed = 9600,
                                 .hidden = 160,
                                 .expert_count = 14,
                                 .topk = 4,
                                 .token_count_max = 40,
                                 .tokens = TOKENS_FULL,
                                 .routing = ROUTING_HOLES,
                                 .alignment = 8};

static scenario_t shape_of(moxie_layout_t layout)
{
    scenario_t scenario = shape;
    scenario.layout = layout;
    return scenario;
}

static scenario_t low_latency_of(moxie_layout_t layout)
{
    scenario_t scenario = shape_of(layout);
    scenario.mode = MOXIE_MODE_LOW_LATENCY;
    scenario.alignment = 1;
    scenario.brings_routing = layout == MOXIE_LAYOUT_EXPERT_MAJOR;
    return scenario;
}

/* Update and dispatch in one call. */
static scenario_t one_call_of(moxie_layout_t layout)
{
    scenario_t scenario = shape_of(layout);
    scenario.brings_routing = true;
    return scenario;
}

static const moxie_layout_t layouts[] = {MOXIE_LAYOUT_RANK_MAJOR, MOXIE_LAYOUT_EXPERT_MAJOR};

static bool is_done(world_rank_t *self, const char *what, CUresult result)
{
    if (result == CUDA_SUCCESS) {
        return true;
    }
    char text[160];
    world_fail(self, "%s: %s", what, cuda_text(result, text, sizeof(text)));
    return false;
}

static void run(world_fn play)
{
    const world_options_t options = {
        .rank_count = rank_count, .mode = mode, .backend = backend.info.name, .deadline_s = 100};
    world_run(&options, play, NULL);
}

typedef bool play_fn(world_rank_t *self, moxie_group_t *group, flight_t *flight);

static void play_flight(world_rank_t *self, moxie_group_t *group, const scenario_t *scenario,
                        play_fn *play)
{
    flight_t flight = {.self = NULL};
    if (flight_open(&flight, self, group, scenario, flight_rows_max(self, scenario),
                    device_stream(self->device))) {
        play(self, group, &flight);
    }
    device_synchronise(self->device);
    flight_close(&flight);
}

/* Plays a function with flights of each layout in standard mode and, if asked to, of low latency.
 */
static void play_flights(world_rank_t *self, const char *name, play_fn *play, bool low_latency)
{
    moxie_group_t *group = world_group(self, name);
    for (size_t i = 0; group != NULL && i < COUNT(layouts); i++) {
        const scenario_t scenarios[] = {shape_of(layouts[i]), one_call_of(layouts[i]),
                                        low_latency_of(layouts[i])};
        const size_t count = COUNT(scenarios) - !low_latency;
        for (size_t j = 0; j < count && !self->failed; j++) {
            play_flight(self, group, &scenarios[j], play);
        }
    }
    moxie_group_destroy(group);
}

static void play_layouts(world_rank_t *self, const char *name, play_fn *play)
{
    play_flights(self, name, play, false);
}

/* In both modes. */
static void play_modes(world_rank_t *self, const char *name, play_fn *play)
{
    play_flights(self, name, play, true);
}

/* Holds a stream until it is opened, or for long enough to see that somebody waits for it. */
typedef struct gate {
    _Atomic bool is_open;
    _Atomic bool was_given_up;
} gate_t;

static void CUDA_CB wait_at(void *arg)
{
    gate_t *gate = arg;
    const struct timespec pause = {0, 1000000};
    int left_ms = GATE_MS;
    while (!atomic_load(&gate->is_open) && left_ms-- > 0) {
        nanosleep(&pause, NULL);
    }
    atomic_store(&gate->was_given_up, left_ms < 0);
}

static bool is_pending(world_rank_t *self, const char *what)
{
    if (cuda()->cuStreamQuery(device_stream(self->device)) == CUDA_ERROR_NOT_READY) {
        return true;
    }
    world_fail(self, "%s: the stream is not held", what);
    return false;
}

/* Calls return while what lies before them in the stream has not even begun. */
static bool play_held(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    (void)group;
    bool good = flight_play(flight, 0);
    for (uint64_t variant = 1; good && variant <= 3; variant++) {
        gate_t gate = {false, false};
        flight_load(flight, variant);
        good = is_done(self, "cuLaunchHostFunc",
                       cuda()->cuLaunchHostFunc(flight->stream, wait_at, &gate));
        const moxie_status_t launched = flight_launch(flight);
        good = good && is_pending(self, "update, dispatch and combine");
        atomic_store(&gate.is_open, true);
        good = world_expect(self, "calls behind a held stream", flight_settle(flight, launched),
                            MOXIE_OK) &&
               good && flight_check(flight);
        device_synchronise(self->device);
        if (good && atomic_load(&gate.was_given_up)) {
            world_fail(self, "a call waited for the stream");
            good = false;
        }
    }
    return good;
}

static void play_no_waiting(world_rank_t *self)
{
    play_modes(self, "held", play_held);
}

static void test_calls_with_a_capacity_wait_for_nothing(void **state)
{
    (void)state;
    run(play_no_waiting);
}

static bool begin_capture(flight_t *flight)
{
    return is_done(
        flight->self, "cuStreamBeginCapture",
        cuda()->cuStreamBeginCapture(flight->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
}

/* NULL when that failed. */
static CUgraphExec end_capture(flight_t *flight)
{
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    if (!is_done(flight->self, "cuStreamEndCapture",
                 cuda()->cuStreamEndCapture(flight->stream, &graph)) ||
        !is_done(flight->self, "cuGraphInstantiate", cuda()->cuGraphInstantiate(&exec, graph, 0))) {
        exec = NULL;
    }
    if (graph != NULL) {
        cuda()->cuGraphDestroy(graph);
    }
    return exec;
}

static CUgraphExec capture(flight_t *flight)
{
    if (!begin_capture(flight)) {
        return NULL;
    }
    const bool good = world_expect(flight->self, "captured calls", flight_launch(flight), MOXIE_OK);
    CUgraphExec exec = end_capture(flight);
    return good ? exec : NULL;
}

/* The status of a replay with what lies in the buffers now. */
static moxie_status_t replay(flight_t *flight, CUgraphExec exec)
{
    if (!is_done(flight->self, "cuGraphLaunch", cuda()->cuGraphLaunch(exec, flight->stream)) ||
        !is_done(flight->self, "cuStreamSynchronize",
                 cuda()->cuStreamSynchronize(flight->stream))) {
        return MOXIE_ERR_SYSTEM;
    }
    return moxie_route_status(flight->route);
}

static bool replay_variant(flight_t *flight, CUgraphExec exec, uint64_t variant)
{
    flight_load(flight, variant);
    return world_expect(flight->self, "replay", replay(flight, exec), MOXIE_OK) &&
           flight_check(flight);
}

static bool play_replays(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    (void)self;
    (void)group;
    flight_load(flight, 0);
    CUgraphExec exec = capture(flight);
    bool good = exec != NULL;
    for (uint64_t variant = 1; good && variant <= REPLAYS; variant++) {
        good = replay_variant(flight, exec, variant);
        /* Calls outside of the graph, on the same route. */
        good = good && (variant % 8 != 0 || flight_play(flight, 100 + variant));
    }
    if (exec != NULL) {
        cuda()->cuGraphExecDestroy(exec);
    }
    return good;
}

static void play_graphs(world_rank_t *self)
{
    play_modes(self, "graphs", play_replays);
}

static void test_a_graph_is_replayed_with_new_routings(void **state)
{
    (void)state;
    run(play_graphs);
}

/* A bad id in a replay: every rank learns whose, and the next routing is as good as ever. */
static bool play_spoilt_replay(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    flight_load(flight, 0);
    CUgraphExec exec = capture(flight);
    bool good = exec != NULL && replay_variant(flight, exec, 1);
    if (good) {
        moxie_error_t expected = MOXIE_ERROR_INIT;
        flight_load(flight, 2);
        flight_set_id(flight, rank_count - 1, 3, 1, 4711);
        flight_set_id(flight, rank_count - 1, 7, 0, -5);
        world_expect(self, "reference_check", moxie_reference_check(&flight->world.world),
                     MOXIE_ERR_ROUTING);
        (void)moxie_last_error(&expected);
        const moxie_status_t status = replay(flight, exec);
        good =
            refusal_is_shared(self, group, "bad routing in a graph", status, MOXIE_ERR_ROUTING) &&
            refusal_is_like(self, "bad routing in a graph", &expected) &&
            flight_kept_red_zones(flight) && replay_variant(flight, exec, 3) &&
            flight_play(flight, 4);
    }
    if (exec != NULL) {
        cuda()->cuGraphExecDestroy(exec);
    }
    return good;
}

static void play_bad_routing(world_rank_t *self)
{
    play_modes(self, "bad", play_spoilt_replay);
}

static void test_bad_routing_in_a_graph(void **state)
{
    (void)state;
    run(play_bad_routing);
}

/* Groups, windows and routes are made at once, and the capture stays as it is. */
static void create_while_capturing(flight_t *flight, moxie_group_t *group)
{
    world_rank_t *self = flight->self;
    const moxie_route_options_t options = scenario_route_options(&flight->scenario, &flight->world);
    moxie_route_t *route = NULL;
    world_expect(self, "route_create in a capture", moxie_route_create(group, &options, &route),
                 MOXIE_OK);
    moxie_window_t *window = NULL;
    world_expect(self, "window_allocate in a capture", moxie_window_allocate(group, 4096, &window),
                 MOXIE_OK);
    moxie_group_options_t alone = MOXIE_GROUP_OPTIONS_INIT;
    alone.rank_count = 1;
    alone.backend = self->options->backend;
    moxie_group_t *other = NULL;
    world_expect(self, "group_create in a capture", moxie_group_create(&alone, &other), MOXIE_OK);
    moxie_group_destroy(other);
    moxie_window_free(window);
    moxie_route_destroy(route);
    /* Ranks on one GPU free nothing while a kernel of another one waits for them. */
    world_expect(self, "barrier in a capture", moxie_group_barrier(group), MOXIE_OK);
}

static bool play_creations(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    flight_load(flight, 0);
    if (!begin_capture(flight)) {
        return false;
    }
    bool good = world_expect(self, "captured calls", flight_launch(flight), MOXIE_OK);
    create_while_capturing(flight, group);
    CUstreamCaptureStatus capturing = CU_STREAM_CAPTURE_STATUS_NONE;
    good = is_done(self, "cuStreamIsCapturing",
                   cuda()->cuStreamIsCapturing(flight->stream, &capturing)) &&
           good;
    if (good && capturing != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        world_fail(self, "the capture is no longer active (%d)", (int)capturing);
    }
    CUgraphExec exec = end_capture(flight);
    good = exec != NULL && !self->failed && replay_variant(flight, exec, 1);
    if (exec != NULL) {
        cuda()->cuGraphExecDestroy(exec);
    }
    return good;
}

static void play_creation_in_a_capture(world_rank_t *self)
{
    play_modes(self, "create", play_creations);
}

static void test_creation_in_a_capture_leaves_it_alone(void **state)
{
    (void)state;
    run(play_creation_in_a_capture);
}

/* A kernel without memory that takes a given time, in nanoseconds, of each block. */
static const char busy_text[] = ".version 7.0\n"
                                ".target sm_80\n"
                                ".address_size 64\n"
                                ".visible .entry busy(.param .u64 duration)\n"
                                "{\n"
                                "  .reg .u64 start, now, limit;\n"
                                "  .reg .pred goes_on;\n"
                                "  ld.param.u64 limit, [duration];\n"
                                "  mov.u64 start, %globaltimer;\n"
                                "again:\n"
                                "  mov.u64 now, %globaltimer;\n"
                                "  sub.u64 now, now, start;\n"
                                "  setp.lt.u64 goes_on, now, limit;\n"
                                "  @goes_on bra again;\n"
                                "  ret;\n"
                                "}\n";

/* Blocks that leave no room for another on their SM, several for each: as a long GEMM has them. */
typedef struct busy {
    CUmodule module;
    CUfunction kernel;
    CUstream stream;
    unsigned blocks;
} busy_t;

enum { BUSY_WAVES = 6, BUSY_THREADS = 1024, BUSY_SHARED_BYTES = 90 << 10, BUSY_NS = 2000000 };

static bool busy_open(busy_t *busy, world_rank_t *self, const moxie_group_t *group)
{
    CUdevice device;
    int sms = 0;
    bool good =
        is_done(self, "cuDeviceGet", cuda()->cuDeviceGet(&device, moxie_group_device(group))) &&
        is_done(
            self, "cuDeviceGetAttribute",
            cuda()->cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device)) &&
        is_done(self, "cuModuleLoadData", cuda()->cuModuleLoadData(&busy->module, busy_text)) &&
        is_done(self, "cuModuleGetFunction",
                cuda()->cuModuleGetFunction(&busy->kernel, busy->module, "busy")) &&
        is_done(self, "cuFuncSetAttribute",
                cuda()->cuFuncSetAttribute(busy->kernel,
                                           CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                           BUSY_SHARED_BYTES)) &&
        is_done(self, "cuStreamCreateWithPriority",
                cuda()->cuStreamCreateWithPriority(&busy->stream, CU_STREAM_NON_BLOCKING, 0));
    busy->blocks = (unsigned)sms * BUSY_WAVES;
    return good;
}

static void busy_close(busy_t *busy)
{
    if (busy->stream != NULL) {
        cuda()->cuStreamSynchronize(busy->stream);
        cuda()->cuStreamDestroy(busy->stream);
    }
    if (busy->module != NULL) {
        cuda()->cuModuleUnload(busy->module);
    }
}

static bool busy_launch(const busy_t *busy, world_rank_t *self)
{
    uint64_t duration_ns = BUSY_NS;
    void *arguments[] = {&duration_ns};
    const CUlaunchConfig config = {.gridDimX = busy->blocks,
                                   .gridDimY = 1,
                                   .gridDimZ = 1,
                                   .blockDimX = BUSY_THREADS,
                                   .blockDimY = 1,
                                   .blockDimZ = 1,
                                   .sharedMemBytes = BUSY_SHARED_BYTES,
                                   .hStream = busy->stream};
    return is_done(self, "cuLaunchKernelEx",
                   cuda()->cuLaunchKernelEx(&config, busy->kernel, arguments, NULL));
}

/* Another rank's GPU is free each time: its kernels wait for those that get no SM yet. */
static bool play_busy(world_rank_t *self, moxie_group_t *group, flight_t *flight)
{
    busy_t busy = {.stream = NULL};
    bool good = busy_open(&busy, self, group);
    good = world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK) && good;
    for (uint64_t variant = 0; good && variant < 2 * (uint64_t)rank_count; variant++) {
        const bool is_free = variant % (uint64_t)rank_count == (uint64_t)self->rank;
        flight_load(flight, variant);
        good = is_free || busy_launch(&busy, self);
        const moxie_status_t launched = flight_launch(flight);
        good = good && (is_free || busy_launch(&busy, self));
        good =
            good &&
            world_expect(self, "beside a busy kernel", flight_settle(flight, launched), MOXIE_OK) &&
            flight_check(flight);
    }
    busy_close(&busy);
    world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    return good;
}

static void play_beside_busy_kernels(world_rank_t *self)
{
    play_layouts(self, "busy", play_busy);
}

static void test_an_exchange_beside_kernels_that_fill_the_gpu(void **state)
{
    (void)state;
    run(play_beside_busy_kernels);
}

/* Two groups with two routes each, every route on a stream of its own. */
enum { GROUPS = 2, ROUTES = 2, FLIGHTS = GROUPS * ROUTES, ROUNDS = 10 };

static void play_rounds(world_rank_t *self, flight_t *flights)
{
    for (uint64_t round = 0; round < ROUNDS && !self->failed; round++) {
        moxie_status_t launched[FLIGHTS];
        for (size_t i = 0; i < FLIGHTS; i++) {
            flight_load(&flights[i], round);
        }
        for (size_t i = 0; i < FLIGHTS; i++) {
            const size_t next = (i + round) % FLIGHTS;
            launched[next] = flight_launch(&flights[next]);
        }
        for (size_t i = 0; i < FLIGHTS && !self->failed; i++) {
            world_expect(self, "one of several in the air", flight_settle(&flights[i], launched[i]),
                         MOXIE_OK);
        }
        for (size_t i = 0; i < FLIGHTS && !self->failed; i++) {
            flight_check(&flights[i]);
        }
    }
}

static void play_several(world_rank_t *self)
{
    moxie_group_t *groups[GROUPS] = {NULL};
    CUstream streams[FLIGHTS] = {NULL};
    flight_t flights[FLIGHTS];
    memset(flights, 0, sizeof(flights));
    bool good = true;
    for (size_t i = 0; good && i < GROUPS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "several%zu", i);
        groups[i] = world_group(self, name);
        good = groups[i] != NULL;
    }
    for (size_t i = 0; good && i < FLIGHTS; i++) {
        scenario_t scenario = shape_of(layouts[i % 2]);
        scenario.seed += i;
        good =
            is_done(self, "cuStreamCreateWithPriority",
                    cuda()->cuStreamCreateWithPriority(&streams[i], CU_STREAM_NON_BLOCKING, 0)) &&
            flight_open(&flights[i], self, groups[i / ROUTES], &scenario,
                        flight_rows_max(self, &scenario), streams[i]);
    }
    if (good) {
        play_rounds(self, flights);
    }
    for (size_t i = 0; i < FLIGHTS; i++) {
        if (streams[i] != NULL) {
            cuda()->cuStreamSynchronize(streams[i]);
        }
    }
    for (size_t i = 0; i < FLIGHTS; i++) {
        flight_close(&flights[i]);
        if (streams[i] != NULL) {
            cuda()->cuStreamDestroy(streams[i]);
        }
    }
    for (size_t i = 0; i < GROUPS; i++) {
        moxie_group_destroy(groups[i]);
    }
}

static void test_several_routes_and_groups_in_the_air(void **state)
{
    (void)state;
    run(play_several);
}

/* The variants in which `rank` needs most and fewest rows. */
static void find_needs(world_rank_t *self, const scenario_t *scenario, int32_t rank, uint64_t *most,
                       uint64_t *fewest, int64_t *most_rows)
{
    int64_t fewest_rows = INT64_MAX;
    *most_rows = -1;
    for (uint64_t variant = 0; variant < 16; variant++) {
        scenario_t varied = scenario_complete(scenario);
        varied.variant = variant;
        scenario_world_t world;
        int64_t need = -1;
        scenario_build(&varied, self->options->rank_count, &world);
        world_expect(self, "reference_recv_rows",
                     moxie_reference_recv_rows(&world.world, rank, &need), MOXIE_OK);
        scenario_free(&world);
        if (need > *most_rows) {
            *most_rows = need;
            *most = variant;
        }
        if (need < fewest_rows) {
            fewest_rows = need;
            *fewest = variant;
        }
    }
}

static void play_narrow(world_rank_t *self, moxie_group_t *group, moxie_layout_t layout)
{
    const int32_t narrow = rank_count - 1;
    scenario_t scenario = shape_of(layout);
    scenario.alignment = 1;
    uint64_t most = 0, fewest = 0;
    int64_t need = 0;
    find_needs(self, &scenario, narrow, &most, &fewest, &need);
    const int64_t capacity = self->rank == narrow ? need - 1 : flight_rows_max(self, &scenario);
    flight_t flight = {.self = NULL};
    if (flight_open(&flight, self, group, &scenario, capacity, device_stream(self->device)) &&
        flight_play(&flight, fewest)) {
        flight_load(&flight, most);
        const moxie_error_t expected = refusal_of(narrow, -1, -1, need, need - 1);
        const moxie_status_t launched = flight_launch(&flight);
        world_expect(self, "calls of which the device refuses the first", launched, MOXIE_OK);
        const moxie_status_t status = flight_settle(&flight, launched);
        if (refusal_is_shared(self, group, "small capacity", status, MOXIE_ERR_CAPACITY) &&
            refusal_is_like(self, "small capacity", &expected) && flight_kept_red_zones(&flight)) {
            flight_play(&flight, fewest);
        }
    }
    flight_close(&flight);
}

static void play_small_capacity(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "narrow");
    for (size_t i = 0; group != NULL && i < COUNT(layouts) && !self->failed; i++) {
        play_narrow(self, group, layouts[i]);
    }
    moxie_group_destroy(group);
}

static void test_a_small_capacity_is_refused_on_the_device(void **state)
{
    (void)state;
    run(play_small_capacity);
}

/* Behind a stream barrier nothing starts before the last rank's stream has come to it. */
static void play_stream_barrier(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "barrier");
    if (group == NULL) {
        return;
    }
    int32_t seen[PROCESS_COUNT_MAX];
    for (int32_t late = 0; late < rank_count && !self->failed; late++) {
        gate_t gate = {false, false};
        if (self->rank == late) {
            is_done(self, "cuLaunchHostFunc",
                    cuda()->cuLaunchHostFunc(device_stream(self->device), wait_at, &gate));
        }
        world_expect(self, "stream_barrier",
                     moxie_stream_barrier(group, device_stream(self->device)), MOXIE_OK);
        const struct timespec pause = {0, 20000000};
        nanosleep(&pause, NULL);
        is_pending(self, "a stream barrier without its last rank");
        world_expect(self, "allgather", moxie_group_allgather(group, &late, sizeof(late), seen),
                     MOXIE_OK);
        atomic_store(&gate.is_open, true);
        device_synchronise(self->device);
        world_expect(self, "group_status", moxie_group_status(group), MOXIE_OK);
    }
    moxie_group_destroy(group);
}

static void test_a_stream_barrier_waits_in_stream_order(void **state)
{
    (void)state;
    run(play_stream_barrier);
}

/* Tests that failed; -1 when they cannot run here. */
static int run_as(world_mode_t as)
{
    char lack[MOXIE_ERROR_MESSAGE_BYTES];
    mode = as;
    rank_count = THREAD_COUNT;
    if (mode == WORLD_PROCESSES) {
        rank_count =
            backend.device_count < PROCESS_COUNT_MAX ? backend.device_count : PROCESS_COUNT_MAX;
        rank_count = rank_count < 2 ? 2 : rank_count;
    }
    if (backends_lack(&backend, mode, rank_count, lack, sizeof(lack))[0] != '\0') {
        printf("SKIPPED: backend cuda: %s\n", lack);
        return -1;
    }
    printf("%d ranks as %s\n", rank_count, mode == WORLD_THREADS ? "threads" : "processes");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_with_a_capacity_wait_for_nothing),
        cmocka_unit_test(test_a_graph_is_replayed_with_new_routings),
        cmocka_unit_test(test_bad_routing_in_a_graph),
        cmocka_unit_test(test_creation_in_a_capture_leaves_it_alone),
        cmocka_unit_test(test_an_exchange_beside_kernels_that_fill_the_gpu),
        cmocka_unit_test(test_several_routes_and_groups_in_the_air),
        cmocka_unit_test(test_a_small_capacity_is_refused_on_the_device),
        cmocka_unit_test(test_a_stream_barrier_waits_in_stream_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    device_prepare_process();
    if (!backends_find("cuda", &backend)) {
        printf("SKIPPED: the library has no backend cuda\n");
        return EXIT_SKIPPED;
    }
    return backends_run_modes(argc > 1 ? argv[1] : NULL, run_as);
}
