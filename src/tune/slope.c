/* SPDX-License-Identifier: Apache-2.0 */
/* Probes at the smaller size, two models, and lines through them. */
#include "tune/slope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A value of a knob in the line of its model: the default, then evenly over the others. */
static int64_t value_in_line(const space_knob_t *knob, int32_t index, int32_t count)
{
    return knob->values[count < 2 ? 0 : index * (knob->value_count - 1) / (count - 1)];
}

/* What a setting takes by the model of a size, µs. */
static double time_at(const slope_t *slope, int size, const setting_t *setting)
{
    return model_predict(&slope->models[size], setting);
}

static settings_point_t point_of(const slope_t *slope, int32_t knob, int64_t value)
{
    setting_t setting = space_default(slope->models[SIZE_WHOLE].space);
    setting.value[knob] = value;
    double part_us = time_at(slope, SIZE_PART, &setting);
    double whole_us = time_at(slope, SIZE_WHOLE, &setting);
    double us_per_mb = (whole_us - part_us) / (slope->mb[SIZE_WHOLE] - slope->mb[SIZE_PART]);
    double latency_us = part_us - us_per_mb * slope->mb[SIZE_PART];
    return (settings_point_t){value, llround(latency_us * 1e3), llround(us_per_mb * 1e3)};
}

/* Whether a probe has this value. */
static bool is_probed(const slope_t *slope, int32_t index, int64_t value)
{
    for (int32_t i = 0; i < slope->probe_count; i++)
        if (slope->probes[i].value[index] == value)
            return true;
    return false;
}

/* Whether what lies between the probes of an amount can be told. */
static bool has_ends(const slope_t *slope, int32_t index)
{
    const space_knob_t *knob = &slope->models[SIZE_WHOLE].space->knobs[index];
    return is_probed(slope, index, knob->values[space_first_amount(knob)]) &&
           is_probed(slope, index, knob->values[knob->value_count - 1]);
}

static void draw_line(const slope_t *slope, int32_t index, settings_model_t *line)
{
    const space_knob_t *knob = &slope->models[SIZE_WHOLE].space->knobs[index];
    bool is_known = knob->is_choice || has_ends(slope, index);
    int32_t others = SETTINGS_POINT_COUNT_MAX - 1;
    int32_t count = knob->value_count < others ? knob->value_count : others;
    *line = (settings_model_t){.point_count = 1};
    (void)snprintf(line->name, sizeof(line->name), "%s", knob->name);
    line->points[0] = point_of(slope, index, knob->value_default);
    for (int32_t i = 0; i < count && is_known; i++) {
        int64_t value = value_in_line(knob, i, count);
        if (value != knob->value_default && (!knob->is_choice || is_probed(slope, index, value)))
            line->points[line->point_count++] = point_of(slope, index, value);
    }
}

/* False: stopped, or the default fails. Other probes that fail are left out. */
static bool measure_probes(slope_t *slope, search_measure_t measure_part, void *ctx)
{
    bool has_failed[PROPOSE_PROBE_MAX] = {false};
    int32_t count = slope->probe_count;
    slope->probe_count = 0;
    for (int32_t i = 0; i < PROBE_ROUND_COUNT * count; i++) {
        char error[SEARCH_ERROR_BYTES];
        double time_us = 0.0;
        int32_t probe = i < count ? i : 2 * count - 1 - i;
        if (has_failed[probe])
            continue;
        measured_t measured = measure_part(ctx, &slope->probes[probe], &time_us, error);
        if (measured == MEASURED_STOP)
            return false;
        has_failed[probe] = measured == MEASURED_ERROR;
        slope->times_us[probe][i / count] = time_us;
    }
    for (int32_t i = 0; i < count && !has_failed[0]; i++) {
        if (has_failed[i])
            continue;
        slope->probes[slope->probe_count] = slope->probes[i];
        memmove(slope->times_us[slope->probe_count++], slope->times_us[i],
                sizeof(slope->times_us[i]));
    }
    return !has_failed[0];
}

/* Leaves the corners that work at the larger size. */
static void choose_probes(const search_t *search, slope_t *slope)
{
    setting_t corners[PROPOSE_PROBE_MAX];
    int32_t count = propose_corners(search->space, corners);
    slope->probe_count = 0;
    for (int32_t i = 0; i < count; i++)
        for (int32_t j = 0; j < search->candidate_count; j++)
            if (search->candidates[j].count > 0 &&
                space_is_equal(search->space, &search->candidates[j].setting, &corners[i])) {
                slope->probes[slope->probe_count++] = corners[i];
                break;
            }
}

static void fit_part(slope_t *slope, const space_t *space)
{
    double means_us[PROPOSE_PROBE_MAX] = {0.0};
    for (int32_t i = 0; i < slope->probe_count; i++)
        for (int32_t round = 0; round < PROBE_ROUND_COUNT; round++)
            means_us[i] += slope->times_us[i][round] / PROBE_ROUND_COUNT;
    model_fit(&slope->models[SIZE_PART], space, slope->probes, means_us, slope->probe_count);
}

bool slope_find(const search_t *search, search_measure_t measure_part, void *ctx, slope_t *slope)
{
    choose_probes(search, slope);
    if (!propose_fit(search, &slope->models[SIZE_WHOLE]) ||
        isinf(slope->models[SIZE_WHOLE].error) || !measure_probes(slope, measure_part, ctx))
        return false;
    model_scale(&slope->models[SIZE_WHOLE], search_time_us(&search->candidates[0]));
    fit_part(slope, search->space);
    slope->error = slope->models[SIZE_WHOLE].error;
    for (int32_t i = 0; i < search->space->knob_count; i++) {
        draw_line(slope, i, &slope->lines[slope->line_count]);
        slope->line_count += slope->lines[slope->line_count].point_count > 1;
    }
    return slope->line_count > 0;
}
