/* SPDX-License-Identifier: Apache-2.0 */
/* Least squares by the normal equations: there are few terms, and none is far from 1. */
#include "tune/model.h"

#include <math.h>
#include <string.h>

/* Pulls weights that no probe decides to 0; small beside one probe. */
#define RIDGE 1e-3

/* Where a value lies between the lowest and the highest that is tried, by logarithms. */
static double place_of(const space_knob_t *knob, int64_t value)
{
    double low = log2((double)knob->values[0] - (double)knob->value_min + 1.0);
    double high = log2((double)knob->values[knob->value_count - 1] - (double)knob->value_min + 1.0);
    double at = log2((double)value - (double)knob->value_min + 1.0);
    return high > low ? 2.0 * (at - low) / (high - low) - 1.0 : 0.0;
}

/* The terms of a setting; returns how many there are. */
static int32_t terms_of(const space_t *space, const setting_t *setting, double *terms)
{
    int32_t count = 0;
    terms[count++] = 1.0;
    for (int32_t i = 0; i < space->knob_count; i++) {
        const space_knob_t *knob = &space->knobs[i];
        if (knob->is_choice) {
            for (int32_t j = 0; j < knob->value_count; j++)
                terms[count++] = setting->value[i] == knob->values[j] ? 1.0 : 0.0;
        } else {
            double x = place_of(knob, setting->value[i]);
            terms[count++] = x;
            terms[count++] = x * x;
        }
    }
    return count;
}

/* Solves a symmetric positive definite system in place. */
static void solve(double (*matrix)[MODEL_TERM_COUNT_MAX], double *right, int32_t count)
{
    for (int32_t column = 0; column < count; column++) {
        for (int32_t row = column + 1; row < count; row++) {
            double factor = matrix[row][column] / matrix[column][column];
            for (int32_t i = column; i < count; i++)
                matrix[row][i] -= factor * matrix[column][i];
            right[row] -= factor * right[column];
        }
    }
    for (int32_t row = count - 1; row >= 0; row--) {
        for (int32_t i = row + 1; i < count; i++)
            right[row] -= matrix[row][i] * right[i];
        right[row] /= matrix[row][row];
    }
}

void model_fit(model_t *model, const space_t *space, const setting_t *settings, const double *costs,
               int32_t count)
{
    static _Thread_local double matrix[MODEL_TERM_COUNT_MAX][MODEL_TERM_COUNT_MAX];
    double terms[MODEL_TERM_COUNT_MAX];
    memset(matrix, 0, sizeof(matrix));
    *model = (model_t){.space = space};
    for (int32_t sample = 0; sample < count; sample++) {
        model->term_count = terms_of(space, &settings[sample], terms);
        for (int32_t row = 0; row < model->term_count; row++) {
            for (int32_t column = 0; column < model->term_count; column++)
                matrix[row][column] += terms[row] * terms[column];
            model->weight[row] += terms[row] * log(costs[sample]);
        }
    }
    for (int32_t i = 0; i < model->term_count; i++)
        matrix[i][i] += i == 0 ? RIDGE * RIDGE : RIDGE;
    solve(matrix, model->weight, model->term_count);
}

double model_predict(const model_t *model, const setting_t *setting)
{
    double terms[MODEL_TERM_COUNT_MAX];
    double sum = 0.0;
    int32_t count = terms_of(model->space, setting, terms);
    for (int32_t i = 0; i < count && i < model->term_count; i++)
        sum += model->weight[i] * terms[i];
    return exp(sum);
}
