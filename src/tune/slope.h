/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latency and slope of the values of a search's knobs: what a call would take at other sizes. A few
 * settings are measured at a smaller size too; the models of both sizes (model.h) give for every
 * value, the other knobs at their default, the line through two points. Only of knobs whose ends
 * were measured at both sizes, and of choices that were: nothing is told of what nobody has seen.
 */
#ifndef MOXIE_TUNE_SLOPE_H
#define MOXIE_TUNE_SLOPE_H

#include "store/settings.h"
#include "tune/propose.h"

/* The two sizes. */
enum { SIZE_PART, SIZE_WHOLE, SIZE_COUNT };

/* Measurements of each probe: forwards and backwards, so that drift hits all alike. */
enum { PROBE_ROUND_COUNT = 2 };

typedef struct slope {
    double mb[SIZE_COUNT]; /* that a rank sends */
    model_t models[SIZE_COUNT];
    double error; /* of the model at the larger size: the other one goes through its few probes */
    setting_t
        probes[PROPOSE_PROBE_MAX]; /* what was measured at the smaller size, the default first */
    double times_us[PROPOSE_PROBE_MAX][PROBE_ROUND_COUNT];
    int32_t probe_count;
    settings_model_t lines[SPACE_KNOB_COUNT_MAX];
    int32_t line_count;
} slope_t;

/*
 * Measures what it needs at the smaller size and fits to that and to what the search measured.
 * False, and no lines: stopped, the default failed, or the search measured too little.
 */
bool slope_find(const search_t *search, search_measure_t measure_part, void *ctx, slope_t *slope);

#endif
