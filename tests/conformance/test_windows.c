/* SPDX-License-Identifier: Apache-2.0 */
/* Windows and memory: sizes, registered memory, quotes to the byte. */
#include "conformance/conformance.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
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
        if (bytes > 0) {
            expect_number(self, "alignment", (uintptr_t)moxie_window_base(windows[i]) % 4096, 0);
        }
        unsigned char seen[100000];
        device_download(self->device, seen, moxie_window_base(windows[i]), bytes);
        for (size_t byte = 0; byte < bytes && !self->failed; byte++) {
            expect_number(self, "a new window's byte", seen[byte], 0);
        }
        device_fill(self->device, moxie_window_base(windows[i]), 0xFF, bytes);
    }
    device_synchronise(self->device);
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

/* The growth from `before` to `after`, of every kind. */
static void expect_bytes(world_rank_t *self, const char *what, const moxie_memory_bytes_t *before,
                         const moxie_memory_bytes_t *after, const moxie_memory_bytes_t *quoted)
{
    char text[80];
    snprintf(text, sizeof(text), "host bytes of %s", what);
    expect_number(self, text, after->host_bytes - before->host_bytes, quoted->host_bytes);
    snprintf(text, sizeof(text), "window bytes of %s", what);
    expect_number(self, text, after->window_bytes - before->window_bytes, quoted->window_bytes);
    snprintf(text, sizeof(text), "device bytes of %s", what);
    expect_number(self, text, after->device_bytes - before->device_bytes, quoted->device_bytes);
}

static moxie_memory_bytes_t used(world_rank_t *self, const moxie_group_t *group)
{
    moxie_memory_bytes_t bytes = MOXIE_MEMORY_BYTES_INIT;
    world_expect(self, "group_memory_used", moxie_group_memory_used(group, &bytes), MOXIE_OK);
    return bytes;
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
    const moxie_memory_bytes_t nothing = MOXIE_MEMORY_BYTES_INIT;
    moxie_memory_bytes_t of_group = MOXIE_MEMORY_BYTES_INIT;
    moxie_memory_bytes_t of_window = MOXIE_MEMORY_BYTES_INIT;
    world_expect(self, "group_memory_quote", moxie_group_memory_quote(&options, &of_group),
                 MOXIE_OK);
    moxie_memory_bytes_t before = used(self, group);
    expect_bytes(self, "a group", &nothing, &before, &of_group);

    moxie_window_t *window = NULL;
    world_expect(self, "window_quote", moxie_window_memory_quote(&options, 12345, &of_window),
                 MOXIE_OK);
    world_expect(self, "window", moxie_window_allocate(group, 12345, &window), MOXIE_OK);
    moxie_memory_bytes_t after = used(self, group);
    expect_bytes(self, "a window", &before, &after, &of_window);
    before = after;

    const scenario_t scenario = scenario_random(9100, 50, 100);
    scenario_world_t world;
    scenario_build(&scenario, self->options->rank_count, &world);
    const moxie_route_options_t route_options = scenario_route_options(&scenario, &world);
    moxie_route_quote_t of_route = MOXIE_ROUTE_QUOTE_INIT;
    moxie_route_t *route = NULL;
    world_expect(self, "route_quote", moxie_route_memory_quote(&options, &route_options, &of_route),
                 MOXIE_OK);
    world_expect(self, "route", moxie_route_create(group, &route_options, &route), MOXIE_OK);
    after = used(self, group);
    expect_bytes(self, "a route", &before, &after, &of_route.memory);
    moxie_route_destroy(route);
    scenario_free(&world);
    moxie_window_free(window);
    after = used(self, group);
    expect_bytes(self, "a group after all else was freed", &nothing, &after, &of_group);
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

static void drop_memory(const moxie_memory_t *memory)
{
    munmap(memory->base, memory->bytes);
    close(memory->fd);
}

/* All four calls in windows of the caller's memory. */
static void play_in_memory(world_rank_t *self, moxie_group_t *group, const moxie_memory_t *outputs,
                           const moxie_memory_t *inputs)
{
    trial_memory_t windows = {NULL, NULL};
    bool good = world_expect(self, "window_register",
                             moxie_window_register(group, outputs, &windows.outputs), MOXIE_OK) &&
                world_expect(self, "window_register",
                             moxie_window_register(group, inputs, &windows.inputs), MOXIE_OK);
    if (good && moxie_window_base(windows.outputs) != outputs->base) {
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
        device_fill(self->device, outputs->base, 1, outputs->bytes); /* still the caller's */
    }
}

static void play_registered(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "registered");
    if (group == NULL) {
        return;
    }
    moxie_memory_t outputs = MOXIE_MEMORY_INIT, inputs = MOXIE_MEMORY_INIT;
    if (make_memory(self, (size_t)1 << 20, &outputs) &&
        make_memory(self, (size_t)1 << 20, &inputs)) {
        play_in_memory(self, group, &outputs, &inputs);
    }
    drop_memory(&outputs);
    drop_memory(&inputs);
    moxie_group_destroy(group);
}

static void test_registered_memory(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_REGISTER_MEMORY);
    conformance_require_not(MOXIE_CAP_STREAM); /* this memory is a memfd */
    conformance_run(1, play_registered, NULL);
    conformance_run(3, play_registered, NULL);
}

/* Memory as a framework allocates it; a part of it, too. */
static void play_registered_device_memory(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "device");
    if (group == NULL) {
        return;
    }
    const size_t bytes = (size_t)1 << 20;
    char *memory = device_create(self->device, 3 * bytes);
    moxie_memory_t outputs = MOXIE_MEMORY_INIT, inputs = MOXIE_MEMORY_INIT;
    outputs.base = memory;
    outputs.bytes = bytes;
    inputs.base = memory + bytes + 512;
    inputs.bytes = bytes;
    play_in_memory(self, group, &outputs, &inputs);
    device_synchronise(self->device);
    world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    moxie_group_destroy(group);
    device_destroy(self->device, memory);
}

static void test_registered_device_memory(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_REGISTER_MEMORY | MOXIE_CAP_STREAM);
    conformance_run(1, play_registered_device_memory, NULL);
    conformance_run(3, play_registered_device_memory, NULL);
}

/* The error says what to allocate a window's memory with. */
static void play_host_memory(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "host");
    if (group == NULL) {
        return;
    }
    moxie_memory_t memory = MOXIE_MEMORY_INIT;
    memory.bytes = 1 << 16;
    memory.base = aligned_alloc(4096, memory.bytes);
    moxie_window_t *window = NULL;
    moxie_error_t error = MOXIE_ERROR_INIT;
    world_expect(self, "window_register of host memory",
                 moxie_window_register(group, &memory, &window), MOXIE_ERR_WINDOW);
    (void)moxie_last_error(&error);
    if (strstr(error.message, "cudaMalloc") == NULL) {
        world_fail(self, "the error does not say what to allocate it with: %s", error.message);
    }
    free(memory.base);
    moxie_group_destroy(group);
}

static void test_host_memory_is_no_window_of_a_device(void **state)
{
    (void)state;
    conformance_require(MOXIE_CAP_REGISTER_MEMORY | MOXIE_CAP_STREAM);
    conformance_run(2, play_host_memory, NULL);
}

const struct CMUnitTest window_tests[] = {
    cmocka_unit_test(test_window_sizes),
    cmocka_unit_test(test_quotes),
    cmocka_unit_test(test_registered_memory),
    cmocka_unit_test(test_registered_device_memory),
    cmocka_unit_test(test_host_memory_is_no_window_of_a_device),
};
const size_t window_test_count = COUNT(window_tests);
