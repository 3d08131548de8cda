/* SPDX-License-Identifier: Apache-2.0 */
/* No knob changes nothing: between two of its values some kernel is launched with another number of
 * threads, or an exchange takes another time. One rank is enough. On cuda, or on the backend that
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

enum { LAUNCHES_MAX = 16, VALUES_MAX = 8, TRIES = 12, CHOICE_RANGE_MAX = 7 };

/* Times that differ by less may be noise. */
#define TIME_RATIO_MIN 1.25

/* What a value did in one layout. */
typedef struct seen {
    bool is_possible; /* not every processor has every kind of kernels */
    uint32_t threads[LAUNCHES_MAX];
    int32_t launch_count;
    double shortest_s; /* of update, dispatch and combine */
} seen_t;

/* What the rank is asked for. */
typedef struct question {
    const char *knob;
    int64_t value;
    moxie_layout_t layout;
    moxie_mode_t mode;
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

/* Whether a group can be made with the setting at all. */
static bool is_possible(const moxie_knob_setting_t *setting)
{
    moxie_group_t *group = NULL;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank_count = 1;
    options.backend = backend.info.name;
    options.knobs = setting;
    options.knob_count = 1;
    const moxie_status_t status = moxie_group_create(&options, &group);
    moxie_group_destroy(group);
    return status != MOXIE_ERR_UNSUPPORTED;
}

static void play(world_rank_t *self)
{
    question_t *question = self->arg;
    const bool is_low_latency = question->mode == MOXIE_MODE_LOW_LATENCY;
    const scenario_t shape = {.seed = 9600,
                              .mode = question->mode,
                              .hidden = 2048,
                              .expert_count = 16,
                              .topk = 4,
                              .token_count_max = is_low_latency ? 64 : 2048,
                              .tokens = TOKENS_FULL,
                              .layout = question->layout,
                              .aligned = true};
    const moxie_knob_setting_t setting = {question->knob, question->value};
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.knobs = &setting;
    options.knob_count = 1;
    question->seen = (seen_t){.is_possible = is_possible(&setting)};
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

static seen_t look(const moxie_knob_info_t *knob, int64_t value, moxie_layout_t layout)
{
    const bool is_low_latency = (knob->use & MOXIE_KNOB_LOW_LATENCY) != 0;
    const world_options_t options = {
        .rank_count = 1, .mode = WORLD_THREADS, .backend = backend.info.name, .deadline_s = 60};
    question_t question = {.knob = knob->name,
                           .value = value,
                           .layout = layout,
                           .mode = is_low_latency ? MOXIE_MODE_LOW_LATENCY : MOXIE_MODE_STANDARD};
    world_run(&options, play, &question);
    return question.seen;
}

static bool differ(const seen_t *one, const seen_t *other)
{
    const double ratio = one->shortest_s / other->shortest_s;
    return one->launch_count != other->launch_count ||
           memcmp(one->threads, other->threads, sizeof(one->threads)) != 0 ||
           ratio > TIME_RATIO_MIN || ratio < 1.0 / TIME_RATIO_MIN;
}

/* All values of a choice, the ends of an amount; returns how many. */
static int32_t values_of(const moxie_knob_info_t *knob, int64_t values[VALUES_MAX])
{
    const bool zero_chooses = (knob->use & MOXIE_KNOB_ZERO_CHOOSES) != 0;
    int32_t count = 0;
    if ((uint64_t)knob->value_max - (uint64_t)knob->value_min <= CHOICE_RANGE_MAX) {
        for (int64_t value = knob->value_min; value <= knob->value_max; value++) {
            values[count++] = value;
        }
        return count;
    }
    values[count++] = zero_chooses ? 1 : knob->value_min;
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
    *possible_count = 0;
    for (int32_t i = 0; i < count; i++) {
        const seen_t one = look(knob, values[i], layout);
        if (!one.is_possible) {
            continue;
        }
        print_message("%s = %lld, %s: %.0f us, threads", knob->name, (long long)values[i],
                      layout == MOXIE_LAYOUT_EXPERT_MAJOR ? "expert_major" : "rank_major",
                      one.shortest_s * 1e6);
        for (int32_t j = 0; j < one.launch_count; j++) {
            print_message(" %u", one.threads[j]);
        }
        print_message("\n");
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

static void test_every_knob_reaches_the_hot_path(void **state)
{
    moxie_group_t *group = NULL;
    moxie_knob_info_t knobs[32] = {{.size = 0}};
    size_t knob_count = 0;
    (void)state;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank_count = 1;
    options.backend = backend.info.name;
    assert_status(moxie_group_create(&options, &group), MOXIE_OK);
    for (; knob_count < 32; knob_count++) {
        knobs[knob_count] = (moxie_knob_info_t)MOXIE_KNOB_INFO_INIT;
        if (moxie_group_knob(group, knob_count, &knobs[knob_count]) != MOXIE_OK) {
            break;
        }
    }
    moxie_group_destroy(group);
    assert_true(knob_count > 0);
    int32_t idle_count = 0;
    for (size_t i = 0; i < knob_count; i++) {
        int32_t possible_count = 0;
        const bool is_of_one_layout = (knobs[i].use & MOXIE_KNOB_EXPERT_MAJOR) != 0;
        if (is_counted(knobs[i].name) || knobs[i].value_min == knobs[i].value_max ||
            (!is_of_one_layout &&
             changes_layout(&knobs[i], MOXIE_LAYOUT_RANK_MAJOR, &possible_count)) ||
            changes_layout(&knobs[i], MOXIE_LAYOUT_EXPERT_MAJOR, &possible_count)) {
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_knob_reaches_the_hot_path)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
