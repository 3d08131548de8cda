/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds of measurements: which settings, how often, and what they say. */
#include "tune/search.h"

#include "bench/stats.h"
#include "tune/propose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROUND_COUNT = 3,       /* of every setting, but in SEARCH_AUTO */
    DEFAULT_PERIOD = 8,    /* the default is measured again after so many others */
    FINALIST_COUNT = 3,    /* in the final rounds */
    FINAL_ROUND_COUNT = 6, /* one finalist goes after every two */
    BATCH_COUNT = 4,       /* settings that the model proposes at a time */
    AUTO_COUNT_MAX = 150,  /* measurements of SEARCH_AUTO, however large the grid */
    PATIENCE_COUNT = 4,    /* batches in a row that find nothing faster end the proposals */
    SMALL_GRID = 8         /* a grid so small is measured whole */
};

static double median(const double *values, int32_t count)
{
    double copy[256];
    if (count <= 0)
        return 0.0;
    int32_t used = count < 256 ? count : 256; /* of more the last ones */
    memcpy(copy, values + (count - used), (size_t)used * sizeof(*copy));
    stats_t stats = stats_describe(copy, used);
    return used % 2 == 1 ? stats.p50 : (copy[used / 2 - 1] + copy[used / 2]) / 2.0;
}

double search_time_us(const candidate_t *candidate)
{
    return median(candidate->times_us, candidate->count);
}

/* Measurements that decide about a candidate: those before the finals chose the finalists, so a
 * lucky one among them says too much. */
static int32_t first_of(const candidate_t *candidate)
{
    bool is_enough =
        candidate->final_first >= 0 && candidate->count - candidate->final_first >= ROUND_COUNT;
    return is_enough ? candidate->final_first : 0;
}

double search_ratio(const candidate_t *candidate)
{
    int32_t first = first_of(candidate);
    return median(candidate->ratios + first, candidate->count - first);
}

int32_t search_add(search_t *search, const setting_t *setting)
{
    for (int32_t i = 0; i < search->candidate_count; i++)
        if (space_is_equal(search->space, &search->candidates[i].setting, setting))
            return i;
    if (search->candidate_count == search->candidate_capacity) {
        int32_t capacity = 2 * search->candidate_capacity + 16;
        candidate_t *grown =
            realloc(search->candidates, (size_t)capacity * sizeof(*search->candidates));
        if (grown == NULL)
            return -1;
        search->candidates = grown;
        search->candidate_capacity = capacity;
    }
    search->candidates[search->candidate_count] =
        (candidate_t){.setting = *setting, .final_first = -1};
    return search->candidate_count++;
}

static bool note(search_t *search, candidate_t *candidate, double time_us)
{
    if (candidate->count == candidate->capacity) {
        int32_t capacity = 2 * candidate->capacity + 8;
        double *times = realloc(candidate->times_us, (size_t)capacity * sizeof(*times));
        if (times != NULL)
            candidate->times_us = times;
        double *ratios = realloc(candidate->ratios, (size_t)capacity * sizeof(*ratios));
        if (ratios != NULL)
            candidate->ratios = ratios;
        if (times == NULL || ratios == NULL)
            return false;
        candidate->capacity = capacity;
    }
    candidate->times_us[candidate->count] = time_us;
    if (candidate == search->candidates) {
        memmove(search->recent_us + 1, search->recent_us, 2 * sizeof(search->recent_us[0]));
        search->recent_us[0] = time_us;
        candidate->ratios[candidate->count] = 1.0;
    } else {
        int32_t known = search->candidates[0].count < 3 ? search->candidates[0].count : 3;
        candidate->ratios[candidate->count] = time_us / median(search->recent_us, known);
    }
    candidate->count++;
    return true;
}

/* False: no more measurements. */
static bool measure_one(search_t *search, int32_t index)
{
    double time_us = 0.0;
    candidate_t *candidate = &search->candidates[index];
    if (candidate->error[0] != '\0')
        return true;
    measured_t measured =
        search->measure(search->ctx, &candidate->setting, &time_us, candidate->error);
    search->measurement_count++;
    if (measured == MEASURED_ERROR)
        return index != 0;
    search->is_stopped = measured == MEASURED_STOP || !note(search, candidate, time_us);
    return !search->is_stopped;
}

static bool is_cut(search_t *search)
{
    if (!search->is_final && search->is_late != NULL && search->is_late(search->ctx))
        search->is_cut = true;
    return !search->is_final && search->is_cut;
}

/* One round, or what there is time for: the default, then the others, every other round backwards.
 */
static bool measure_round(search_t *search, const int32_t *indices, int32_t count, int32_t round)
{
    for (int32_t i = 0; i < count && !is_cut(search); i++) {
        int32_t index = indices[round % 2 == 0 ? i : count - 1 - i];
        if (i % DEFAULT_PERIOD == 0 && !measure_one(search, 0))
            return false;
        if (index != 0 && !measure_one(search, index))
            return false;
    }
    return true;
}

static bool is_alive(const candidate_t *candidate)
{
    return candidate->error[0] == '\0' && candidate->count > 0;
}

/* The candidates that work, fastest first, without the default. */
static int32_t rank_alive(const search_t *search, int32_t *out, int32_t count_max)
{
    int32_t count = 0;
    for (int32_t i = 1; i < search->candidate_count; i++) {
        if (!is_alive(&search->candidates[i]))
            continue;
        double ratio = search_ratio(&search->candidates[i]);
        int32_t at = count < count_max ? count++ : count_max;
        for (; at > 0 && search_ratio(&search->candidates[out[at - 1]]) > ratio; at--)
            if (at < count_max)
                out[at] = out[at - 1];
        if (at < count_max)
            out[at] = i;
    }
    return count;
}

/* Who is still in the final rounds. */
typedef struct finals {
    int32_t indices[FINALIST_COUNT + 1];
    int32_t count;
} finals_t;

static int32_t slowest_of(const search_t *search, const finals_t *finals)
{
    int32_t slowest = 0;
    for (int32_t i = 1; i < finals->count; i++)
        if (search_ratio(&search->candidates[finals->indices[i]]) >
            search_ratio(&search->candidates[finals->indices[slowest]]))
            slowest = i;
    return slowest;
}

static void drop(finals_t *finals, int32_t at)
{
    finals->count--;
    for (int32_t i = at; i < finals->count; i++)
        finals->indices[i] = finals->indices[i + 1];
}

/* The finalists and the setting stored before; it is measured on when it is out, to be compared. */
static int32_t round_of(const search_t *search, finals_t *finals)
{
    for (int32_t i = 0; i < finals->count; i++)
        if (finals->indices[i] == search->previous_index)
            return finals->count;
    if (search->previous_index <= 0)
        return finals->count;
    finals->indices[finals->count] = search->previous_index;
    return finals->count + 1;
}

/* The default and the finalists again and again, the slowest goes after every two rounds. What is
 * left at the end, or when `left` measurements are used up, is fastest. */
static bool measure_finals(search_t *search, int64_t left)
{
    finals_t finals;
    bool is_done = true;
    search->is_final = true;
    finals.count = rank_alive(search, finals.indices, FINALIST_COUNT);
    for (int32_t i = 0; i < finals.count; i++)
        search->candidates[finals.indices[i]].final_first =
            search->candidates[finals.indices[i]].count;
    for (int32_t round = 0; round < FINAL_ROUND_COUNT && finals.count > 0 && is_done; round++) {
        int32_t round_count = round_of(search, &finals);
        if (left < round_count + 1)
            break;
        is_done = measure_round(search, finals.indices, round_count, round);
        left -= round_count + 1;
        if (round % 2 == 1 && finals.count > 1 && is_done)
            drop(&finals, slowest_of(search, &finals));
    }
    while (finals.count > 1)
        drop(&finals, slowest_of(search, &finals));
    if (finals.count == 1)
        search->fastest_index = finals.indices[0];
    return is_done;
}

/* A fixed list of settings, each as often as the others. */
static bool measure_listed(search_t *search)
{
    int32_t *indices = malloc((size_t)search->candidate_count * sizeof(*indices));
    bool is_done = indices != NULL;
    for (int32_t i = 0; is_done && i < search->candidate_count; i++)
        indices[i] = i;
    for (int32_t round = 0; round < ROUND_COUNT && is_done && !search->is_cut; round++)
        is_done = measure_round(search, indices + 1, search->candidate_count - 1, round);
    free(indices);
    return is_done && measure_finals(search, INT64_MAX);
}

/* Measurements of a grid, with those of the default between and the final rounds. */
static int64_t grid_measurement_count(const space_t *space)
{
    int64_t count = space_count(space);
    return count > INT64_MAX / 8 ? count
                                 : ROUND_COUNT * (count + count / DEFAULT_PERIOD + 1) +
                                       FINAL_ROUND_COUNT * (FINALIST_COUNT + 1) / 2;
}

/* What a batch of proposals must gain to be worth another. */
#define BATCH_GAIN_MIN 0.005

static double lowest_ratio(const search_t *search)
{
    int32_t fastest = 0;
    return rank_alive(search, &fastest, 1) > 0 ? search_ratio(&search->candidates[fastest]) : 1.0;
}

static bool measure_auto(search_t *search)
{
    int64_t budget = grid_measurement_count(search->space) / 4;
    int32_t batch[PROPOSE_PROBE_MAX];
    search->measurement_count_max = budget = budget < AUTO_COUNT_MAX ? budget : AUTO_COUNT_MAX;
    int64_t final_budget = budget / 3 < 24 ? budget / 3 : 24;
    int32_t count = propose_probes(search, batch, (int32_t)(budget - final_budget) - 1);
    int32_t patience = PATIENCE_COUNT;
    while (count > 0) {
        double before = lowest_ratio(search);
        if (!measure_round(search, batch, count, 0))
            return false;
        bool is_better = lowest_ratio(search) < before * (1.0 - BATCH_GAIN_MIN);
        patience = is_better ? PATIENCE_COUNT : patience - 1;
        int64_t left = budget - final_budget - search->measurement_count;
        int32_t room = left - 1 < BATCH_COUNT ? (int32_t)left - 1 : BATCH_COUNT;
        bool is_over = room < 1 || patience == 0 || search->is_cut;
        count = is_over ? 0 : propose_batch(search, batch, room);
    }
    return measure_finals(search, budget - search->measurement_count);
}

/* How much the default varies from one measurement to the next. */
static double noise_of(const candidate_t *reference)
{
    double steps[256];
    int32_t count = 0;
    for (int32_t i = 1; i < reference->count && count < 256; i++)
        steps[count++] = fabs(reference->times_us[i] / reference->times_us[i - 1] - 1.0);
    return median(steps, count) / 0.6745 / sqrt(2.0);
}

/* The standard error of a median ratio; from few measurements the default's noise tells more. */
static double error_of(const search_t *search, const candidate_t *candidate)
{
    double deviations[256];
    int32_t first = first_of(candidate);
    int32_t count = candidate->count - first < 256 ? candidate->count - first : 256;
    double middle = search_ratio(candidate);
    for (int32_t i = 0; i < count; i++)
        deviations[i] = fabs(candidate->ratios[first + i] - middle);
    double own = median(deviations, count) * 1.4826;
    double spread = count < 4 || own < search->noise / 2.0 ? search->noise * sqrt(2.0) : own;
    return count < 1 ? 0.0 : 1.2533 * spread / sqrt(count);
}

static void judge(search_t *search)
{
    search->noise = noise_of(&search->candidates[0]);
    search->is_noisy = search->noise > SEARCH_NOISY;
    if (search->fastest_index == 0) /* stopped before the final rounds */
        (void)rank_alive(search, &search->fastest_index, 1);
    if (search->fastest_index == 0)
        return;
    const candidate_t *fastest = &search->candidates[search->fastest_index];
    search->gain = 1.0 - search_ratio(fastest);
    search->gain_error = error_of(search, fastest);
    if (search->gain > SEARCH_GAIN_MIN && search->gain > 2.0 * search->gain_error)
        search->best_index = search->fastest_index;
}

static bool list_settings(search_t *search)
{
    int64_t count = space_count(search->space);
    if (search->mode == SEARCH_QUICK || search->mode == SEARCH_FULL)
        return propose_spread(search, search->mode == SEARCH_QUICK ? 6 : 16);
    for (int64_t i = 0; i < count; i++) {
        setting_t setting = space_at(search->space, i);
        if (search_add(search, &setting) < 0)
            return false;
    }
    return true;
}

bool search_run(search_t *search, failure_t *failure)
{
    setting_t at_default = space_default(search->space);
    int64_t count = space_count(search->space);
    bool is_small = search->mode == SEARCH_AUTO && count <= SMALL_GRID;
    bool is_listed = search->mode != SEARCH_AUTO || is_small;
    if (search->mode == SEARCH_GRID && count > SEARCH_GRID_MAX)
        return failure_set(failure, EXIT_USAGE,
                           "the grid has more than %d settings: name fewer values of its knobs",
                           SEARCH_GRID_MAX);
    search->previous_index = -1;
    bool has_room = search_add(search, &at_default) == 0;
    if (has_room && search->previous != NULL) {
        search->previous_index = search_add(search, search->previous);
        has_room = search->previous_index >= 0;
    }
    if (!has_room || (is_listed && !list_settings(search)))
        return failure_set(failure, EXIT_FAILED, "not enough memory for the settings");
    if (is_listed) {
        int64_t rows = search->candidate_count;
        search->measurement_count_max = ROUND_COUNT * (rows + rows / DEFAULT_PERIOD + 1) +
                                        FINAL_ROUND_COUNT * (FINALIST_COUNT + 1);
    }
    (void)(is_listed ? measure_listed(search) : measure_auto(search));
    if (search->candidates[0].error[0] != '\0')
        return failure_set(failure, EXIT_FAILED, "the default settings fail: %.240s",
                           search->candidates[0].error);
    judge(search);
    return true;
}

const char *search_fate(const search_t *search, int32_t index, char *text, size_t bytes)
{
    const candidate_t *candidate = &search->candidates[index];
    const candidate_t *best = &search->candidates[search->best_index];
    double behind =
        candidate->count == 0 ? 0.0 : 100.0 * (search_ratio(candidate) / search_ratio(best) - 1.0);
    if (candidate->error[0] != '\0')
        (void)snprintf(text, bytes, "failed: %s", candidate->error);
    else if (candidate->count == 0)
        (void)snprintf(text, bytes, "not measured");
    else if (index == search->best_index)
        (void)snprintf(text, bytes, index == 0 ? "kept: nothing is surely faster" : "won");
    else if (index == search->fastest_index)
        (void)snprintf(text, bytes, "not surely faster: %.1f%% +- %.1f%% is within the noise",
                       100.0 * search->gain, 100.0 * search->gain_error);
    else if (candidate->final_first >= 0)
        (void)snprintf(text, bytes, "lost in the final rounds");
    else if (behind <= 0.0)
        (void)snprintf(text, bytes,
                       "near the best in %d measurement%s, but not among the finalists",
                       candidate->count, candidate->count == 1 ? "" : "s");
    else
        (void)snprintf(text, bytes, "%.1f%% slower in %d measurement%s", behind, candidate->count,
                       candidate->count == 1 ? "" : "s");
    return text;
}

void search_release(search_t *search)
{
    for (int32_t i = 0; i < search->candidate_count; i++) {
        free(search->candidates[i].times_us);
        free(search->candidates[i].ratios);
    }
    free(search->candidates);
    search->candidates = NULL;
    search->candidate_count = 0;
}
