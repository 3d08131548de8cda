/* SPDX-License-Identifier: Apache-2.0 */
/* Back-to-back update, dispatch and combine with random routings, launched without waiting for
 * anyone: a host learns of its own exchanges some iterations later. Every `out` is compared with
 * the reference, every 100th iteration also all that was received. Arguments, none of them needed:
 * iterations, ranks, processes or threads (else both), a seed. On cuda, or on the backend that
 * MOXIE_TEST_BACKEND names. */
#include "cuda/flight.h"
#include "support/backends.h"
#include "support/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TOKEN_COUNT_MAX = 64,
    HIDDEN_MAX = 512,
    STANDARD_COUNT = 6,
    SHAPE_COUNT = 10, /* the last ones in low latency */
    ENTRY_COUNT = 40, /* routings of a shape */
    RING_SLOTS = 16,  /* iterations in the air */
    FULL_EVERY = 100,
    WORLD_DEADLINE_S = 3600,
    ITERATION_COUNT = 100000, /* unless asked for */
    RANK_COUNT = 4,
};

typedef struct endurance {
    uint64_t iteration_count;
    uint64_t seed;
    int32_t rank_count;
    world_mode_t mode;
    found_backend_t backend;
} endurance_t;

/* One prepared routing with its payload and what must come of it. */
typedef struct entry {
    scenario_t scenario;
    scenario_world_t world;
    void *home;
    void *expected_home;
} entry_t;

typedef struct slot {
    bool is_busy;
    bool is_full; /* what was received is to be compared too */
    uint64_t iteration;
    size_t shape;
    entry_t *entry;
    void *home; /* page-locked */
    device_mark_t mark;
} slot_t;

typedef struct runner {
    world_rank_t *self;
    moxie_group_t *group;
    flight_t flights[SHAPE_COUNT];
    entry_t entries[SHAPE_COUNT][ENTRY_COUNT];
    slot_t ring[RING_SLOTS];
    void *received; /* page-locked, for the one slot that is full */
} runner_t;

static scenario_t shape_scenario(const endurance_t *endurance, size_t shape)
{
    const uint64_t seed = payload_hash(endurance->seed, 86, shape, 0) >> 16;
    scenario_t scenario =
        shape < STANDARD_COUNT
            ? scenario_random(seed, TOKEN_COUNT_MAX, HIDDEN_MAX)
            : scenario_random_low_latency(seed, TOKEN_COUNT_MAX, HIDDEN_MAX, false);
    scenario.layout = shape % 2 == 0 ? MOXIE_LAYOUT_RANK_MAJOR : MOXIE_LAYOUT_EXPERT_MAJOR;
    scenario.y_dtype = scenario.x_dtype;
    scenario.own_state = scenario.odd_fenv = scenario.null_outputs = scenario.halves = false;
    return scenario;
}

static void use(flight_t *flight, const entry_t *entry)
{
    flight->scenario = entry->scenario;
    flight->world = entry->world;
    flight->home = entry->home;
    flight->home_image = entry->expected_home;
}

static bool prepare_entry(runner_t *runner, size_t shape, uint64_t variant)
{
    flight_t *flight = &runner->flights[shape];
    entry_t *entry = &runner->entries[shape][variant];
    entry->scenario = flight->scenario;
    entry->scenario.tokens = variant % 8 == 7 ? TOKENS_SOME_EMPTY : TOKENS_RAGGED;
    entry->scenario.routing = (scenario_routing_t)(variant % 3);
    entry->scenario.weights = (scenario_weights_t)(variant / 3 % 4);
    entry->scenario.brings_routing = variant % 5 < 3; /* and the others on the same route not */
    entry->home = device_create(flight->device, flight->home_arena.bytes);
    entry->expected_home = arena_allocate(&flight->home_arena);
    use(flight, entry);
    flight_load(flight, variant);
    entry->scenario = flight->scenario;
    entry->world = flight->world;
    void *received = arena_allocate(&flight->received_arena);
    const bool good = flight_expect(flight, received, entry->expected_home);
    free(received);
    return good;
}

/* The flight's own buffers are of no more use: its entries have theirs. */
static void drop_own(flight_t *flight)
{
    device_destroy(flight->device, flight->home);
    free(flight->home_image);
    scenario_free(&flight->world);
    flight->home = flight->home_image = NULL;
    flight->world = (scenario_world_t){.rank_count = 0};
}

static bool prepare(runner_t *runner)
{
    const endurance_t *endurance = runner->self->arg;
    size_t home_bytes = 0;
    size_t received_bytes = 0;
    for (size_t shape = 0; shape < SHAPE_COUNT; shape++) {
        flight_t *flight = &runner->flights[shape];
        const scenario_t scenario = shape_scenario(endurance, shape);
        if (!flight_open(flight, runner->self, runner->group, &scenario,
                         flight_rows_max(runner->self, &scenario),
                         device_stream(runner->self->device))) {
            return false;
        }
        flight->returns_received = true;
        drop_own(flight);
        for (uint64_t variant = 0; variant < ENTRY_COUNT; variant++) {
            if (!prepare_entry(runner, shape, variant)) {
                return false;
            }
        }
        home_bytes = flight->home_arena.bytes > home_bytes ? flight->home_arena.bytes : home_bytes;
        received_bytes = flight->received_arena.bytes > received_bytes
                             ? flight->received_arena.bytes
                             : received_bytes;
    }
    device_t *device = runner->self->device;
    runner->received = device_pin(device, received_bytes);
    for (size_t i = 0; i < RING_SLOTS; i++) {
        runner->ring[i].home = device_pin(device, home_bytes);
        runner->ring[i].mark = device_mark_create(device);
    }
    return world_expect(runner->self, "barrier", moxie_group_barrier(runner->group), MOXIE_OK);
}

/* Waits for an iteration of this rank, and compares it. */
static bool land(runner_t *runner, slot_t *slot)
{
    if (!slot->is_busy) {
        return true;
    }
    flight_t *flight = &runner->flights[slot->shape];
    entry_t *entry = slot->entry;
    slot->is_busy = false;
    device_wait(flight->device, slot->mark);
    use(flight, entry);
    bool good = flight_compare(flight, &flight->home_arena, slot->home, entry->expected_home);
    if (good && slot->is_full) {
        void *received = arena_allocate(&flight->received_arena);
        void *home = arena_allocate(&flight->home_arena);
        good = flight_expect(flight, received, home) &&
               flight_compare(flight, &flight->received_arena, runner->received, received);
        free(received);
        free(home);
    }
    if (!good) {
        const moxie_status_t status = moxie_route_status(flight->route);
        moxie_error_t error = MOXIE_ERROR_INIT;
        (void)moxie_last_error(&error);
        fprintf(stderr, "rank %d failed in iteration %" PRIu64 ": %s %s\n", runner->self->rank,
                slot->iteration, moxie_status_name(status),
                status == MOXIE_OK ? "" : error.message);
    }
    return good;
}

/* Every rank comes late now and then, on its own. */
static void dawdle(const endurance_t *endurance, int32_t rank, uint64_t iteration)
{
    const uint64_t hash = payload_hash(endurance->seed, 87, (uint64_t)rank, iteration);
    if (hash % 100 == 0) {
        const struct timespec pause = {0, (long)(hash >> 40) % 1000000};
        nanosleep(&pause, NULL);
    }
}

static bool iterate(runner_t *runner, uint64_t iteration)
{
    const endurance_t *endurance = runner->self->arg;
    const uint64_t choice = payload_hash(endurance->seed, 88, iteration, 0);
    slot_t *slot = &runner->ring[iteration % RING_SLOTS];
    if (!land(runner, slot)) {
        return false;
    }
    slot->is_busy = true;
    slot->iteration = iteration;
    slot->shape = choice % SHAPE_COUNT;
    slot->entry = &runner->entries[slot->shape][(choice >> 8) % ENTRY_COUNT];
    flight_t *flight = &runner->flights[slot->shape];
    use(flight, slot->entry);
    slot->is_full = iteration % FULL_EVERY == FULL_EVERY - 1 && !flight_has_slots(flight);
    dawdle(endurance, runner->self->rank, iteration);
    flight_poison(flight, slot->is_full);
    if (!world_expect(runner->self, "update, dispatch and combine", flight_launch(flight),
                      MOXIE_OK)) {
        slot->is_busy = false;
        return false;
    }
    device_download_later(flight->device, slot->home, flight->home, flight->home_arena.bytes);
    if (slot->is_full) {
        device_download_later(flight->device, runner->received, moxie_window_base(flight->received),
                              flight->received_arena.bytes);
    }
    device_mark(flight->device, slot->mark);
    return true;
}

static void clean_up(runner_t *runner)
{
    device_t *device = runner->self->device;
    device_synchronise(device);
    for (size_t shape = 0; shape < SHAPE_COUNT; shape++) {
        flight_t *flight = &runner->flights[shape];
        for (size_t i = 0; i < ENTRY_COUNT && flight->self != NULL; i++) {
            entry_t *entry = &runner->entries[shape][i];
            if (entry->home != NULL) {
                device_destroy(device, entry->home);
                free(entry->expected_home);
                scenario_free(&entry->world);
            }
        }
        flight->home = flight->home_image = NULL;
        flight->world = (scenario_world_t){.rank_count = 0};
        flight_close(flight);
    }
    for (size_t i = 0; i < RING_SLOTS && runner->received != NULL; i++) {
        device_unpin(device, runner->ring[i].home);
        device_mark_destroy(device, runner->ring[i].mark);
    }
    if (runner->received != NULL) {
        device_unpin(device, runner->received);
    }
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void play(world_rank_t *self)
{
    const endurance_t *endurance = self->arg;
    runner_t *runner = calloc(1, sizeof(*runner));
    if (runner == NULL) {
        abort();
    }
    runner->self = self;
    runner->group = world_group(self, "endurance");
    bool good = runner->group != NULL && prepare(runner);
    const double start_s = now_s();
    for (uint64_t i = 0; good && i < endurance->iteration_count; i++) {
        good = iterate(runner, i);
    }
    for (uint64_t i = 0; good && i < RING_SLOTS; i++) {
        good = land(runner, &runner->ring[(endurance->iteration_count + i) % RING_SLOTS]);
    }
    for (size_t shape = 0; good && shape < SHAPE_COUNT; shape++) {
        good = world_expect(self, "route_status", moxie_route_status(runner->flights[shape].route),
                            MOXIE_OK);
    }
    if (good && self->rank == 0) {
        printf("%" PRIu64 " iterations in %.1f s\n", endurance->iteration_count, now_s() - start_s);
    }
    if (runner->group != NULL) {
        clean_up(runner);
    }
    moxie_group_destroy(runner->group);
    free(runner);
}

/* Of all tests of the program. */
static endurance_t asked;
static int32_t rank_count_asked; /* 0: as many as there can be, up to RANK_COUNT */

static void test_endurance(void **state)
{
    (void)state;
    const world_options_t options = {.rank_count = asked.rank_count,
                                     .mode = asked.mode,
                                     .backend = asked.backend.info.name,
                                     .deadline_s = WORLD_DEADLINE_S};
    world_run(&options, play, &asked);
}

/* Tests that failed; -1 when they cannot run here. */
static int run_as(world_mode_t mode)
{
    char lack[MOXIE_ERROR_MESSAGE_BYTES];
    const int32_t gpus = asked.backend.device_count;
    asked.mode = mode;
    asked.rank_count = rank_count_asked > 0 ? rank_count_asked : RANK_COUNT;
    if (rank_count_asked == 0 && mode == WORLD_PROCESSES && gpus > 1 && gpus < RANK_COUNT) {
        asked.rank_count = gpus;
    }
    if (backends_lack(&asked.backend, mode, asked.rank_count, lack, sizeof(lack))[0] != '\0') {
        printf("SKIPPED: backend %s: %s\n", asked.backend.info.name, lack);
        return -1;
    }
    printf("%d ranks as %s\n", asked.rank_count, mode == WORLD_THREADS ? "threads" : "processes");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_endurance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    device_prepare_process();
    asked.iteration_count = argc > 1 ? strtoull(argv[1], NULL, 10) : ITERATION_COUNT;
    rank_count_asked = argc > 2 ? (int32_t)strtol(argv[2], NULL, 10) : 0;
    asked.seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    const char *name = backends_wanted("cuda");
    if (!backends_find(name, &asked.backend)) {
        printf("SKIPPED: the library has no backend %s\n", name);
        return EXIT_SKIPPED;
    }
    return backends_run_modes(argc > 3 ? argv[3] : NULL, run_as);
}
