/* SPDX-License-Identifier: Apache-2.0 */
/* No knob changes nothing: between two of its values some kernel is launched with another number of
 * threads, or an exchange takes another time. And where a knob's definition does not say that it is
 * read, it changes no launch. One rank is enough. On cuda, or on the backend that
 * MOXIE_TEST_BACKEND names. */
#include "cuda/flight.h"
#include "support/backends.h"
#include "support/check.h"

#ifdef MOXIE_CUDA
#include "driver/cuda.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAUNCHES_MAX = 16, VALUES_MAX = 8, KNOBS_MAX = 32, TRIES = 12, CHOICE_RANGE_MAX = 7 };

/* Times that differ by less may be noise. */
#define TIME_RATIO_MIN 1.25

/* Where update, dispatch and combine are called. */
typedef struct place {
    moxie_mode_t mode;
    moxie_layout_t layout;
    bool brings_routing; /* the update comes with the dispatch */
} place_t;

/* What values did in one place. */
typedef struct seen {
    bool is_possible; /* not every processor has every kind of kernels */
    uint32_t threads[LAUNCHES_MAX];
    int32_t launch_count;
    double shortest_s; /* of update, dispatch and combine */
} seen_t;

/* What the rank is asked for. */
typedef struct question {
    const moxie_knob_setting_t *settings;
    size_t setting_count;
    place_t place;
    seen_t seen;
} question_t;

static found_backend_t backend;

/* Knobs of shm that change the group's counters: exchange/test_knobs.c. */
static const char *const counted[] = {"spin_count", "yield_count", "stream_min_bytes"};

#ifdef MOXIE_CUDA
/* Stands before the driver's own, and notes how many threads a kernel gets. */
static __typeof__(&cuLaunchKernelEx) launch_by_driver;
static uint32_t noted_threads[LAUNCHES_MAX];
static int32_t noted_count;

static CUresult note_launch(const CUlaunchConfig *config, CUfunction kernel, void **parameters,
                            void **extra)
{
    if (noted_count < LAUNCHES_MAX) {
        noted_threads[noted_count++] =
            config->gridDimX * config->blockDimX; /* one dimension each */
    }
    return launch_by_driver(config, kernel, parameters, extra);
}

static void watch_launches(void)
{
    if (cuda() != NULL && launch_by_driver == NULL) {
        cuda_driver_t *driver = (cuda_driver_t *)(uintptr_t)cuda(); /* this test's own copy */
        launch_by_driver = driver->cuLaunchKernelEx;
        driver->cuLaunchKernelEx = note_launch;
    }
}

static void take_launches(seen_t *seen)
{
    memcpy(seen->threads, noted_threads, sizeof(seen->threads));
    seen->launch_count = noted_count;
    noted_count = 0;
}
#else
static void watch_launches(void)
{
}

static void take_launches(seen_t *seen)
{
    seen->launch_count = 0;
}
#endif

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void time_exchange(flight_t *flight, seen_t *seen)
{
    flight_load(flight, 1);
    seen->shortest_s = 1e9;
    for (int i = 0; i < TRIES && !flight->self->failed; i++) {
        seen_t unused;
        take_launches(&unused);
        const double start_s = now_s();
        const moxie_status_t status = flight_settle(flight, flight_launch(flight));
        device_synchronise(flight->device);
        const double time_s = now_s() - start_s;
        take_launches(seen);
        world_expect(flight->self, "update, dispatch and combine", status, MOXIE_OK);
        seen->shortest_s = time_s < seen->shortest_s ? time_s : seen->shortest_s;
    }
}

/* Whether a group can be made with the settings at all. */
static bool is_possible(const question_t *question)
{
    moxie_group_t *group = NULL;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank_count = 1;
    options.backend = backend.info.name;
    options.knobs = question->settings;
    options.knob_count = question->setting_count;
    const moxie_status_t status = moxie_group_create(&options, &group);
    moxie_group_destroy(group);
    return status != MOXIE_ERR_UNSUPPORTED;
}

static void play(world_rank_t *self)
{
    question_t *question = self->arg;
    const place_t *place = &question->place;
    const bool is_low_latency = place->mode == MOXIE_MODE_LOW_LATENCY;
    const scenario_t shape = {.seed = 9600,
                              .mode = place->mode,
                              .hidden = 2048,
                              .expert_count = 16,
                              .topk = 4,
                              .token_count_max = is_low_latency ? 64 : 2048,
                              .tokens = TOKENS_FULL,
                              .layout = place->layout,
                              .brings_routing = place->brings_routing,
                              .aligned = true};
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.knobs = question->settings;
    options.knob_count = question->setting_count;
    question->seen = (seen_t){.is_possible = is_possible(question)};
    if (!question->seen.is_possible) {
        return;
    }
    watch_launches();
    flight_t flight = {.self = NULL};
    moxie_group_t *group = world_group_with(self, "knobs", &options);
    if (group != NULL && flight_open(&flight, self, group, &shape, flight_rows_max(self, &shape),
                                     device_stream(self->device))) {
        time_exchange(&flight, &question->seen);
    }
    flight_close(&flight);
    moxie_group_destroy(group);
}

static seen_t look(const moxie_knob_setting_t *settings, size_t setting_count, place_t place)
{
    const world_options_t options = {
        .rank_count = 1, .mode = WORLD_THREADS, .backend = backend.info.name, .deadline_s = 60};
    question_t question = {.settings = settings, .setting_count = setting_count, .place = place};
    world_run(&options, play, &question);
    return question.seen;
}

static bool launches_differ(const seen_t *one, const seen_t *other)
{
    return one->launch_count != other->launch_count ||
           memcmp(one->threads, other->threads,
                  sizeof(one->threads[0]) * (size_t)one->launch_count) != 0;
}

static bool differ(const seen_t *one, const seen_t *other)
{
    const double ratio = one->shortest_s / other->shortest_s;
    return launches_differ(one, other) || ratio > TIME_RATIO_MIN || ratio < 1.0 / TIME_RATIO_MIN;
}

static void print_seen(const char *what, place_t place, const seen_t *seen)
{
    print_message("%s, %s, %s%s: %.0f us, threads", what,
                  place.mode == MOXIE_MODE_LOW_LATENCY ? "low latency" : "standard",
                  place.layout == MOXIE_LAYOUT_EXPERT_MAJOR ? "expert_major" : "rank_major",
                  place.brings_routing ? ", routing with the dispatch" : "",
                  seen->shortest_s * 1e6);
    for (int32_t i = 0; i < seen->launch_count; i++) {
        print_message(" %u", seen->threads[i]);
    }
    print_message("\n");
}

static int64_t smallest_of(const moxie_knob_info_t *knob)
{
    return (knob->use & MOXIE_KNOB_ZERO_CHOOSES) != 0 ? 1 : knob->value_min;
}

/* All values of a choice, the ends of an amount; returns how many. */
static int32_t values_of(const moxie_knob_info_t *knob, int64_t values[VALUES_MAX])
{
    int32_t count = 0;
    if ((uint64_t)knob->value_max - (uint64_t)knob->value_min <= CHOICE_RANGE_MAX) {
        for (int64_t value = knob->value_min; value <= knob->value_max; value++) {
            values[count++] = value;
        }
        return count;
    }
    values[count++] = smallest_of(knob);
    values[count++] = knob->value_max;
    return count;
}

/* Whether any two values differ; `possible_count` is how many of them there are here. */
static bool changes_layout(const moxie_knob_info_t *knob, moxie_layout_t layout,
                           int32_t *possible_count)
{
    int64_t values[VALUES_MAX];
    seen_t seen[VALUES_MAX];
    const int32_t count = values_of(knob, values);
    const bool is_low_latency = (knob->use & MOXIE_KNOB_LOW_LATENCY) != 0;
    const place_t place = {.mode = is_low_latency ? MOXIE_MODE_LOW_LATENCY : MOXIE_MODE_STANDARD,
                           .layout = layout};
    *possible_count = 0;
    for (int32_t i = 0; i < count; i++) {
        const moxie_knob_setting_t setting = {knob->name, values[i]};
        const seen_t one = look(&setting, 1, place);
        char what[64];
        if (!one.is_possible) {
            continue;
        }
        snprintf(what, sizeof(what), "%s = %lld", knob->name, (long long)values[i]);
        print_seen(what, place, &one);
        for (int32_t j = 0; j < *possible_count; j++) {
            if (differ(&seen[j], &one)) {
                return true;
            }
        }
        seen[(*possible_count)++] = one;
    }
    return false;
}

static bool is_counted(const char *name)
{
    for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
        if (strcmp(counted[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The backend's knobs; returns how many. */
static size_t read_knobs(moxie_knob_info_t knobs[KNOBS_MAX])
{
    moxie_group_t *group = NULL;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    size_t count = 0;
    options.rank_count = 1;
    options.backend = backend.info.name;
    assert_status(moxie_group_create(&options, &group), MOXIE_OK);
    for (; count < KNOBS_MAX; count++) {
        knobs[count] = (moxie_knob_info_t)MOXIE_KNOB_INFO_INIT;
        if (moxie_group_knob(group, count, &knobs[count]) != MOXIE_OK) {
            break;
        }
    }
    moxie_group_destroy(group);
    assert_true(count > 0);
    return count;
}

static void test_every_knob_reaches_the_hot_path(void **state)
{
    moxie_knob_info_t knobs[KNOBS_MAX];
    const size_t knob_count = read_knobs(knobs);
    int32_t idle_count = 0;
    (void)state;
    for (size_t i = 0; i < knob_count; i++) {
        int32_t possible_count = 0;
        const bool in_rank_major = (knobs[i].use & MOXIE_KNOB_EXPERT_MAJOR) == 0;
        const bool in_expert_major = (knobs[i].use & MOXIE_KNOB_RANK_MAJOR) == 0;
        if (is_counted(knobs[i].name) || knobs[i].value_min == knobs[i].value_max ||
            (in_rank_major &&
             changes_layout(&knobs[i], MOXIE_LAYOUT_RANK_MAJOR, &possible_count)) ||
            (in_expert_major &&
             changes_layout(&knobs[i], MOXIE_LAYOUT_EXPERT_MAJOR, &possible_count))) {
            continue;
        }
        if (possible_count < 2) {
            print_message("%s: this machine has only one of its values\n", knobs[i].name);
            continue;
        }
        print_message("knob %s changes nothing\n", knobs[i].name);
        idle_count++;
    }
    assert_int_equal(idle_count, 0);
}

/* What a knob's definition says: whether the calls of an exchange read it. */
static bool is_read(uint64_t use, place_t place)
{
    const bool is_expert_major = place.layout == MOXIE_LAYOUT_EXPERT_MAJOR;
    const bool is_low_latency = place.mode == MOXIE_MODE_LOW_LATENCY;
    const uint64_t elsewhere = (is_expert_major ? MOXIE_KNOB_RANK_MAJOR : MOXIE_KNOB_EXPERT_MAJOR) |
                               (is_low_latency ? MOXIE_KNOB_STANDARD : MOXIE_KNOB_LOW_LATENCY);
    const uint64_t rows = MOXIE_KNOB_DISPATCH | MOXIE_KNOB_COMBINE;
    const uint64_t apart = rows | MOXIE_KNOB_UPDATE;
    const uint64_t together = rows | (is_expert_major ? MOXIE_KNOB_ROUTING_EXPERT_MAJOR : 0);
    const bool is_every_call = (use & (apart | MOXIE_KNOB_ROUTING_EXPERT_MAJOR)) == 0;
    return (use & elsewhere) == 0 &&
           (is_every_call || (use & (place.brings_routing ? together : apart)) != 0);
}

/* Compares the launches by default with those when every knob that is not read there is at its
 * smallest. */
static void check_unread_knobs(const moxie_knob_info_t *knobs, size_t knob_count, place_t place)
{
    moxie_knob_setting_t settings[KNOBS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < knob_count; i++) {
        if (!is_read(knobs[i].use, place)) {
            assert_true(smallest_of(&knobs[i]) != knobs[i].value_default);
            settings[count++] = (moxie_knob_setting_t){knobs[i].name, smallest_of(&knobs[i])};
        }
    }
    const seen_t by_default = look(NULL, 0, place);
    const seen_t changed = look(settings, count, place);
    print_seen("default", place, &by_default);
    print_seen("unread knobs changed", place, &changed);
    assert_true(by_default.is_possible && changed.is_possible);
    assert_true(by_default.launch_count > 0);
    assert_false(launches_differ(&by_default, &changed));
}

static void test_a_knob_changes_no_launch_where_it_is_not_read(void **state)
{
    static const moxie_mode_t modes[] = {MOXIE_MODE_STANDARD, MOXIE_MODE_LOW_LATENCY};
    static const moxie_layout_t layouts[] = {MOXIE_LAYOUT_RANK_MAJOR, MOXIE_LAYOUT_EXPERT_MAJOR};
    moxie_knob_info_t knobs[KNOBS_MAX];
    (void)state;
    if ((backend.info.capabilities & MOXIE_CAP_STREAM) == 0) {
        skip(); /* it launches nothing */
    }
    const size_t knob_count = read_knobs(knobs);
    for (int i = 0; i < 8; i++) {
        const place_t place = {modes[i / 4], layouts[i / 2 % 2], i % 2 == 1};
        check_unread_knobs(knobs, knob_count, place);
    }
}

int main(void)
{
    device_prepare_process();
    setenv("MOXIE_TUNING", "off", 1); /* what somebody stored here is no business of tests */
    const char *name = backends_wanted("cuda");
    if (!backends_find(name, &backend)) {
        printf("SKIPPED: the library has no backend %s\n", name);
        return EXIT_SKIPPED;
    }
    if (backend.missing[0] != '\0') {
        printf("SKIPPED: backend %s: %s\n", name, backend.missing);
        return EXIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_knob_reaches_the_hot_path),
        cmocka_unit_test(test_a_knob_changes_no_launch_where_it_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
