/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the document. Times are in µs, GB are 1e9 bytes. */
#include "tune/results.h"

#include "bench/stats.h"
#include "moxie/version.h"

#include <stdlib.h>
#include <string.h>

static const char *const call_names[CALL_COUNT] = {"dispatch", "combine"};

const char *results_mode_name(search_mode_t mode)
{
    static const char *const names[] = {"auto", "quick", "full", "grid"};
    return names[mode];
}

json_t *results_setup(const tune_t *tune, const settings_key_t *key)
{
    const plan_t *plan = tune->trial.plan;
    json_t *values = json_object();
    for (int32_t i = 0; i < tune->space.knob_count; i++) {
        const space_knob_t *knob = &tune->space.knobs[i];
        json_t *list = json_array();
        for (int32_t j = 0; j < knob->value_count; j++)
            json_array_append_new(list, json_integer(knob->values[j]));
        json_object_set_new(values, knob->name, list);
    }
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:s,s:s,s:I,s:I,s:I,s:o,s:s}", "backend",
        key->backend, "machine", key->machine, "mode", key->mode, "variant", key->variant, "search",
        results_mode_name(tune->mode), "ranks", (json_int_t)key->ranks, "tokens",
        (json_int_t)key->tokens, "hidden", (json_int_t)key->hidden, "experts",
        (json_int_t)key->experts, "topk", (json_int_t)key->topk, "shape", plan->shape_name,
        "routing", plan->options->routing, "seed", (json_int_t)plan->options->seed, "warmups",
        (json_int_t)plan->options->warmups, "iterations", (json_int_t)plan->options->iterations,
        "search_space", values, "version", moxie_version_text());
}

static json_t *numbers_json(const double *numbers, int32_t count)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(list, json_real(numbers[i]));
    return list;
}

/* {"sms": [{"value","latency_us","us_per_mb"}, …]}; a new reference. */
static json_t *lines_json(const slope_t *slope)
{
    json_t *json = json_object();
    for (int32_t i = 0; i < slope->line_count; i++) {
        const settings_model_t *line = &slope->lines[i];
        json_t *points = json_array();
        for (int32_t j = 0; j < line->point_count; j++)
            json_array_append_new(
                points, json_pack("{s:I,s:f,s:f}", "value", (json_int_t)line->points[j].value,
                                  "latency_us", (double)line->points[j].latency_ns / 1e3,
                                  "us_per_mb", (double)line->points[j].ns_per_mb / 1e3));
        json_object_set_new(json, line->name, points);
    }
    return json;
}

/* What was measured at the smaller size; a new reference. */
static json_t *probes_json(const slope_t *slope)
{
    json_t *probes = json_array();
    for (int32_t i = 0; i < slope->probe_count; i++)
        json_array_append_new(
            probes, json_pack("{s:o,s:o}", "setting",
                              trial_setting_json(slope->models[SIZE_PART].space, &slope->probes[i]),
                              "times_us", numbers_json(slope->times_us[i], PROBE_ROUND_COUNT)));
    return probes;
}

static json_t *slope_json(const slope_t *slope)
{
    if (slope->line_count == 0)
        return json_null();
    return json_pack("{s:[f,f],s:f,s:o,s:o}", "mb", slope->mb[SIZE_PART], slope->mb[SIZE_WHOLE],
                     "error", slope->error, "knobs", lines_json(slope), "probes",
                     probes_json(slope));
}

static json_t *candidate_json(const phase_t *phase, int32_t index)
{
    char fate[512];
    const candidate_t *candidate = &phase->search.candidates[index];
    json_t *json = json_object();
    json_object_set_new(json, "setting", trial_setting_json(&phase->space, &candidate->setting));
    json_object_set_new(json, "predicted_us",
                        candidate->predicted_us > 0.0 ? json_real(candidate->predicted_us)
                                                      : json_null());
    json_object_set_new(
        json, "fitted_us",
        phase->slope.line_count > 0
            ? json_real(model_predict(&phase->slope.models[SIZE_WHOLE], &candidate->setting))
            : json_null());
    json_object_set_new(json, "time_us",
                        candidate->count > 0 ? json_real(search_time_us(candidate)) : json_null());
    json_object_set_new(json, "relative",
                        candidate->count > 0 ? json_real(search_ratio(candidate)) : json_null());
    json_object_set_new(json, "times_us", numbers_json(candidate->times_us, candidate->count));
    json_object_set_new(json, "error",
                        candidate->error[0] == '\0' ? json_null() : json_string(candidate->error));
    json_object_set_new(json, "fate",
                        json_string(search_fate(&phase->search, index, fate, sizeof(fate))));
    return json;
}

static json_t *phase_json(const phase_t *phase)
{
    const search_t *search = &phase->search;
    json_t *candidates = json_array();
    for (int32_t i = 0; i < search->candidate_count; i++)
        json_array_append_new(candidates, candidate_json(phase, i));
    return json_pack(
        "{s:s,s:o,s:I,s:I,s:I,s:f,s:b,s:f,s:f,s:i,s:i,s:o}", "name", phase->name, "model",
        slope_json(&phase->slope), "settings_in_all", (json_int_t)space_count(&phase->space),
        "measurements", (json_int_t)search->measurement_count, "measurements_max",
        (json_int_t)search->measurement_count_max, "noise", search->noise, "noisy",
        search->is_noisy, "gain", search->gain, "gain_error", search->gain_error, "fastest",
        search->fastest_index, "best", search->best_index, "candidates", candidates);
}

static json_t *figures_json(const trial_t *trial, int call, double time_us)
{
    return json_pack("{s:f,s:f,s:f}", "time_us", time_us, "logical_gbps",
                     time_us > 0.0 ? trial->logical_bytes[call] / time_us / 1e3 : 0.0, "wire_gbps",
                     time_us > 0.0 ? trial->wire_bytes[call] / time_us / 1e3 : 0.0);
}

static json_t *confirmed_json(const tune_t *tune, const confirmed_t *confirmed, int call)
{
    json_t *json = figures_json(&tune->trial, call, confirmed->time_us[call]);
    json_object_set_new(json, "setting", trial_setting_json(&tune->space, &confirmed->setting));
    json_object_set_new(json, "times_us",
                        numbers_json(confirmed->times_us[call], confirmed->count));
    return json;
}

/* The median of a call's times with one setting, over all that were measured. */
static double time_of(const trial_t *trial, const setting_t *setting, int call, double *scratch)
{
    int64_t count = 0;
    for (int64_t i = 0; i < trial->outcome_count; i++) {
        const outcome_t *outcome = &trial->outcomes[i];
        if (outcome->is_used && !outcome->is_part && outcome->error[0] == '\0' &&
            space_is_equal(trial->space, &outcome->setting, setting))
            scratch[count++] = outcome->time_us[call];
    }
    return stats_describe(scratch, count).p50;
}

/* The fastest and the slowest setting of a call; every setting counts once, by its first outcome.
 */
static void find_ends(const trial_t *trial, int call, double *scratch, json_t *out)
{
    double ends[2] = {0.0, 0.0};
    const outcome_t *of[2] = {NULL, NULL};
    static const char *const names[2] = {"fastest", "worst"};
    for (int64_t i = 0; i < trial->outcome_count; i++) {
        const outcome_t *outcome = &trial->outcomes[i];
        if (!outcome->is_used || outcome->is_part || outcome->error[0] != '\0')
            continue;
        double time_us = time_of(trial, &outcome->setting, call, scratch);
        if (of[0] == NULL || time_us < ends[0]) {
            of[0] = outcome;
            ends[0] = time_us;
        }
        if (of[1] == NULL || time_us > ends[1]) {
            of[1] = outcome;
            ends[1] = time_us;
        }
    }
    for (int end = 0; end < 2 && of[end] != NULL; end++) {
        json_t *figures = figures_json(trial, call, ends[end]);
        json_object_set_new(figures, "setting",
                            trial_setting_json(trial->space, &of[end]->setting));
        json_object_set_new(out, names[end], figures);
    }
}

/* Null where there is nothing to compare, or the result itself. */
static json_t *gain_json(const tune_t *tune, const confirmed_t *confirmed, int call)
{
    if (confirmed->count == 0 || space_is_equal(&tune->space, &tune->best, &confirmed->setting))
        return json_null();
    return json_pack("{s:f,s:f}", "gain", confirmed->gain[call], "standard_error",
                     confirmed->gain_error[call]);
}

static json_t *performance_json(const tune_t *tune)
{
    json_t *performance = json_object();
    double *scratch = calloc((size_t)tune->trial.outcome_count + 1, sizeof(*scratch));
    for (int call = 0; call < CALL_COUNT && scratch != NULL; call++) {
        json_t *figures = json_object();
        if (tune->by_default.count > 0 && !tune->is_stopped) {
            json_object_set_new(figures, "optimal", confirmed_json(tune, &tune->optimal, call));
            json_object_set_new(figures, "default", confirmed_json(tune, &tune->by_default, call));
            json_object_set_new(figures, "over_default", gain_json(tune, &tune->by_default, call));
            json_object_set_new(figures, "over_previous", gain_json(tune, &tune->before, call));
        }
        find_ends(&tune->trial, call, scratch, figures);
        json_object_set_new(performance, call_names[call], figures);
    }
    free(scratch);
    if (tune->by_default.count > 0 && !tune->is_stopped)
        json_object_set_new(performance, "both",
                            json_pack("{s:o,s:o}", "over_default",
                                      gain_json(tune, &tune->by_default, CALL_COUNT),
                                      "over_previous", gain_json(tune, &tune->before, CALL_COUNT)));
    return performance;
}

json_t *results_json(const tune_t *tune, const json_t *setup, const char *timestamp)
{
    json_t *phases = json_array();
    json_t *defaults = json_object();
    for (int32_t i = 0; i < tune->phase_count; i++)
        if (tune->phases[i].search.candidate_count > 0)
            json_array_append_new(phases, phase_json(&tune->phases[i]));
    for (int32_t i = 0; i < tune->space.knob_count; i++)
        json_object_set_new(defaults, tune->space.knobs[i].name,
                            json_pack("{s:I,s:I,s:I,s:s}", "default",
                                      (json_int_t)tune->space.knobs[i].value_default, "min",
                                      (json_int_t)tune->space.knobs[i].value_min, "max",
                                      (json_int_t)tune->space.knobs[i].value_max, "help",
                                      tune->space.knobs[i].help));
    return json_pack(
        "{s:s,s:s,s:s,s:O,s:o,s:s,s:b,s:b,s:b,s:I,s:I,s:o,s:o,s:o,s:o}", "schema", "moxie.tune/1",
        "version", moxie_version_text(), "timestamp", timestamp, "setup", setup, "knobs", defaults,
        "verdict", tune->verdict, "stopped", (int)tune->is_stopped, "out_of_time",
        (int)tune->is_out_of_time, "noisy", (int)(tune->noise > SEARCH_NOISY), "measured",
        (json_int_t)tune->trial.run_count, "resumed", (json_int_t)tune->trial.logged_count, "noise",
        json_real(tune->noise), "optimal_setting",
        tune->is_stopped ? json_null() : trial_setting_json(&tune->space, &tune->best),
        "performance", performance_json(tune), "phases", phases);
}

json_t *results_summary(const json_t *results)
{
    json_t *summary = json_deep_copy(results);
    (void)json_object_set_new(summary, "schema", json_string("moxie.tune.summary/1"));
    (void)json_object_del(summary, "phases");
    return summary;
}
