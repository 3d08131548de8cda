/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cost model of settings. Each knob contributes a factor to the time:
 *
 *   log(time) = a + Σ over knobs of b·x + c·x²,   x = log of the value, scaled to −1 … 1
 *
 * and a choice one factor for each of its values. That has the shape of what knobs do: too few SMs
 * cost bytes / rate, too many cost what they take to start, and the best lies between. Fitted by
 * least squares with a little weight on 0, so that a few probes are enough.
 */
#ifndef MOXIE_TUNE_MODEL_H
#define MOXIE_TUNE_MODEL_H

#include "tune/space.h"

enum { MODEL_TERM_COUNT_MAX = 1 + SPACE_KNOB_COUNT_MAX * 8 };

typedef struct model {
    const space_t *space;
    int32_t term_count;
    double weight[MODEL_TERM_COUNT_MAX];
} model_t;

/* Fits the model to `count` measured settings; costs are above 0. */
void model_fit(model_t *model, const space_t *space, const setting_t *settings, const double *costs,
               int32_t count);

/* The cost that a fitted model expects. */
double model_predict(const model_t *model, const setting_t *setting);

#endif
