/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for the fastest setting of a space by measuring some. A measurement has a time of its own
 * and one relative to the default, which is measured again and again in between: what drifts on the
 * machine moves both. Knows nothing of groups and ranks; the caller measures.
 */
#ifndef MOXIE_TUNE_SEARCH_H
#define MOXIE_TUNE_SEARCH_H

#include "tune/space.h"

typedef enum search_mode {
    SEARCH_AUTO,  /* a model proposes, halving decides: at most a quarter of the grid's work */
    SEARCH_QUICK, /* about 6 settings, one knob at a time */
    SEARCH_FULL,  /* about 16 */
    SEARCH_GRID   /* all */
} search_mode_t;

/* Settings that SEARCH_GRID accepts at most. */
enum { SEARCH_GRID_MAX = 100000, SEARCH_ERROR_BYTES = 256 };

typedef enum measured {
    MEASURED_TIME,  /* it has a time */
    MEASURED_ERROR, /* the setting does not work: a result, the search goes on */
    MEASURED_STOP   /* no more measurements: stopped, or something that is no setting's fault */
} measured_t;

/* Measures a setting: its time, or its error, a sentence. */
typedef measured_t (*search_measure_t)(void *ctx, const setting_t *setting, double *time_us,
                                       char error[SEARCH_ERROR_BYTES]);

/* A setting that was tried. */
typedef struct candidate {
    setting_t setting;
    double predicted_us; /* by the model, when it was proposed; 0: no model proposed it */
    double *times_us;    /* [count] in the order of measuring */
    double *ratios;      /* [count] to the default measured around it */
    int32_t count;
    int32_t capacity;
    int32_t final_first; /* measurements before the final rounds; -1: it was not in them */
    char error[SEARCH_ERROR_BYTES]; /* "": none */
} candidate_t;

typedef struct search {
    const space_t *space;
    search_mode_t mode;
    search_measure_t measure;
    bool (*is_late)(void *ctx); /* true: nothing more is looked at, the final rounds begin; NULL */
    void *ctx;
    const setting_t *previous; /* the setting stored before, measured too; NULL: none */

    /* Results. The first candidate is the default. */
    candidate_t *candidates;
    int32_t candidate_count;
    int32_t candidate_capacity;
    int64_t measurement_count;
    int64_t measurement_count_max; /* what the mode allows itself */
    int32_t previous_index;        /* of `previous`; -1: none */
    int32_t fastest_index;         /* by the measurements */
    int32_t best_index;            /* what to use: the default, where nothing is surely faster */
    double gain;                   /* of the fastest over the default, 0.1: takes 10% less time */
    double gain_error;             /* standard error of the gain */
    double noise;                  /* of one measurement of the default, relative */
    bool is_noisy;                 /* so much that small gains cannot be seen */
    bool is_stopped;               /* the caller stopped it: the results so far */
    bool is_cut;                   /* it was late before all was looked at */
    bool is_final;                 /* in the final rounds */
    double recent_us[3];           /* the last times of the default */
} search_t;

/* A machine whose default varies by more than this from one measurement to the next is noisy. */
#define SEARCH_NOISY 0.05

/* A gain below this is none, however sure it is. */
#define SEARCH_GAIN_MIN 0.01

/* Runs a search whose first members are set. False: the default does not work, or no memory. */
bool search_run(search_t *search, failure_t *failure);

/* The median of a candidate's times, µs. */
double search_time_us(const candidate_t *candidate);

/* The median of its ratios: those of the final rounds where there are enough. */
double search_ratio(const candidate_t *candidate);

/* Why it won or lost, in a phrase. */
const char *search_fate(const search_t *search, int32_t index, char *text, size_t bytes);

void search_release(search_t *search);

#endif
