/* SPDX-License-Identifier: Apache-2.0 */
/* The search on made-up machines: known optima, known noise, settings that fail. */
#include "support/check.h"

#include "bench/random.h"
#include "tune/tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TRIAL_COUNT = 100 };

/* A machine: bytes / (rate · workers) + start · workers, in two knobs, and kernels. */
typedef struct machine {
    const space_t *space;
    double noise;    /* of a measurement, relative */
    double drift;    /* from one measurement to the next, relative */
    double flat;     /* the share of the time that no knob changes */
    int64_t failing; /* value of the first knob that fails; -1: none */
    int64_t count;
    int64_t stop_after; /* measurements; 0: never */
    uint64_t seed;
} machine_t;

/* Workers in all, and of these such that send while the others sum: what takes longer counts, and
 * every worker costs its start. 0: 40, and 4 of 10. */
static double time_of_two_crews(const setting_t *setting)
{
    double all = setting->value[0] > 0 ? (double)setting->value[0] : 40.0;
    double send = setting->value[1] > 0 ? fmin((double)setting->value[1], all) : 0.4 * all;
    double sum = fmax(all - send, 0.1 * all);
    return 40.0 + fmax(1500.0 / send, 3000.0 / sum) + 0.6 * all;
}

static double true_time(const machine_t *machine, const setting_t *setting)
{
    if ((machine->space->knobs[0].use & MOXIE_KNOB_ZERO_CHOOSES) != 0)
        return time_of_two_crews(setting);
    double a = (double)setting->value[0];
    double sum = 300.0 / a + 0.35 * a;
    if (machine->space->knob_count > 1) {
        double b = (double)setting->value[1];
        sum += 500.0 / (b + 5.0) + 0.05 * b;
    }
    if (machine->space->knob_count > 2)
        sum *= setting->value[2] == 1 ? 1.3 : setting->value[2] == 2 ? 0.9 : 1.0;
    return 100.0 * machine->flat + (1.0 - machine->flat) * sum;
}

/* A number in [0, 1) that seems random. */
static double uniform(uint64_t seed, uint64_t number)
{
    return (double)(random_key(seed, 7, number) >> 11) / 9007199254740992.0;
}

/* Nearly normal, the sum of twelve: mean 0, standard deviation 1. */
static double normal(uint64_t seed, uint64_t number)
{
    double sum = 0.0;
    for (uint64_t i = 0; i < 12; i++)
        sum += uniform(seed, number * 12 + i);
    return sum - 6.0;
}

static measured_t measure(void *ctx, const setting_t *setting, double *time_us,
                          char error[SEARCH_ERROR_BYTES])
{
    machine_t *machine = ctx;
    uint64_t number = (uint64_t)machine->count++;
    if (machine->stop_after > 0 && machine->count > machine->stop_after)
        return MEASURED_STOP;
    if (setting->value[0] == machine->failing) {
        (void)snprintf(error, SEARCH_ERROR_BYTES, "there is no %d", (int)machine->failing);
        return MEASURED_ERROR;
    }
    *time_us = true_time(machine, setting) *
               (1.0 + machine->noise * normal(machine->seed, number)) *
               (1.0 + machine->drift * (double)number);
    return MEASURED_TIME;
}

static void add_knob(space_t *space, const char *name, int64_t value_default, int64_t min,
                     int64_t max)
{
    space_knob_t *knob = &space->knobs[space->knob_count++];
    (void)snprintf(knob->name, sizeof(knob->name), "%s", name);
    knob->value_default = value_default;
    knob->value_min = min;
    knob->value_max = max;
    space_knob_spread(knob);
}

static double grid_best(const machine_t *machine)
{
    double best = INFINITY;
    for (int64_t i = 0; i < space_count(machine->space); i++) {
        setting_t setting = space_at(machine->space, i);
        best = fmin(best, true_time(machine, &setting));
    }
    return best;
}

static search_t run(machine_t *machine, search_mode_t mode)
{
    failure_t failure;
    search_t search = {.space = machine->space, .mode = mode, .measure = measure, .ctx = machine};
    machine->count = 0;
    assert_true(search_run(&search, &failure));
    return search;
}

/* In how many of the trials auto ends within 3% of the grid's best. */
static int count_good(const space_t *space, double noise, double drift)
{
    int good = 0;
    int64_t most = 0;
    machine_t machine = {.space = space, .noise = noise, .drift = drift, .failing = -1};
    double best = grid_best(&machine);
    search_t grid = run(&machine, SEARCH_GRID);
    int64_t grid_count = grid.measurement_count;
    search_release(&grid);
    for (uint64_t trial = 0; trial < TRIAL_COUNT; trial++) {
        machine.seed = trial + 1;
        search_t search = run(&machine, SEARCH_AUTO);
        setting_t setting = search.candidates[search.best_index].setting;
        good += true_time(&machine, &setting) <= 1.03 * best;
        if (search.measurement_count * 4 > grid_count)
            fail_msg("%d measurements, the grid makes %d", (int)search.measurement_count,
                     (int)grid_count);
        most = search.measurement_count > most ? search.measurement_count : most;
        search_release(&search);
    }
    print_message("noise %.1f%%: within 3%% in %d of %d, at most %d measurements, the grid %d\n",
                  100.0 * noise, good, TRIAL_COUNT, (int)most, (int)grid_count);
    return good;
}

static void test_auto_finds_the_best_of_one_knob(void **state)
{
    space_t space = {.knob_count = 0};
    (void)state;
    add_knob(&space, "sms", 8, 1, 132);
    assert_true(space_count(&space) >= 10);
    assert_true(count_good(&space, 0.0, 0.0) >= 95);
    assert_true(count_good(&space, 0.01, 0.0005) >= 95);
}

static void test_auto_finds_the_best_of_two_knobs(void **state)
{
    space_t space = {.knob_count = 0};
    (void)state;
    add_knob(&space, "sms", 6, 1, 132);
    add_knob(&space, "chunk", 16, 1, 512);
    assert_true(count_good(&space, 0.01, 0.0) >= 95);
    assert_true(count_good(&space, 0.02, 0.001) >= 95);
}

static void add_choosing_knob(space_t *space, const char *name)
{
    space_knob_t *knob = &space->knobs[space->knob_count++];
    *knob = (space_knob_t){.value_max = 132, .use = MOXIE_KNOB_ZERO_CHOOSES};
    (void)snprintf(knob->name, sizeof(knob->name), "%s", name);
    space_knob_spread(knob);
}

static void test_auto_finds_the_best_of_knobs_that_share(void **state)
{
    space_t space = {.knob_count = 0};
    (void)state;
    add_choosing_knob(&space, "all");
    add_choosing_knob(&space, "send");
    assert_true(count_good(&space, 0.01, 0.0) >= 95);
}

static void test_auto_finds_the_best_of_three_knobs(void **state)
{
    space_t space = {.knob_count = 0};
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    add_knob(&space, "spin", 20, 0, 1000000);
    add_knob(&space, "kernels", 0, 0, 3);
    assert_true(count_good(&space, 0.02, 0.0) >= 95);
}

/* The machine on a call with an eighth of the bytes: the same starts, less to carry. */
static measured_t measure_eighth(void *ctx, const setting_t *setting, double *time_us,
                                 char error[SEARCH_ERROR_BYTES])
{
    const machine_t *machine = ctx;
    (void)error;
    *time_us = 300.0 / 8.0 / (double)setting->value[0] + 0.35 * (double)setting->value[0];
    return setting->value[0] == machine->failing ? MEASURED_ERROR : MEASURED_TIME;
}

static void test_latency_and_slope_tell_other_sizes(void **state)
{
    space_t space = {.knob_count = 0};
    slope_t slope = {.mb = {1.0, 8.0}};
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    machine_t machine = {.space = &space, .failing = -1};
    search_t search = run(&machine, SEARCH_AUTO);
    assert_true(slope_find(&search, measure_eighth, &machine, &slope));
    assert_int_equal(slope.line_count, 1);
    assert_true(slope.error < 0.01);
    const settings_model_t *line = &slope.lines[0];
    assert_string_equal(line->name, "sms");
    assert_int_equal(line->points[0].value, 24);
    assert_in_range(line->point_count, 8, SETTINGS_POINT_COUNT_MAX);
    for (int32_t i = 0; i < line->point_count; i++)
        for (double mb = 0.0; mb < 100.0; mb += 13.0) {
            double a = (double)line->points[i].value;
            double expected_ns = 1000.0 * (300.0 * mb / 8.0 / a + 0.35 * a);
            double ns = (double)line->points[i].latency_ns + (double)line->points[i].ns_per_mb * mb;
            if (fabs(ns - expected_ns) > 0.05 * expected_ns)
                fail_msg("%.0f SMs, %.0f MB: %.0f ns, it is %.0f", a, mb, ns, expected_ns);
        }
    machine.failing = 24; /* the default does not work at that size: nothing is known */
    slope = (slope_t){.mb = {1.0, 8.0}};
    assert_false(slope_find(&search, measure_eighth, &machine, &slope));
    assert_int_equal(slope.line_count, 0);
    search_release(&search);
}

/* Only the first and the second kernels work with so few bytes. */
static measured_t measure_some_kernels(void *ctx, const setting_t *setting, double *time_us,
                                       char error[SEARCH_ERROR_BYTES])
{
    const machine_t *machine = ctx;
    (void)error;
    *time_us = true_time(machine, setting) / 4.0;
    return setting->value[2] > 1 ? MEASURED_ERROR : MEASURED_TIME;
}

static void test_nothing_is_told_of_what_was_not_measured(void **state)
{
    space_t space = {.knob_count = 0};
    slope_t slope = {.mb = {1.0, 8.0}};
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    add_knob(&space, "spin", 20, 0, 1000000);
    add_knob(&space, "kernels", 0, 0, 3);
    machine_t machine = {.space = &space, .failing = -1, .noise = 0.01, .seed = 4};
    search_t search = run(&machine, SEARCH_QUICK); /* fewer settings than a model has terms */
    assert_false(slope_find(&search, measure_some_kernels, &machine, &slope));
    search_release(&search);
    search = run(&machine, SEARCH_AUTO);
    assert_true(slope_find(&search, measure_some_kernels, &machine, &slope));
    assert_int_equal(slope.line_count, 3);
    assert_string_equal(slope.lines[2].name, "kernels");
    assert_int_equal(slope.lines[2].point_count, 2);
    assert_int_equal(slope.lines[2].points[1].value, 1);
    search_release(&search);
    machine.failing = 132; /* how it goes on up there is not known */
    search = run(&machine, SEARCH_AUTO);
    slope = (slope_t){.mb = {1.0, 8.0}};
    assert_true(slope_find(&search, measure_some_kernels, &machine, &slope));
    assert_int_equal(slope.line_count, 2);
    assert_string_equal(slope.lines[0].name, "spin");
    search_release(&search);
}

static void test_noise_keeps_the_default(void **state)
{
    space_t space = {.knob_count = 0};
    int kept = 0;
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    machine_t machine = {.space = &space, .noise = 0.03, .flat = 1.0, .failing = -1};
    for (machine.seed = 1; machine.seed <= TRIAL_COUNT; machine.seed++) {
        search_t search = run(&machine, SEARCH_QUICK);
        kept += search.best_index == 0;
        search_release(&search);
    }
    if (kept < 90)
        fail_msg("kept in %d of %d", kept, TRIAL_COUNT);
}

static void test_a_noisy_machine_is_said_to_be_noisy(void **state)
{
    space_t space = {.knob_count = 0};
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    machine_t machine = {.space = &space, .noise = 0.15, .failing = -1, .seed = 3};
    search_t search = run(&machine, SEARCH_FULL);
    assert_true(search.is_noisy);
    search_release(&search);
    machine.noise = 0.01;
    search = run(&machine, SEARCH_FULL);
    assert_false(search.is_noisy);
    search_release(&search);
}

static void test_a_failing_setting_is_recorded_and_left_behind(void **state)
{
    space_t space = {.knob_count = 0};
    int failed = 0;
    (void)state;
    add_knob(&space, "sms", 8, 1, 132);
    machine_t machine = {.space = &space, .failing = space.knobs[0].values[0], .seed = 1};
    for (search_mode_t mode = SEARCH_AUTO; mode <= SEARCH_GRID; mode++) {
        search_t search = run(&machine, mode);
        char text[512];
        for (int32_t i = 0; i < search.candidate_count; i++) {
            if (search.candidates[i].error[0] == '\0')
                continue;
            failed++;
            assert_int_equal(search.candidates[i].count, 0);
            assert_non_null(strstr(search_fate(&search, i, text, sizeof(text)), "there is no"));
        }
        assert_true(search.best_index > 0);
        search_release(&search);
    }
    assert_true(failed >= 3);
}

static void test_a_default_that_fails_ends_the_search(void **state)
{
    space_t space = {.knob_count = 0};
    failure_t failure;
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    machine_t machine = {.space = &space, .failing = 24};
    search_t search = {.space = &space, .measure = measure, .ctx = &machine};
    assert_false(search_run(&search, &failure));
    assert_non_null(strstr(failure.sentence, "the default settings fail: there is no 24"));
    search_release(&search);
}

static void test_a_stopped_search_keeps_what_it_has(void **state)
{
    space_t space = {.knob_count = 0};
    (void)state;
    add_knob(&space, "sms", 8, 1, 132);
    machine_t machine = {.space = &space, .failing = -1};
    for (machine.stop_after = 1; machine.stop_after < 40; machine.stop_after++) {
        search_t search = run(&machine, SEARCH_FULL);
        int32_t count = 0;
        for (int32_t i = 0; i < search.candidate_count; i++)
            count += search.candidates[i].count;
        assert_true(search.is_stopped);
        assert_int_equal(count, machine.stop_after);
        search_release(&search);
    }
}

/* Late after so many measurements. */
static bool is_late(void *ctx)
{
    const machine_t *machine = ctx;
    return machine->count >= 30;
}

static void test_a_late_search_goes_on_with_the_final_rounds(void **state)
{
    space_t space = {.knob_count = 0};
    failure_t failure;
    (void)state;
    add_knob(&space, "sms", 6, 1, 132);
    add_knob(&space, "chunk", 16, 1, 512);
    machine_t machine = {.space = &space, .noise = 0.01, .failing = -1, .seed = 2};
    for (search_mode_t mode = SEARCH_AUTO; mode <= SEARCH_GRID; mode++) {
        search_t search = {
            .space = &space, .mode = mode, .measure = measure, .is_late = is_late, .ctx = &machine};
        machine.count = 0;
        assert_true(search_run(&search, &failure));
        assert_false(search.is_stopped);
        assert_int_equal(search.is_cut, mode != SEARCH_QUICK); /* that was done before */
        assert_true(machine.count < 60);
        assert_true(search.candidates[search.fastest_index].final_first >= 0);
        assert_true(search.candidates[search.fastest_index].count >= 6);
        search_release(&search);
    }
}

static void test_the_setting_stored_before_is_compared(void **state)
{
    space_t space = {.knob_count = 0};
    failure_t failure;
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    machine_t machine = {.space = &space, .failing = -1, .noise = 0.005, .seed = 5};
    setting_t previous = {{99}}; /* none of the values that are tried */
    search_t search = {.space = &space,
                       .mode = SEARCH_QUICK,
                       .measure = measure,
                       .ctx = &machine,
                       .previous = &previous};
    assert_true(search_run(&search, &failure));
    assert_true(search.previous_index > 0);
    assert_int_equal(search.candidates[search.previous_index].setting.value[0], 99);
    assert_true(search.candidates[search.previous_index].count >= 6);
    search_release(&search);
}

static void test_quick_and_full_measure_about_so_many(void **state)
{
    space_t space = {.knob_count = 0};
    (void)state;
    add_knob(&space, "sms", 24, 1, 132);
    add_knob(&space, "chunk", 16, 1, 512);
    machine_t machine = {.space = &space, .failing = -1};
    search_t search = run(&machine, SEARCH_QUICK);
    assert_in_range(search.candidate_count, 5, 6);
    search_release(&search);
    search = run(&machine, SEARCH_FULL);
    assert_in_range(search.candidate_count, 13, 16);
    search_release(&search);
}

static void test_values_are_read_and_refused(void **state)
{
    static const struct {
        const char *text;
        const char *message; /* NULL: good */
    } cases[] = {
        {"16,24", NULL},         {"4:32:2", NULL},
        {"1,4:8:4,132", NULL},   {"", "no list"},
        {"4:", "no list"},       {"8:4", "no list"},
        {"4:8:0", "no list"},    {"4,,8", "no list"},
        {"a", "no list"},        {"4:8:2:2", "no list"},
        {"0,4", "out of range"}, {"4:133", "out of range"},
        {"1:132", "more than"},  {"9999999999999999999", "no list"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        space_knob_t knob = {.value_min = 1, .value_max = 132};
        failure_t failure = {.exit_code = 0};
        bool is_good = space_knob_parse(&knob, cases[i].text, "--sms", &failure);
        assert_int_equal(is_good, cases[i].message == NULL);
        if (cases[i].message != NULL) {
            assert_int_equal(failure.exit_code, EXIT_USAGE);
            if (strstr(failure.sentence, cases[i].message) == NULL)
                fail_msg("'%s': %s", cases[i].text, failure.sentence);
        }
    }
    space_knob_t knob = {.value_min = 1, .value_max = 132};
    failure_t failure;
    assert_true(space_knob_parse(&knob, "32,4:8:2", "--sms", &failure));
    assert_int_equal(knob.value_count, 4);
    assert_int_equal(knob.values[0], 4);
    assert_int_equal(knob.values[3], 32);
}

static void test_spread_values_are_in_range(void **state)
{
    static const int64_t ranges[][3] = {
        {24, 1, 132}, {16, 1, 32}, {0, 0, 3},  {20, 0, 1000000}, {4 << 20, 0, INT64_MAX},
        {0, 0, 5000}, {1, 1, 1},   {32, 1, 32}};
    (void)state;
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        space_t space = {.knob_count = 0};
        bool has_default = false;
        add_knob(&space, "knob", ranges[i][0], ranges[i][1], ranges[i][2]);
        const space_knob_t *knob = &space.knobs[0];
        assert_true(knob->value_count > 1 || ranges[i][1] == ranges[i][2]);
        for (int32_t j = 0; j < knob->value_count; j++) {
            assert_true(knob->values[j] >= ranges[i][1] && knob->values[j] <= ranges[i][2]);
            assert_true(j == 0 || knob->values[j] > knob->values[j - 1]);
            has_default |= knob->values[j] == ranges[i][0];
        }
        assert_true(has_default);
    }
}

static void test_a_knob_whose_zero_chooses_is_tried_from_the_top(void **state)
{
    space_knob_t knob = {.value_max = 132, .use = MOXIE_KNOB_ZERO_CHOOSES};
    (void)state;
    space_knob_spread(&knob);
    assert_in_range(knob.value_count, 8, 16);
    assert_int_equal(knob.values[0], 0);
    assert_in_range(knob.values[1], 4, 16); /* the next is no neighbour of 0 */
    assert_int_equal(knob.values[knob.value_count - 1], 132);
}

/* Which phase of the plan tunes a knob; "": none does. */
static const char *phase_of(const plan_t *plan, const char *name)
{
    static const struct {
        const char *name;
        uint64_t use;
    } knobs[] = {
        {"send", MOXIE_KNOB_DISPATCH},
        {"duplicate", MOXIE_KNOB_DISPATCH | MOXIE_KNOB_EXPERT_MAJOR},
        {"sum", MOXIE_KNOB_COMBINE},
        {"derive", MOXIE_KNOB_UPDATE},
        {"derive_ahead", MOXIE_KNOB_UPDATE | MOXIE_KNOB_ROUTING_EXPERT_MAJOR},
        {"derive_and_sum", MOXIE_KNOB_ROUTING_EXPERT_MAJOR | MOXIE_KNOB_COMBINE},
        {"send_rows", MOXIE_KNOB_DISPATCH | MOXIE_KNOB_STANDARD},
        {"sum_slots", MOXIE_KNOB_COMBINE | MOXIE_KNOB_LOW_LATENCY | MOXIE_KNOB_RANK_MAJOR},
        {"wait", 0},
    };
    static tune_t tune;
    plan_t copy = *plan;
    bool is_used = false;
    tune = (tune_t){.trial = {.plan = &copy}};
    for (size_t i = 0; i < sizeof(knobs) / sizeof(knobs[0]); i++) {
        add_knob(&tune.space, knobs[i].name, 16, 1, 32);
        tune.space.knobs[i].use = knobs[i].use;
        is_used |= strcmp(knobs[i].name, name) == 0 && tune_uses_knob(&tune, &tune.space.knobs[i]);
    }
    tune_plan(&tune);
    for (int32_t i = 0; i < tune.phase_count; i++)
        for (int32_t j = 0; j < tune.phases[i].space.knob_count; j++) {
            const char *knob = tune.phases[i].space.knobs[j].name;
            assert_string_equal(knob, tune.space.knobs[tune.phases[i].knob_of[j]].name);
            if (strcmp(knob, name) == 0) {
                assert_true(is_used);
                return tune.phases[i].name;
            }
        }
    assert_false(is_used);
    return "";
}

static void test_knobs_are_tuned_with_the_call_that_reads_them(void **state)
{
    plan_t plan = {.layout = MOXIE_LAYOUT_EXPERT_MAJOR, .is_fresh = true};
    (void)state;
    assert_string_equal(phase_of(&plan, "send"), "dispatch");
    assert_string_equal(phase_of(&plan, "derive_ahead"), "dispatch");
    assert_string_equal(phase_of(&plan, "sum"), "combine");
    assert_string_equal(phase_of(&plan, "derive_and_sum"), "exchange");
    assert_string_equal(phase_of(&plan, "wait"), "exchange");
    plan.is_fresh = false;
    assert_string_equal(phase_of(&plan, "derive_ahead"), "");
    assert_string_equal(phase_of(&plan, "derive_and_sum"), "combine");
    plan.is_backward = true; /* each moves rows as the other does */
    assert_string_equal(phase_of(&plan, "send"), "combine");
    assert_string_equal(phase_of(&plan, "sum"), "dispatch");
}

static void test_knobs_that_no_measured_call_reads_are_not_tuned(void **state)
{
    plan_t plan = {.layout = MOXIE_LAYOUT_RANK_MAJOR, .is_fresh = true};
    (void)state;
    assert_string_equal(phase_of(&plan, "derive"), ""); /* an update alone is not measured */
    assert_string_equal(phase_of(&plan, "derive_ahead"), "");
    assert_string_equal(phase_of(&plan, "derive_and_sum"), "combine");
    assert_string_equal(phase_of(&plan, "duplicate"), "");
    assert_string_equal(phase_of(&plan, "send_rows"), "dispatch");
    assert_string_equal(phase_of(&plan, "sum_slots"), "");
    plan.layout = MOXIE_LAYOUT_EXPERT_MAJOR;
    assert_string_equal(phase_of(&plan, "derive"), "");
    assert_string_equal(phase_of(&plan, "duplicate"), "dispatch");
    plan.is_low_latency = true;
    assert_string_equal(phase_of(&plan, "send_rows"), "");
    assert_string_equal(phase_of(&plan, "sum_slots"), "");
    assert_string_equal(phase_of(&plan, "wait"), "exchange");
    plan.layout = MOXIE_LAYOUT_RANK_MAJOR;
    assert_string_equal(phase_of(&plan, "sum_slots"), "combine");
}

/* Puts so many measurements of every setting into a trial's log: dispatch is fastest with 8 of the
 * first knob, combine with 4 of the second, each a little off every time. */
static void fill_log(trial_t *trial, outcome_t *outcomes, int32_t copies)
{
    static const double noise[] = {1.0, 1.004, 0.997, 1.002, 0.995};
    trial->outcomes = outcomes;
    for (int32_t i = 0; i < 2 * copies; i++)
        for (int64_t index = 0; index < space_count(trial->space); index++) {
            outcome_t *outcome = &outcomes[trial->outcome_count++];
            double factor = noise[(i * 3 + index) % 5];
            *outcome =
                (outcome_t){.setting = space_at(trial->space, index), .is_part = i >= copies};
            double share = outcome->is_part ? 0.125 : 1.0;
            int64_t a = outcome->setting.value[0];
            int64_t b = outcome->setting.value[1];
            outcome->time_us[CALL_DISPATCH] =
                factor * (share * 800.0 / (double)a + 12.0 * (double)a);
            outcome->time_us[CALL_COMBINE] =
                factor * (share * 200.0 / (double)b + 12.0 * (double)b);
        }
    trial->logged_count = trial->outcome_count;
}

static void test_calls_are_tuned_apart(void **state)
{
    enum { COPIES = 60 };
    static tune_t tune;
    static outcome_t outcomes[16 * 2 * COPIES];
    plan_t plan = {.layout = MOXIE_LAYOUT_RANK_MAJOR, .is_fresh = true};
    failure_t failure = {.exit_code = EXIT_DONE};
    char text[256];
    (void)state;
    tune = (tune_t){.mode = SEARCH_GRID, .mb = {1.0, 8.0}};
    tune.trial = (trial_t){.plan = &plan, .part = &plan, .space = &tune.space};
    add_knob(&tune.space, "send", 2, 1, 132);
    add_knob(&tune.space, "sum", 16, 1, 132);
    tune.space.knobs[0].use = MOXIE_KNOB_DISPATCH;
    tune.space.knobs[1].use = MOXIE_KNOB_COMBINE;
    assert_true(space_knob_parse(&tune.space.knobs[0], "2,4,8,16", "send", &failure));
    assert_true(space_knob_parse(&tune.space.knobs[1], "2,4,8,16", "sum", &failure));
    fill_log(&tune.trial, outcomes, COPIES);
    tune_plan(&tune);
    assert_int_equal(tune.phase_count, 2);
    assert_true(tune_run(&tune, &failure));
    assert_false(tune.is_stopped);
    assert_string_equal(space_text(&tune.space, &tune.best, text, sizeof(text)), "send=8 sum=4");
    assert_string_equal(tune.verdict, "faster than the default");
    assert_true(tune.by_default.gain[CALL_DISPATCH] > 0.5);
    assert_true(tune.by_default.gain[CALL_COMBINE] > 0.5);
    assert_true(tune.by_default.gain_error[CALL_COUNT] < 0.01);
    assert_int_equal(tune.phases[0].slope.line_count, 1); /* and each phase has a model */
    assert_string_equal(tune.phases[1].slope.lines[0].name, "sum");
    assert_int_equal(tune.trial.run_count, 0);
    for (int32_t i = 0; i < tune.phase_count; i++)
        search_release(&tune.phases[i].search);
}

/* A grid that was measured, as `moxie tune --mode grid` leaves it: the median time of every setting
 * beside the default's. */
typedef struct grid {
    space_t space;
    double relative[1024]; /* [space_count()] */
    double noise;
    uint64_t seed;
    uint64_t count;
} grid_t;

static const char *grid_path;

static int64_t index_of(const space_t *space, const setting_t *setting)
{
    for (int64_t index = 0; index < space_count(space); index++) {
        setting_t at = space_at(space, index);
        if (space_is_equal(space, &at, setting))
            return index;
    }
    fail_msg("a setting that was not measured");
    return 0;
}

static void read_space(const json_t *document, space_t *space)
{
    const char *name;
    const json_t *knob;
    size_t index;
    const json_t *value;
    const json_t *tried = json_object_get(json_object_get(document, "setup"), "search_space");
    json_object_foreach(json_object_get(document, "knobs"), name, knob)
    {
        add_knob(space, name, json_integer_value(json_object_get(knob, "default")),
                 json_integer_value(json_object_get(knob, "min")),
                 json_integer_value(json_object_get(knob, "max")));
        space_knob_t *added = &space->knobs[space->knob_count - 1];
        added->value_count = 0;
        json_array_foreach(json_object_get(tried, name), index, value)
        {
            added->values[added->value_count++] = json_integer_value(value);
        }
    }
}

static void read_grid(grid_t *grid)
{
    size_t index;
    const json_t *candidate;
    json_t *document = json_load_file(grid_path, 0, NULL);
    assert_non_null(document);
    read_space(document, &grid->space);
    assert_in_range(space_count(&grid->space), 100, 1024);
    const json_t *phase = json_array_get(json_object_get(document, "phases"), 0);
    const json_t *candidates = json_object_get(phase, "candidates");
    assert_int_equal(json_array_size(candidates), space_count(&grid->space));
    json_array_foreach(candidates, index, candidate)
    {
        setting_t setting = {{0}};
        const json_t *values = json_object_get(candidate, "setting");
        for (int32_t i = 0; i < grid->space.knob_count; i++)
            setting.value[i] =
                json_integer_value(json_object_get(values, grid->space.knobs[i].name));
        grid->relative[index_of(&grid->space, &setting)] =
            json_number_value(json_object_get(candidate, "relative"));
    }
    json_decref(document);
}

static measured_t replay(void *ctx, const setting_t *setting, double *time_us,
                         char error[SEARCH_ERROR_BYTES])
{
    grid_t *grid = ctx;
    error[0] = '\0';
    *time_us = 1000.0 * grid->relative[index_of(&grid->space, setting)] *
               (1.0 + grid->noise * normal(grid->seed, grid->count++));
    return MEASURED_TIME;
}

static void test_auto_finds_the_best_of_a_recorded_grid(void **state)
{
    static grid_t grid;
    int good = 0;
    double best = INFINITY;
    failure_t failure;
    (void)state;
    read_grid(&grid);
    grid.noise = 0.02;
    for (int64_t i = 0; i < space_count(&grid.space); i++)
        best = fmin(best, grid.relative[i]);
    search_t whole = {.space = &grid.space, .mode = SEARCH_GRID, .measure = replay, .ctx = &grid};
    assert_true(search_run(&whole, &failure));
    for (grid.seed = 1; grid.seed <= TRIAL_COUNT; grid.seed++) {
        search_t search = {.space = &grid.space, .measure = replay, .ctx = &grid};
        assert_true(search_run(&search, &failure));
        const setting_t *setting = &search.candidates[search.best_index].setting;
        good += grid.relative[index_of(&grid.space, setting)] <= 1.03 * best;
        assert_true(4 * search.measurement_count <= whole.measurement_count);
        search_release(&search);
    }
    print_message("a recorded grid: within 3%% in %d of %d\n", good, TRIAL_COUNT);
    assert_true(good >= 95);
    search_release(&whole);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    grid_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_finds_the_best_of_one_knob),
        cmocka_unit_test(test_auto_finds_the_best_of_two_knobs),
        cmocka_unit_test(test_auto_finds_the_best_of_three_knobs),
        cmocka_unit_test(test_auto_finds_the_best_of_knobs_that_share),
        cmocka_unit_test(test_auto_finds_the_best_of_a_recorded_grid),
        cmocka_unit_test(test_latency_and_slope_tell_other_sizes),
        cmocka_unit_test(test_nothing_is_told_of_what_was_not_measured),
        cmocka_unit_test(test_noise_keeps_the_default),
        cmocka_unit_test(test_a_noisy_machine_is_said_to_be_noisy),
        cmocka_unit_test(test_a_failing_setting_is_recorded_and_left_behind),
        cmocka_unit_test(test_a_default_that_fails_ends_the_search),
        cmocka_unit_test(test_a_stopped_search_keeps_what_it_has),
        cmocka_unit_test(test_a_late_search_goes_on_with_the_final_rounds),
        cmocka_unit_test(test_the_setting_stored_before_is_compared),
        cmocka_unit_test(test_quick_and_full_measure_about_so_many),
        cmocka_unit_test(test_knobs_are_tuned_with_the_call_that_reads_them),
        cmocka_unit_test(test_knobs_that_no_measured_call_reads_are_not_tuned),
        cmocka_unit_test(test_calls_are_tuned_apart),
        cmocka_unit_test(test_values_are_read_and_refused),
        cmocka_unit_test(test_spread_values_are_in_range),
        cmocka_unit_test(test_a_knob_whose_zero_chooses_is_tried_from_the_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
