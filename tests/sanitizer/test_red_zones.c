/* SPDX-License-Identifier: Apache-2.0 */
/* The address sanitizer sees a row too many in a window, in a peer's mapping of it, and between
 * buffers. Each overrun happens in a child, which must end with the sanitizer's exit code. */
#include "support/arena.h"
#include "support/check.h"

#include "moxie/moxie.h"
#include "transport/shm/window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 2, ROW_BYTES = 512, EXIT_CLEAN = 0, EXIT_NO_GROUP = 98, EXIT_SANITIZED = 99 };

/* Read by the sanitizer, which is another library. NOLINTNEXTLINE(*-reserved-identifier,cert-*) */
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void) /* NOLINT(*-reserved-identifier,cert-*) */
{
    return "exitcode=99:detect_leaks=0";
}

/* Volatile, so that no compiler leaves the stores out. */
static void write_row(void *base, size_t offset)
{
    for (size_t i = 0; i < ROW_BYTES; i++) {
        ((volatile char *)base)[offset + i] = 1;
    }
}

typedef struct overrun {
    size_t window_bytes;
    bool is_peers; /* through the mapping of the peer's part */
    size_t offset; /* of the row that rank 0 writes */
} overrun_t;

/* One rank, in a process of its own. */
static void play(const overrun_t *overrun, const char *socket, int32_t rank)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank = rank;
    options.rank_count = RANKS;
    options.backend = "shm";
    options.rendezvous = socket;
    options.first_timeout_us = options.timeout_us = 20000000;
    moxie_group_t *group = NULL;
    moxie_window_t *window = NULL;
    if (moxie_group_create(&options, &group) != MOXIE_OK ||
        moxie_window_allocate(group, overrun->window_bytes, &window) != MOXIE_OK) {
        _exit(EXIT_NO_GROUP);
    }
    const shm_window_t *shm = (const shm_window_t *)window;
    if (rank == 0) {
        write_row(shm->parts[overrun->is_peers ? 1 : 0].base, overrun->offset);
    }
    (void)moxie_group_barrier(group); /* nobody unmaps before; rank 0 may be gone by now */
    moxie_window_free(window);
    moxie_group_destroy(group);
    _exit(EXIT_CLEAN);
}

static int wait_for(pid_t child)
{
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The exit code of rank 0. */
static int run(overrun_t overrun)
{
    char folder[] = "/tmp/moxie-test-XXXXXX";
    char socket[sizeof(folder) + 8];
    pid_t children[RANKS];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(socket, sizeof(socket), "%s/s", folder);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        children[rank] = fork();
        if (children[rank] == 0) {
            (void)!freopen("/dev/null", "w", stderr); /* the report that we want */
            play(&overrun, socket, rank);
        }
    }
    const int code = wait_for(children[0]);
    assert_int_equal(wait_for(children[1]), EXIT_CLEAN);
    assert_int_equal(rmdir(folder), 0);
    return code;
}

static void test_rows_within_a_window_are_let_be(void **state)
{
    (void)state;
    assert_int_equal(run((overrun_t){5 * ROW_BYTES, false, 4 * ROW_BYTES}), EXIT_CLEAN);
    assert_int_equal(run((overrun_t){5 * ROW_BYTES, true, 4 * ROW_BYTES}), EXIT_CLEAN);
}

static void test_a_row_behind_a_window_is_seen(void **state)
{
    (void)state;
    assert_int_equal(run((overrun_t){5 * ROW_BYTES, false, 5 * ROW_BYTES}), EXIT_SANITIZED);
    assert_int_equal(run((overrun_t){5 * ROW_BYTES, true, 5 * ROW_BYTES}), EXIT_SANITIZED);
}

static void test_a_row_half_behind_a_window_is_seen(void **state)
{
    (void)state;
    const size_t offset = 5 * ROW_BYTES - 1;
    assert_int_equal(run((overrun_t){5 * ROW_BYTES, false, offset}), EXIT_SANITIZED);
    assert_int_equal(run((overrun_t){5 * ROW_BYTES, true, offset}), EXIT_SANITIZED);
}

/* A window of whole pages: the mapping ends where it does. */
static void test_a_row_behind_the_last_page_is_seen(void **state)
{
    (void)state;
    assert_int_equal(run((overrun_t){8192, false, 8192}), EXIT_SANITIZED);
    assert_int_equal(run((overrun_t){8192, true, 8192}), EXIT_SANITIZED);
}

static void test_a_row_between_two_buffers_is_seen(void **state)
{
    (void)state;
    const pid_t child = fork();
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        arena_t arena = {.region_count = 0};
        arena_add(&arena, ARENA_ALIGNED, "first", 1, ROW_BYTES, 2);
        arena_add(&arena, ARENA_ALIGNED, "second", 1, ROW_BYTES, 2);
        arena_finish(&arena);
        char *first = arena_at(&arena, 0, arena_allocate(&arena));
        write_row(first, ROW_BYTES);
        write_row(first, (size_t)2 * ROW_BYTES);
        _exit(EXIT_CLEAN);
    }
    assert_int_equal(wait_for(child), EXIT_SANITIZED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_within_a_window_are_let_be),
        cmocka_unit_test(test_a_row_behind_a_window_is_seen),
        cmocka_unit_test(test_a_row_half_behind_a_window_is_seen),
        cmocka_unit_test(test_a_row_behind_the_last_page_is_seen),
        cmocka_unit_test(test_a_row_between_two_buffers_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
