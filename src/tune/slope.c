/* SPDX-License-Identifier: Apache-2.0 */
/* Probes at the smaller size, two models, and lines through them. */
#include "tune/slope.h"

#include "moxie/group.h"
#include "tune/propose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Measurements of each probe: forwards and backwards, so that drift hits all alike. */
enum { PROBE_ROUND_COUNT = 2 };

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

static void draw_line(const slope_t *slope, int32_t index, settings_model_t *line)
{
    const space_knob_t *knob = &slope->models[SIZE_WHOLE].space->knobs[index];
    int32_t others = SETTINGS_POINT_COUNT_MAX - 1;
    int32_t count = knob->value_count < others ? knob->value_count : others;
    *line = (settings_model_t){.point_count = 1};
    (void)snprintf(line->name, sizeof(line->name), "%s", knob->name);
    line->points[0] = point_of(slope, index, knob->value_default);
    for (int32_t i = 0; i < count; i++) {
        int64_t value = value_in_line(knob, i, count);
        if (value != knob->value_default)
            line->points[line->point_count++] = point_of(slope, index, value);
    }
}

/* The means of the probes that work, in place; their number, 0: stopped, or the default fails. */
static int32_t measure_probes(search_measure_t measure_part, void *ctx, setting_t *probes,
                              double *times_us, int32_t count)
{
    bool has_failed[PROPOSE_PROBE_MAX] = {false};
    int32_t kept = 0;
    memset(times_us, 0, (size_t)count * sizeof(*times_us));
    for (int32_t i = 0; i < PROBE_ROUND_COUNT * count; i++) {
        char error[SEARCH_ERROR_BYTES];
        double time_us = 0.0;
        int32_t probe = i < count ? i : 2 * count - 1 - i;
        if (has_failed[probe])
            continue;
        measured_t measured = measure_part(ctx, &probes[probe], &time_us, error);
        if (measured == MEASURED_STOP)
            return 0;
        has_failed[probe] = measured == MEASURED_ERROR;
        times_us[probe] += time_us / PROBE_ROUND_COUNT;
    }
    for (int32_t i = 0; i < count && !has_failed[0]; i++) {
        if (has_failed[i])
            continue;
        probes[kept] = probes[i];
        times_us[kept++] = times_us[i];
    }
    return kept;
}

bool slope_find(const search_t *search, search_measure_t measure_part, void *ctx, slope_t *slope)
{
    setting_t probes[PROPOSE_PROBE_MAX];
    double times_us[PROPOSE_PROBE_MAX];
    int32_t count = propose_corners(search->space, probes);
    count = measure_probes(measure_part, ctx, probes, times_us, count);
    if (count == 0 || !propose_fit(search, &slope->models[SIZE_WHOLE]))
        return false;
    model_scale(&slope->models[SIZE_WHOLE], search_time_us(&search->candidates[0]));
    model_fit(&slope->models[SIZE_PART], search->space, probes, times_us, count);
    slope->error = hypot(slope->models[SIZE_PART].error, slope->models[SIZE_WHOLE].error);
    slope->line_count = search->space->knob_count;
    for (int32_t i = 0; i < slope->line_count; i++)
        draw_line(slope, i, &slope->lines[i]);
    return true;
}
