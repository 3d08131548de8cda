/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cost model of settings at one size of a call:
 *
 *   time = a + Σ over knobs of (b·w + c/w)
 *
 * with w the amount that a knob stands for: SMs, or doublings where the range is wide. Each further
 * SM costs what it takes to start and carries a share of the bytes. A choice, and an amount that
 * the library chooses, adds a time of its own. Fitted by least squares of relative errors with a
 * little weight on 0, so that a few probes are enough. Two sizes give latency and slope: slope.h.
 */
#ifndef MOXIE_TUNE_MODEL_H
#define MOXIE_TUNE_MODEL_H

#include "tune/space.h"

enum { MODEL_TERM_COUNT_MAX = 1 + SPACE_KNOB_COUNT_MAX * 8 };

typedef struct model {
    const space_t *space;
    int32_t term_count;
    double weight[MODEL_TERM_COUNT_MAX];
    double error; /* standard error of what it was fitted to, relative; INFINITY: too few of it */
} model_t;

/* Fits the model to `count` measured settings; costs are above 0. */
void model_fit(model_t *model, const space_t *space, const setting_t *settings, const double *costs,
               int32_t count);

/* Makes the costs of a fitted model so many times as large. */
void model_scale(model_t *model, double factor);

/* The cost that a fitted model expects. */
double model_predict(const model_t *model, const setting_t *setting);

#endif
