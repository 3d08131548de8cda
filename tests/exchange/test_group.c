/* SPDX-License-Identifier: Apache-2.0 */
/* What a group says of itself, its small collectives, and the ceiling's copies. On shm, or on the
 * backend that MOXIE_TEST_BACKEND names. */
#include "support/backends.h"
#include "support/check.h"
#include "support/world.h"

#include "moxie/moxie.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 3, ROW_BYTES = 24, ROWS_TO_A_PEER = 2, ROWS = RANKS * ROWS_TO_A_PEER };

static found_backend_t backend;
static world_mode_t mode;

static void run(world_fn play)
{
    const world_options_t options = {
        .rank_count = RANKS, .mode = mode, .backend = backend.info.name, .deadline_s = 60};
    world_run(&options, play, NULL);
}

static void play_identity(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "identity");
    if (group == NULL)
        return;
    if (moxie_group_rank(group) != self->rank || moxie_group_rank_count(group) != RANKS)
        world_fail(self, "the group says rank %d of %d", moxie_group_rank(group),
                   moxie_group_rank_count(group));
    if (strcmp(moxie_group_backend(group), backend.info.name) != 0)
        world_fail(self, "the group says backend %s", moxie_group_backend(group));
    moxie_group_destroy(group);
}

static void test_a_group_knows_its_rank_and_backend(void **state)
{
    (void)state;
    run(play_identity);
}

static void play_barrier(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "barrier");
    if (group == NULL)
        return;
    int64_t seen[RANKS];
    for (int64_t round = 0; round < 50; round++) {
        world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
        const int64_t mine = round * RANKS + self->rank;
        world_expect(self, "allgather", moxie_group_allgather(group, &mine, sizeof(mine), seen),
                     MOXIE_OK);
        for (int rank = 0; rank < RANKS; rank++)
            if (seen[rank] != round * RANKS + rank)
                world_fail(self, "round %d: rank %d gave %d", (int)round, rank, (int)seen[rank]);
    }
    moxie_group_destroy(group);
}

static void test_barrier_and_allgather_keep_ranks_in_step(void **state)
{
    (void)state;
    run(play_barrier);
}

static void play_counters(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "counters");
    if (group == NULL)
        return;
    moxie_group_counters_t before = MOXIE_GROUP_COUNTERS_INIT;
    moxie_group_counters_t after = MOXIE_GROUP_COUNTERS_INIT;
    world_expect(self, "counters", moxie_group_counters(group, &before), MOXIE_OK);
    for (int i = 0; i < 5; i++)
        world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    world_expect(self, "counters", moxie_group_counters(group, &after), MOXIE_OK);
    if (after.op_count - before.op_count != 5)
        world_fail(self, "5 barriers were counted as %d", (int)(after.op_count - before.op_count));
    if (after.wait_ns < before.wait_ns)
        world_fail(self, "the time waited went backwards");
    moxie_group_destroy(group);
}

static void test_counters_count_operations(void **state)
{
    (void)state;
    run(play_counters);
}

static unsigned char byte_of(int rank, int64_t row)
{
    return (unsigned char)(16 * (rank + 1) + row);
}

/* Every rank sends its rows, each to every rank; sources lie in rank order. */
static void check_copies(world_rank_t *self, const void *destination)
{
    unsigned char received[ROWS * ROW_BYTES];
    device_download(self->device, received, destination, sizeof(received));
    for (int source = 0; source < RANKS; source++)
        for (int row = 0; row < ROWS_TO_A_PEER; row++) {
            const unsigned char wanted = byte_of(source, row);
            const unsigned char *at = received + (source * ROWS_TO_A_PEER + row) * ROW_BYTES;
            for (int i = 0; i < ROW_BYTES; i++)
                if (at[i] != wanted)
                    world_fail(self, "row %d of rank %d: byte %d is %d, not %d", row, source, i,
                               at[i], wanted);
        }
}

static void play_ceiling(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "ceiling");
    if (group == NULL)
        return;
    moxie_window_t *window = NULL;
    if (!world_expect(self, "window",
                      moxie_window_allocate(group, (size_t)ROWS * ROW_BYTES, &window), MOXIE_OK)) {
        moxie_group_destroy(group);
        return;
    }
    unsigned char *source = device_allocate(self->device, (size_t)ROWS * ROW_BYTES);
    for (int row = 0; row < ROWS; row++)
        device_fill(self->device, source + row * ROW_BYTES, byte_of(self->rank, row), ROW_BYTES);
    const int64_t rows_to_peer[RANKS] = {ROWS_TO_A_PEER, ROWS_TO_A_PEER, ROWS_TO_A_PEER};
    moxie_ceiling_in_t in = MOXIE_CEILING_IN_INIT;
    in.source = source;
    in.source_row_count = ROWS;
    in.rows_to_peer = rows_to_peer;
    in.row_bytes = ROW_BYTES;
    in.destination = moxie_window_base(window);
    in.destination_row_count = ROWS;
    for (in.streaming = 0; in.streaming < 2; in.streaming++) {
        uint64_t time_ns = 0;
        device_fill(self->device, moxie_window_base(window), 0, moxie_window_bytes(window));
        device_synchronise(self->device);
        world_expect(self, "ceiling", moxie_ceiling_measure(group, &in, &time_ns), MOXIE_OK);
        check_copies(self, moxie_window_base(window));
        if (time_ns == 0)
            world_fail(self, "the copies took no time");
    }
    device_free(self->device, source);
    moxie_window_free(window);
    moxie_group_destroy(group);
}

static void test_the_ceiling_copies_every_row_to_every_rank(void **state)
{
    (void)state;
    run(play_ceiling);
}

/* One rank forgets its rows: all ranks are refused, naming it, and the group goes on. */
static void play_ceiling_refused(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "ceiling_refused");
    if (group == NULL)
        return;
    const int64_t rows_to_peer[RANKS] = {0};
    moxie_ceiling_in_t in = MOXIE_CEILING_IN_INIT;
    in.rows_to_peer = self->rank == 1 ? NULL : rows_to_peer;
    in.row_bytes = ROW_BYTES;
    uint64_t time_ns;
    moxie_error_t error = MOXIE_ERROR_INIT;
    world_expect(self, "ceiling", moxie_ceiling_measure(group, &in, &time_ns), MOXIE_ERR_ARGUMENT);
    (void)moxie_last_error(&error);
    if (strstr(error.message, "rank 1") == NULL)
        world_fail(self, "the error does not name rank 1: %s", error.message);
    in.rows_to_peer = rows_to_peer;
    world_expect(self, "ceiling", moxie_ceiling_measure(group, &in, &time_ns), MOXIE_OK);
    void *row = device_allocate(self->device, ROW_BYTES);
    const int64_t rows_to_rank_2[RANKS] = {0, 0, 1};
    in.source = row;
    in.source_row_count = 1;
    in.rows_to_peer = self->rank == 0 ? rows_to_rank_2 : rows_to_peer;
    world_expect(self, "ceiling", moxie_ceiling_measure(group, &in, &time_ns), MOXIE_ERR_ARGUMENT);
    (void)moxie_last_error(&error);
    if (strstr(error.message, "rank 2 gave no destination") == NULL)
        world_fail(self, "the error does not name rank 2: %s", error.message);
    device_free(self->device, row);
    moxie_group_destroy(group);
}

static void test_a_refused_ceiling_is_refused_on_every_rank(void **state)
{
    (void)state;
    run(play_ceiling_refused);
}

/* The last operation is the barrier that was made; its phases follow each other. A device's are not
 * seen. */
static void play_operation(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "operation");
    if (group == NULL)
        return;
    moxie_operation_t last = MOXIE_OPERATION_INIT;
    moxie_operation_t before = MOXIE_OPERATION_INIT;
    if (strcmp(moxie_group_backend(group), "cuda") == 0) {
        world_expect(self, "operation", moxie_group_operation(group, 0, &last),
                     MOXIE_ERR_UNSUPPORTED);
        moxie_group_destroy(group);
        return;
    }
    world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    world_expect(self, "last", moxie_group_operation(group, 0, &last), MOXIE_OK);
    world_expect(self, "by number", moxie_group_operation(group, last.op, &before), MOXIE_OK);
    if (strcmp(last.name, "barrier") != 0 || before.begin_ns != last.begin_ns)
        world_fail(self, "the last operation is %s", last.name);
    if (last.begin_ns == 0 || last.post_ns < last.begin_ns || last.met_ns < last.post_ns)
        world_fail(self, "the phases of the barrier do not follow each other");
    world_expect(self, "the future", moxie_group_operation(group, last.op + 1, &last),
                 MOXIE_ERR_ARGUMENT);
    moxie_group_destroy(group);
}

static void test_an_operation_can_be_read_with_its_phases(void **state)
{
    (void)state;
    run(play_operation);
}

int main(void)
{
    device_prepare_process();
    mode = world_mode_from_environment();
    const char *name = backends_wanted("shm");
    char lack[MOXIE_ERROR_MESSAGE_BYTES] = "there is no such backend";
    if (!backends_find(name, &backend) ||
        backends_lack(&backend, mode, RANKS, lack, sizeof(lack))[0] != '\0') {
        printf("SKIPPED: backend %s: %s\n", name, lack);
        return EXIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_group_knows_its_rank_and_backend),
        cmocka_unit_test(test_barrier_and_allgather_keep_ranks_in_step),
        cmocka_unit_test(test_counters_count_operations),
        cmocka_unit_test(test_the_ceiling_copies_every_row_to_every_rank),
        cmocka_unit_test(test_an_operation_can_be_read_with_its_phases),
        cmocka_unit_test(test_a_refused_ceiling_is_refused_on_every_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
