/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: what is allocated equals the quote to the byte, is given back in full, and what does not
 * fit is refused before anything is allocated.
 *
 *   test_exchange_quote [FILE]     FILE: sets the memory limit that this process is known to have
 */
#include "support/world.h"

#include "moxie/moxie.h"

#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *known_limit;

static void expect_used(world_rank_t *self, const char *when, const moxie_group_t *group,
                        const moxie_memory_bytes_t *quotes, int count)
{
    moxie_memory_bytes_t sum = MOXIE_MEMORY_BYTES_INIT;
    for (int i = 0; i < count; i++) {
        sum.host_bytes += quotes[i].host_bytes;
        sum.window_bytes += quotes[i].window_bytes;
        sum.device_bytes += quotes[i].device_bytes;
    }
    moxie_memory_bytes_t used = MOXIE_MEMORY_BYTES_INIT;
    world_expect(self, "memory_used", moxie_group_memory_used(group, &used), MOXIE_OK);
    if (memcmp(&sum, &used, sizeof(sum)) != 0) {
        world_fail(self,
                   "%s: quoted %" PRIu64 " host and %" PRIu64 " window bytes, used %" PRIu64
                   " and %" PRIu64,
                   when, sum.host_bytes, sum.window_bytes, used.host_bytes, used.window_bytes);
    }
}

static moxie_route_options_t route_options(moxie_layout_t layout, moxie_mode_t mode)
{
    moxie_route_options_t options = MOXIE_ROUTE_OPTIONS_INIT;
    options.layout = layout;
    options.expert_count = 13;
    options.topk = 3;
    options.hidden = 77;
    options.token_count_max = 41;
    options.alignment = mode == MOXIE_MODE_LOW_LATENCY ? 1 : 16;
    options.mode = mode;
    return options;
}

static void quote_equals_use(world_rank_t *self)
{
    const moxie_mode_t mode = *(const moxie_mode_t *)self->arg;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank = self->rank;
    options.rank_count = self->options->rank_count;
    options.backend = self->options->backend;
    moxie_memory_bytes_t quotes[3] = {MOXIE_MEMORY_BYTES_INIT, MOXIE_MEMORY_BYTES_INIT,
                                      MOXIE_MEMORY_BYTES_INIT};
    moxie_route_quote_t route_quote = MOXIE_ROUTE_QUOTE_INIT;
    const size_t window_bytes = (size_t)self->rank * 5000 + 1;
    const moxie_route_options_t shape = route_options(
        self->options->rank_count % 2 ? MOXIE_LAYOUT_RANK_MAJOR : MOXIE_LAYOUT_EXPERT_MAJOR, mode);
    world_expect(self, "group quote", moxie_group_memory_quote(&options, &quotes[0]), MOXIE_OK);
    world_expect(self, "window quote",
                 moxie_window_memory_quote(&options, window_bytes, &quotes[1]), MOXIE_OK);
    world_expect(self, "route quote", moxie_route_memory_quote(&options, &shape, &route_quote),
                 MOXIE_OK);
    quotes[2] = route_quote.memory;

    moxie_group_t *group = world_group(self, "quote");
    moxie_window_t *window = NULL;
    moxie_route_t *route = NULL;
    if (group == NULL) {
        return;
    }
    expect_used(self, "group", group, quotes, 1);
    world_expect(self, "window", moxie_window_allocate(group, window_bytes, &window), MOXIE_OK);
    expect_used(self, "group and window", group, quotes, 2);
    world_expect(self, "route", moxie_route_create(group, &shape, &route), MOXIE_OK);
    expect_used(self, "group, window and route", group, quotes, 3);
    moxie_route_destroy(route);
    moxie_window_free(window);
    expect_used(self, "after giving back", group, quotes, 1);
    moxie_group_destroy(group);
}

/* One rank wants more than there is: everyone is refused with the same figures, and goes on. */
static void too_much_is_refused(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "much");
    if (group == NULL) {
        return;
    }
    const uint64_t available = moxie_memory_available();
    const size_t bytes = self->rank == 0 ? (size_t)available * 2 : 4096;
    moxie_memory_bytes_t before = MOXIE_MEMORY_BYTES_INIT;
    moxie_memory_bytes_t after = MOXIE_MEMORY_BYTES_INIT;
    moxie_group_memory_used(group, &before);
    moxie_window_t *window = NULL;
    world_expect(self, "too large a window", moxie_window_allocate(group, bytes, &window),
                 MOXIE_ERR_MEMORY);
    moxie_error_t error = MOXIE_ERROR_INIT;
    moxie_last_error(&error);
    if (error.expected < (int64_t)available || error.observed <= 0) {
        world_fail(self, "the error names %" PRId64 " and %" PRId64 " bytes", error.expected,
                   error.observed);
    }
    char limit[PATH_MAX];
    moxie_memory_limit(limit, sizeof(limit));
    if (strstr(error.message, limit[0] == '\0' ? "this machine" : limit) == NULL) {
        world_fail(self, "the error does not name what is too small: %s", error.message);
    }
    moxie_group_memory_used(group, &after);
    if (memcmp(&before, &after, sizeof(before)) != 0 || window != NULL) {
        world_fail(self, "a refused window left something behind");
    }
    world_expect(self, "a window that fits", moxie_window_allocate(group, 4096, &window), MOXIE_OK);
    moxie_window_free(window);
    moxie_group_destroy(group);
}

static void test_limit(void **state)
{
    (void)state;
    char path[PATH_MAX];
    char cut[5] = "xxxx";
    const uint64_t bytes = moxie_memory_limit(path, sizeof(path));
    assert_int_equal(bytes > 0, path[0] != '\0');
    assert_int_equal(moxie_memory_limit(cut, sizeof(cut)), bytes);
    assert_int_equal(strncmp(cut, path, 4), 0);
    assert_int_equal(cut[4], '\0');
    assert_int_equal(moxie_memory_limit(NULL, 0), bytes);
    if (known_limit != NULL) {
        assert_string_equal(path, known_limit);
        assert_true(moxie_memory_available() < bytes);
    }
}

static void run(int32_t rank_count, world_fn fn, moxie_mode_t mode)
{
    const world_options_t options = {.rank_count = rank_count,
                                     .mode = world_mode_from_environment(),
                                     .backend = "shm",
                                     .deadline_s = 60};
    world_run(&options, fn, &mode);
}

static void test_quote_equals_use(void **state)
{
    (void)state;
    run(1, quote_equals_use, MOXIE_MODE_STANDARD);
    run(2, quote_equals_use, MOXIE_MODE_STANDARD);
    run(5, quote_equals_use, MOXIE_MODE_STANDARD);
}

static void test_quote_equals_use_in_low_latency(void **state)
{
    (void)state;
    run(1, quote_equals_use, MOXIE_MODE_LOW_LATENCY);
    run(2, quote_equals_use, MOXIE_MODE_LOW_LATENCY);
    run(5, quote_equals_use, MOXIE_MODE_LOW_LATENCY);
}

static void test_too_much_is_refused(void **state)
{
    (void)state;
    run(3, too_much_is_refused, MOXIE_MODE_STANDARD);
}

int main(int argc, char **argv)
{
    known_limit = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quote_equals_use),
        cmocka_unit_test(test_quote_equals_use_in_low_latency),
        cmocka_unit_test(test_too_much_is_refused),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests_name("quote", tests, NULL, NULL);
}
