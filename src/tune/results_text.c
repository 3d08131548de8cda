/* SPDX-License-Identifier: Apache-2.0 */
/* The document for people: tables on a terminal, and OPTIMAL_CONFIGS.md. */
#include "tune/results.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static int64_t integer_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* "sms=24 combine_sms=40" */
static const char *setting_text(const json_t *setting, char *text, size_t bytes)
{
    size_t used = 0;
    const char *name;
    const json_t *value;
    text[0] = '\0';
    json_object_foreach((json_t *)(uintptr_t)setting, name, value)
    {
        if (used < bytes)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s=%" JSON_INTEGER_FORMAT,
                                     used > 0 ? " " : "", name, json_integer_value(value));
    }
    return text;
}

/* What each value is expected to cost at any size, the other knobs at their default. */
static void print_model(const json_t *model, FILE *out)
{
    const char *name;
    const json_t *points;
    size_t index;
    const json_t *point;
    const json_t *mb = json_object_get(model, "mb");
    if (!json_is_object(model))
        return;
    (void)fprintf(out,
                  "\nmodel: latency + slope x MB that a rank sends, measured at %.2f and %.2f MB;"
                  " typical error %.1f%%\n",
                  json_number_value(json_array_get(mb, 0)),
                  json_number_value(json_array_get(mb, 1)), 100.0 * number_at(model, "error"));
    json_object_foreach(json_object_get(model, "knobs"), name, points)
    {
        json_array_foreach(points, index, point)
        {
            (void)fprintf(out, "%12.1f us + %9.3f us/MB  %s=%" PRId64 "%s\n",
                          number_at(point, "latency_us"), number_at(point, "us_per_mb"), name,
                          integer_at(point, "value"), index == 0 ? " (default)" : "");
        }
    }
}

static void print_us(const json_t *candidate, const char *key, char text[32])
{
    double us = number_at(candidate, key);
    (void)snprintf(text, 32, "-");
    if (us > 0.0)
        (void)snprintf(text, 32, "%.1f us", us);
}

static void print_candidates(const json_t *phase, FILE *out)
{
    size_t index;
    const json_t *candidate;
    (void)fprintf(out, "\n%s: %" PRId64 " settings in all, %" PRId64 " measurements\n",
                  text_at(phase, "name"), integer_at(phase, "settings_in_all"),
                  integer_at(phase, "measurements"));
    (void)fprintf(out, "%12s %12s %12s %9s  %s\n", "predicted", "fitted", "measured", "relative",
                  "setting");
    json_array_foreach(json_object_get(phase, "candidates"), index, candidate)
    {
        char predicted[32];
        char fitted[32];
        char measured[32];
        char relative[32] = "-";
        char setting[512];
        print_us(candidate, "predicted_us", predicted);
        print_us(candidate, "fitted_us", fitted);
        print_us(candidate, "time_us", measured);
        if (number_at(candidate, "time_us") > 0.0)
            (void)snprintf(relative, sizeof(relative), "%.3f", number_at(candidate, "relative"));
        (void)fprintf(out, "%12s %12s %12s %9s  %s: %s\n", predicted, fitted, measured, relative,
                      setting_text(json_object_get(candidate, "setting"), setting, sizeof(setting)),
                      text_at(candidate, "fate"));
    }
    print_model(json_object_get(phase, "model"), out);
}

/* A row of the comparison: time and rate of one setting. */
static void print_row(const json_t *figures, const char *name, const char *column, FILE *out)
{
    const json_t *row = json_object_get(figures, column);
    char setting[512];
    if (row != NULL && json_object_get(figures, "default") != NULL) /* else it was stopped */
        (void)fprintf(out, "%-10s%-10s%12.1f us%10.2f%10.2f  %s\n", name, column,
                      number_at(row, "time_us"), number_at(row, "logical_gbps"),
                      number_at(row, "wire_gbps"),
                      setting_text(json_object_get(row, "setting"), setting, sizeof(setting)));
}

static void print_gain(const json_t *figures, const char *name, const char *column,
                       const char *over, FILE *out)
{
    const json_t *gain = json_object_get(figures, column);
    if (json_is_object(gain))
        (void)fprintf(out, "%-10s%.1f%% +- %.1f%% %s time than %s\n", name,
                      100.0 * fabs(number_at(gain, "gain")),
                      100.0 * number_at(gain, "standard_error"),
                      number_at(gain, "gain") < 0.0 ? "more" : "less", over);
}

void results_print(const json_t *results, bool explains, FILE *out)
{
    const json_t *setup = json_object_get(results, "setup");
    const json_t *performance = json_object_get(results, "performance");
    static const char *const calls[CALL_COUNT] = {"dispatch", "combine"};
    static const char *const columns[] = {"optimal", "default", "worst"};
    char setting[512];
    (void)fprintf(out,
                  "moxie tune: %s on %" PRId64 " ranks, backend %s, routing %s\n"
                  "            %" PRId64 " tokens a rank, hidden %" PRId64 ", %" PRId64
                  " experts, topk %" PRId64 ", %s\n"
                  "            search %s, %" PRId64 " measurements, %" PRId64 " from a log\n\n",
                  text_at(setup, "shape"), integer_at(setup, "ranks"), text_at(setup, "backend"),
                  text_at(setup, "routing"), integer_at(setup, "tokens"),
                  integer_at(setup, "hidden"), integer_at(setup, "experts"),
                  integer_at(setup, "topk"), text_at(setup, "variant"), text_at(setup, "search"),
                  integer_at(results, "measured"), integer_at(results, "resumed"));
    (void)fprintf(out, "%-20s%15s%10s%10s  %s\n", "", "time", "logical", "wire GB/s", "setting");
    for (int call = 0; call < CALL_COUNT; call++)
        for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
            print_row(json_object_get(performance, calls[call]), i == 0 ? calls[call] : "",
                      columns[i], out);
    (void)fputc('\n', out);
    for (int call = 0; call <= CALL_COUNT; call++) {
        const char *name = call < CALL_COUNT ? calls[call] : "both";
        const json_t *figures = json_object_get(performance, name);
        print_gain(figures, name, "over_default", "with the default", out);
        print_gain(figures, name, "over_previous", "with what was stored before", out);
    }
    (void)fprintf(out, "verdict   %s\n", text_at(results, "verdict"));
    const json_t *optimal = json_object_get(results, "optimal_setting");
    if (json_is_object(optimal))
        (void)fprintf(out, "settings  %s\n", setting_text(optimal, setting, sizeof(setting)));
    if (json_is_true(json_object_get(results, "out_of_time")))
        (void)fputs("limit     the time limit ended a search: more may be found with more time\n",
                    out);
    if (json_is_true(json_object_get(results, "noisy")))
        (void)fprintf(out,
                      "noise     this machine is noisy: the default itself varies by %.1f%% from "
                      "one measurement to the next\n",
                      100.0 * number_at(results, "noise"));
    size_t index;
    const json_t *phase;
    json_array_foreach(json_object_get(results, "phases"), index, phase)
    {
        if (explains)
            print_candidates(phase, out);
    }
}

static void write_comparison(const json_t *performance, FILE *out)
{
    static const char *const calls[CALL_COUNT] = {"dispatch", "combine"};
    static const char *const columns[] = {"optimal", "default", "worst"};
    (void)fputs("## Comparison\n\n"
                "| call | | time (µs) | logical GB/s | wire GB/s | settings |\n"
                "|---|---|---:|---:|---:|---|\n",
                out);
    for (int call = 0; call < CALL_COUNT; call++) {
        const json_t *figures = json_object_get(performance, calls[call]);
        for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
            const json_t *row = json_object_get(figures, columns[i]);
            char setting[512];
            if (row != NULL)
                (void)fprintf(
                    out, "| %s | %s | %.1f | %.2f | %.2f | `%s` |\n", calls[call], columns[i],
                    number_at(row, "time_us"), number_at(row, "logical_gbps"),
                    number_at(row, "wire_gbps"),
                    setting_text(json_object_get(row, "setting"), setting, sizeof(setting)));
        }
    }
    (void)fputc('\n', out);
    for (int call = 0; call < CALL_COUNT; call++) {
        const json_t *figures = json_object_get(performance, calls[call]);
        const json_t *gain = json_object_get(figures, "over_default");
        if (json_is_object(gain))
            (void)fprintf(out, "- %s takes %.1f%% ± %.1f%% %s time than with the default.\n",
                          calls[call], 100.0 * fabs(number_at(gain, "gain")),
                          100.0 * number_at(gain, "standard_error"),
                          number_at(gain, "gain") < 0.0 ? "more" : "less");
    }
}

static void write_knobs(const json_t *results, FILE *out)
{
    const char *name;
    const json_t *knob;
    const json_t *chosen = json_object_get(results, "optimal_setting");
    const json_t *space = json_object_get(json_object_get(results, "setup"), "search_space");
    (void)fputs("## What was tuned\n\n| knob | optimal | default | tried | what it is |\n"
                "|---|---:|---:|---|---|\n",
                out);
    json_object_foreach(json_object_get(results, "knobs"), name, knob)
    {
        char *tried = json_dumps(json_object_get(space, name), JSON_COMPACT);
        (void)fprintf(out, "| `%s` | %" PRId64 " | %" PRId64 " | %s | %s |\n", name,
                      integer_at(chosen, name), integer_at(knob, "default"),
                      tried == NULL ? "" : tried, text_at(knob, "help"));
        free(tried);
    }
}

void results_markdown(const json_t *results, FILE *out)
{
    const json_t *setup = json_object_get(results, "setup");
    char setting[512];
    (void)setting_text(json_object_get(results, "optimal_setting"), setting, sizeof(setting));
    (void)fprintf(out,
                  "# Optimal settings\n\nFound by `moxie tune` %s, %s; %s.\n\n## Setup\n\n"
                  "- machine: %s\n- backend %s, %" PRId64 " ranks, %s\n"
                  "- %" PRId64 " tokens a rank, hidden %" PRId64 ", %" PRId64
                  " experts, topk %" PRId64 "; shape %s, routing %s\n"
                  "- search %s: %" PRId64 " measurements of %" PRId64
                  " iterations; each setting verified against the reference\n\n",
                  text_at(results, "version"), text_at(results, "timestamp"),
                  text_at(results, "verdict"), text_at(setup, "machine"), text_at(setup, "backend"),
                  integer_at(setup, "ranks"), text_at(setup, "variant"),
                  integer_at(setup, "tokens"), integer_at(setup, "hidden"),
                  integer_at(setup, "experts"), integer_at(setup, "topk"), text_at(setup, "shape"),
                  text_at(setup, "routing"), text_at(setup, "search"),
                  integer_at(results, "measured") + integer_at(results, "resumed"),
                  integer_at(setup, "iterations"));
    (void)fprintf(out, "## Optimal settings\n\n`%s`\n\n", setting);
    if (json_is_true(json_object_get(results, "noisy")))
        (void)fprintf(out,
                      "This machine is noisy: the default itself varies by %.1f%% from one "
                      "measurement to the next.\n\n",
                      100.0 * number_at(results, "noise"));
    if (json_is_true(json_object_get(results, "out_of_time")))
        (void)fputs("The time limit ended a search: more may be found with more time.\n\n", out);
    write_comparison(json_object_get(results, "performance"), out);
    (void)fputc('\n', out);
    write_knobs(results, out);
    (void)fputs("\n## How to use them\n\n"
                "They are in the tuning database: `moxie bench` and every program that uses "
                "libmoxie\non this machine take them, and say `stored` where they tell a knob's "
                "value. `moxie tune export`\nwrites them to a file for `moxie tune import` "
                "elsewhere; `MOXIE_TUNING=off` turns them off.\nOr set a knob by its environment "
                "variable, `MOXIE_` and its name in capitals.\n\n"
                "## How to tune again\n\n`moxie tune` with the same flags; `--mode full` or "
                "`--mode grid` looks at more settings,\n`--knob NAME=VALUES` at others.\n",
                out);
}
