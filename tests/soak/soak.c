/* SPDX-License-Identifier: Apache-2.0 */
#include "soak/soak.h"

#include "support/check.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void soak_dawdle(const soak_t *soak, int32_t rank, uint64_t place)
{
    const uint64_t hash = payload_hash(soak->seed, 82, (uint64_t)rank, place);
    const struct timespec pause = {0, (long)(hash >> 40) % soak->sleep_ns_max};
    if (hash % soak->one_sleeps_of == 0) {
        nanosleep(&pause, NULL);
    } else if (hash % soak->one_yields_of == 0) {
        sched_yield();
    }
}

static bool open_windows(world_rank_t *self, moxie_group_t *group, trial_memory_t *memory)
{
    const soak_t *soak = self->arg;
    const size_t bytes = soak->window_bytes(soak);
    return world_expect(self, "window_allocate",
                        moxie_window_allocate(group, bytes, &memory->outputs), MOXIE_OK) &&
           world_expect(self, "window_allocate",
                        moxie_window_allocate(group, bytes, &memory->inputs), MOXIE_OK);
}

static void soak_rank(world_rank_t *self)
{
    const soak_t *soak = self->arg;
    moxie_group_t *group = world_group(self, "soak");
    if (group == NULL) {
        return;
    }
    trial_memory_t memory = {NULL, NULL};
    trial_t trials[SOAK_ROUTES_ALIVE];
    memset(trials, 0, sizeof(trials));
    bool good = open_windows(self, group, &memory);
    uint64_t iteration = 0;
    for (; good && iteration < soak->iteration_count; iteration++) {
        good = soak->iterate(self, group, &memory, trials, iteration);
    }
    if (!good) {
        fprintf(stderr, "rank %d failed in iteration %" PRIu64 ", seed %" PRIu64 ": %s\n",
                self->rank, iteration - 1, soak->seed, self->failure);
    }
    for (size_t i = 0; i < SOAK_ROUTES_ALIVE; i++) {
        if (trials[i].self != NULL) {
            trial_close(&trials[i]);
        }
    }
    moxie_window_free(memory.inputs);
    moxie_window_free(memory.outputs);
    moxie_group_destroy(group);
}

static void test_soak(void **state)
{
    const soak_t *soak = *state;
    soak_t copy = *soak;
    const world_options_t options = {.rank_count = soak->rank_count,
                                     .mode = soak->mode,
                                     .backend = soak->backend.info.name,
                                     .deadline_s = 3600};
    world_run(&options, soak_rank, &copy);
}

int soak_main(int argc, char **argv, soak_t *soak)
{
    if (argc < 4) {
        fprintf(stderr, "usage: %s ITERATIONS RANKS processes|threads [SEED]\n", argv[0]);
        return 2;
    }
    device_prepare_process();
    soak->iteration_count = strtoull(argv[1], NULL, 10);
    soak->seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    soak->rank_count = (int32_t)strtol(argv[2], NULL, 10);
    soak->mode = strcmp(argv[3], "threads") == 0 ? WORLD_THREADS : WORLD_PROCESSES;
    const char *name = backends_wanted("shm");
    char lack[MOXIE_ERROR_MESSAGE_BYTES] = "there is no such backend";
    if (!backends_find(name, &soak->backend) ||
        backends_lack(&soak->backend, soak->mode, soak->rank_count, lack, sizeof(lack))[0] !=
            '\0') {
        printf("SKIPPED: backend %s: %s\n", name, lack);
        return EXIT_SKIPPED;
    }
    const uint64_t missing = soak->capabilities & ~(uint64_t)soak->backend.info.capabilities;
    if (missing != 0) {
        printf("SKIPPED: backend %s lacks capabilities 0x%" PRIx64 "\n", name, missing);
        return EXIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_soak, soak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
