/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the settings of a plan: a search for each phase, with the knobs that only it uses, then the
 * result beside the default, both measured again in turns, which nothing was chosen by.
 */
#ifndef MOXIE_TUNE_TUNE_H
#define MOXIE_TUNE_TUNE_H

#include "tune/slope.h"
#include "tune/trial.h"

enum { PHASE_COUNT_MAX = 3, CONFIRM_COUNT = 7 };

/* A search over some of the knobs. */
typedef struct phase {
    const char
        *name; /* "dispatch", "combine"; "exchange": knobs of both calls, judged by the sum */
    bool has_call[CALL_COUNT]; /* whose time is judged */
    space_t space;
    int32_t knob_of[SPACE_KNOB_COUNT_MAX]; /* where each knob is in the space of all */
    setting_t base;                        /* of all knobs, while this phase searches */
    setting_t previous;                    /* its knobs in the setting stored before */
    search_t search;
    slope_t slope; /* no lines: not known */
} phase_t;

/* Times of a setting in the last comparison. */
typedef struct confirmed {
    setting_t setting;
    double times_us[CALL_COUNT][CONFIRM_COUNT];
    int32_t count;
    double time_us[CALL_COUNT]; /* medians */
    /* Of the result over this setting, by pairs, for each call and for both together. */
    double gain[CALL_COUNT + 1];       /* 0.1: 10% less time */
    double gain_error[CALL_COUNT + 1]; /* standard error of it */
} confirmed_t;

typedef struct tune {
    trial_t trial;
    space_t space; /* all knobs */
    search_mode_t mode;
    bool has_previous;
    setting_t previous;    /* stored before */
    double mb[SIZE_COUNT]; /* that a rank sends, as the store counts it */
    int64_t late_ms;       /* of link_now_ms(): the search that is under way shall end; 0: never */
    int64_t time_limit_s;  /* of the measurements, but for the last comparison; 0: none */

    /* Results. */
    phase_t phases[PHASE_COUNT_MAX];
    int32_t phase_count;
    setting_t best;
    confirmed_t optimal;
    confirmed_t by_default;
    confirmed_t before; /* count 0: nothing was stored, or it is one of the others */
    double noise;       /* the largest of the phases */
    bool is_stopped;
    bool is_out_of_time; /* a search ended by the limit */
    const char *verdict; /* what became of it, in a phrase */
    int32_t phase_at;    /* the phase that is under way, for progress */
} tune_t;

/* Whether the calls that are measured in the runs of the plan read a knob. One that they do not is
 * not tuned. */
bool tune_uses_knob(const tune_t *tune, const space_knob_t *knob);

/* Divides the knobs into phases; the plan and the space are known. */
void tune_plan(tune_t *tune);

/* Measures. False: the default does not work. Stopped is no failure. */
bool tune_run(tune_t *tune, failure_t *failure);

void tune_release(tune_t *tune);

#endif
