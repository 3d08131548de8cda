/* SPDX-License-Identifier: Apache-2.0 */
/* Least squares by the normal equations: there are few terms, and none is far from 1. */
#include "tune/model.h"

#include "moxie/group.h"

#include <math.h>
#include <string.h>

/* Pulls weights that no probe decides to 0; small beside one probe. */
#define RIDGE 1e-4

/* Ranges beyond this are looked at by doublings. */
enum { NARROW_RANGE_MAX = 4096 };

static double amount_of(const space_knob_t *knob, int64_t value)
{
    double amount = (double)value - (double)knob->value_min + 1.0;
    bool is_narrow = (double)knob->value_max - (double)knob->value_min <= NARROW_RANGE_MAX;
    return is_narrow ? amount : 1.0 + log2(amount);
}

/* Terms of an amount, none above 1. */
static int32_t amount_terms(const space_knob_t *knob, int64_t value, double *terms)
{
    bool is_chosen = (knob->use & MOXIE_KNOB_ZERO_CHOOSES) != 0 && value == 0;
    int64_t lowest = knob->values[space_first_amount(knob)];
    int64_t highest = knob->values[knob->value_count - 1];
    double amount = amount_of(knob, value);
    terms[0] = is_chosen ? 0.0 : amount / amount_of(knob, highest);
    terms[1] = is_chosen ? 0.0 : amount_of(knob, lowest) / amount;
    terms[2] = is_chosen ? 1.0 : 0.0;
    return (knob->use & MOXIE_KNOB_ZERO_CHOOSES) != 0 ? 3 : 2;
}

/* The terms of a setting; returns how many there are. */
static int32_t terms_of(const space_t *space, const setting_t *setting, double *terms)
{
    int32_t count = 0;
    terms[count++] = 1.0;
    for (int32_t i = 0; i < space->knob_count; i++) {
        const space_knob_t *knob = &space->knobs[i];
        if (knob->is_choice)
            for (int32_t j = 0; j < knob->value_count; j++)
                terms[count++] = setting->value[i] == knob->values[j] ? 1.0 : 0.0;
        else
            count += amount_terms(knob, setting->value[i], terms + count);
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

double model_predict(const model_t *model, const setting_t *setting)
{
    double terms[MODEL_TERM_COUNT_MAX];
    double sum = 0.0;
    int32_t count = terms_of(model->space, setting, terms);
    for (int32_t i = 0; i < count && i < model->term_count; i++)
        sum += model->weight[i] * terms[i];
    return sum;
}

void model_scale(model_t *model, double factor)
{
    for (int32_t i = 0; i < model->term_count; i++)
        model->weight[i] *= factor;
}

void model_fit(model_t *model, const space_t *space, const setting_t *settings, const double *costs,
               int32_t count)
{
    static _Thread_local double matrix[MODEL_TERM_COUNT_MAX][MODEL_TERM_COUNT_MAX];
    double terms[MODEL_TERM_COUNT_MAX];
    double square = 0.0;
    memset(matrix, 0, sizeof(matrix));
    *model = (model_t){.space = space};
    for (int32_t sample = 0; sample < count; sample++) {
        double weight = 1.0 / (costs[sample] * costs[sample]);
        model->term_count = terms_of(space, &settings[sample], terms);
        for (int32_t row = 0; row < model->term_count; row++) {
            for (int32_t column = 0; column < model->term_count; column++)
                matrix[row][column] += weight * terms[row] * terms[column];
            model->weight[row] += weight * terms[row] * costs[sample];
        }
    }
    double typical = matrix[0][0] / (count > 0 ? count : 1); /* 1 / cost² */
    for (int32_t i = 0; i < model->term_count; i++)
        matrix[i][i] += typical * (i == 0 ? RIDGE * RIDGE : RIDGE);
    solve(matrix, model->weight, model->term_count);
    for (int32_t sample = 0; sample < count; sample++) {
        double off = model_predict(model, &settings[sample]) / costs[sample] - 1.0;
        square += off * off;
    }
    int32_t free_count = count - model->term_count;
    model->error = free_count > 0 ? sqrt(square / free_count) : (double)INFINITY;
}
