/* SPDX-License-Identifier: Apache-2.0 */
/* Windows and memory: sizes, registered memory, quotes to the byte. */
#include "conformance/conformance.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool expect_number(world_rank_t *self, const char *what, uint64_t got, uint64_t expected)
{
    if (got != expected) {
        world_fail(self, "%s is %" PRIu64 ", not %" PRIu64, what, got, expected);
    }
    return got == expected;
}

/* Each rank its own size, zero among them; zeroed, page-aligned, freed in any order. */
static void play_sizes(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "sizes");
    if (group == NULL) {
        return;
    }
    moxie_window_t *windows[4] = {NULL, NULL, NULL, NULL};
    const size_t sizes[] = {0, 1, 4096, 100000};
    for (size_t i = 0; i < COUNT(windows) && !self->failed; i++) {
        const size_t bytes = sizes[(i + (size_t)self->rank) % COUNT(sizes)];
        if (!world_expect(self, "window_allocate", moxie_window_allocate(group, bytes, &windows[i]),
                          MOXIE_OK)) {
            break;
        }
        expect_number(self, "window_bytes", moxie_window_bytes(windows[i]), bytes);
        const unsigned char *base = moxie_window_base(windows[i]);
        if (bytes > 0) {
            expect_number(self, "alignment", (uintptr_t)base % 4096, 0);
        }
        for (size_t byte = 0; byte < bytes && !self->failed; byte++) {
            expect_number(self, "a new window's byte", base[byte], 0);
        }
        if (bytes > 0) {
            memset(moxie_window_base(windows[i]), 0xFF, bytes);
        }
    }
    const size_t order[] = {2, 0, 3, 1};
    for (size_t i = 0; i < COUNT(order); i++) {
        moxie_window_free(windows[order[i]]);
    }
    moxie_window_free(NULL);
    moxie_group_destroy(group);
}

static void test_window_sizes(void **state)
{
    (void)state;
    conformance_run(1, play_sizes, NULL);
    conformance_run(3, play_sizes, NULL);
}

/* What the group, a window and a route take is what was quoted. */
static void play_quotes(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "quotes");
    if (group == NULL) {
        return;
    }
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank = self->rank;
    options.rank_count = self->options->rank_count;
    options.backend = self->options->backend;
    moxie_memory_bytes_t quoted = MOXIE_MEMORY_BYTES_INIT;
    moxie_memory_bytes_t before = MOXIE_MEMORY_BYTES_INIT;
    moxie_memory_bytes_t after = MOXIE_MEMORY_BYTES_INIT;
    world_expect(self, "group_memory_quote", moxie_group_memory_quote(&options, &quoted), MOXIE_OK);
    world_expect(self, "group_memory_used", moxie_group_memory_used(group, &before), MOXIE_OK);
    expect_number(self, "host bytes of a group", before.host_bytes, quoted.host_bytes);
    expect_number(self, "window bytes of a group", before.window_bytes, quoted.window_bytes);

    moxie_window_t *window = NULL;
    world_expect(self, "window_quote", moxie_window_memory_quote(&options, 12345, &quoted),
                 MOXIE_OK);
    world_expect(self, "window", moxie_window_allocate(group, 12345, &window), MOXIE_OK);
    world_expect(self, "used", moxie_group_memory_used(group, &after), MOXIE_OK);
    expect_number(self, "host bytes of a window", after.host_bytes - before.host_bytes,
                  quoted.host_bytes);
    expect_number(self, "window bytes of a window", after.window_bytes - before.window_bytes,
                  quoted.window_bytes);
    before = after;

    const scenario_t scenario = scenario_random(9100, 50, 100);
    scenario_world_t world;
    scenario_build(&scenario, self->options->rank_count, &world);
    const moxie_route_options_t route_options = scenario_route_options(&scenario, &world);
    moxie_route_quote_t route_quote = MOXIE_ROUTE_QUOTE_INIT;
    moxie_route_t *route = NULL;
    world_expect(self, "route_quote",
                 moxie_route_memory_quote(&options, &route_options, &route_quote), MOXIE_OK);
    world_expect(self, "route", moxie_route_create(group, &route_options, &route), MOXIE_OK);
    world_expect(self, "used", moxie_group_memory_used(group, &after), MOXIE_OK);
    expect_number(self, "host bytes of a route", after.host_bytes - before.host_bytes,
                  route_quote.memory.host_bytes);
    expect_number(self, "window bytes of a route", after.window_bytes - before.window_bytes,
                  route_quote.memory.window_bytes);
    moxie_route_destroy(route);
    scenario_free(&world);
    moxie_window_free(window);
    world_expect(self, "group_memory_quote", moxie_group_memory_quote(&options, &quoted), MOXIE_OK);
    world_expect(self, "used", moxie_group_memory_used(group, &after), MOXIE_OK);
    expect_number(self, "host bytes after all was freed", after.host_bytes, quoted.host_bytes);
    expect_number(self, "window bytes after all was freed", after.window_bytes,
                  quoted.window_bytes);
    moxie_group_destroy(group);
}

static void test_quotes(void **state)
{
    (void)state;
    conformance_run(1, play_quotes, NULL);
    conformance_run(3, play_quotes, NULL);
}

/* Memory that this test makes: a sealed memfd, of which a part is mapped. */
static bool make_memory(world_rank_t *self, size_t bytes, moxie_memory_t *out)
{
    *out = (moxie_memory_t)MOXIE_MEMORY_INIT;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    out->bytes = bytes;
    out->fd_offset = page;
    out->fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (out->fd < 0 || ftruncate(out->fd, (off_t)(bytes + page)) != 0 ||
        fcntl(out->fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        world_fail(self, "no memfd");
        return false;
    }
    out->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, out->fd, (off_t)page);
    if (out->base == MAP_FAILED) {
        world_fail(self, "no mapping");
        return false;
    }
    return true;
}

static void play_registered(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "registered");
    if (group == NULL) {
        return;
    }
    moxie_memory_t outputs = MOXIE_MEMORY_INIT, inputs = MOXIE_MEMORY_INIT;
    trial_memory_t windows = {NULL, NULL};
    bool good = make_memory(self, (size_t)1 << 20, &outputs) &&
                make_memory(self, (size_t)1 << 20, &inputs) &&
                world_expect(self, "window_register",
                             moxie_window_register(group, &outputs, &windows.outputs), MOXIE_OK) &&
                world_expect(self, "window_register",
                             moxie_window_register(group, &inputs, &windows.inputs), MOXIE_OK);
    if (good && moxie_window_base(windows.outputs) != outputs.base) {
        world_fail(self, "a registered window begins elsewhere");
        good = false;
    }
    const scenario_t scenario = {.seed = 9200,
                                 .hidden = 100,
                                 .expert_count = 7,
                                 .topk = 3,
                                 .token_count_max = 50,
                                 .layout = MOXIE_LAYOUT_EXPERT_MAJOR,
                                 .alignment = 4};
    trial_t trial;
    if (good) {
        good = trial_open(&trial, self, group, &scenario, &windows);
        for (int step = 0; good && step < TRIAL_STEP_COUNT; step++) {
            good = trial_step(&trial, step, 0);
        }
        trial_close(&trial);
    }
    moxie_window_free(windows.inputs);
    moxie_window_free(windows.outputs);
    if (good) {
        memset(outputs.base, 1, outputs.bytes); /* still the caller's */
    }
    munmap(outputs.base, outputs.bytes);
    munmap(inputs.base, inputs.bytes);
    close(outputs.fd);
    close(inputs.fd);
    moxie_group_destroy(group);
}

static void test_registered_memory(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_REGISTER_MEMORY);
    conformance_run(1, play_registered, NULL);
    conformance_run(3, play_registered, NULL);
}

const struct CMUnitTest window_tests[] = {
    cmocka_unit_test(test_window_sizes),
    cmocka_unit_test(test_quotes),
    cmocka_unit_test(test_registered_memory),
};
const size_t window_test_count = COUNT(window_tests);
