/* SPDX-License-Identifier: Apache-2.0 */
/* Proposals from the space alone, and from a model. */
#include "tune/propose.h"

#include "moxie/group.h"

#include <math.h>
#include <stdlib.h>

/* Spaces up to this size are looked through as a whole. */
enum { LOOK_COUNT_MAX = SEARCH_GRID_MAX };

static bool is_known(const search_t *search, const setting_t *setting)
{
    for (int32_t i = 0; i < search->candidate_count; i++)
        if (space_is_equal(search->space, &search->candidates[i].setting, setting))
            return true;
    return false;
}

static int32_t add_probe(search_t *search, const setting_t *setting, int32_t *out, int32_t count,
                         int32_t count_max)
{
    int32_t before = search->candidate_count;
    if (count >= count_max)
        return count;
    int32_t index = search_add(search, setting);
    if (index >= before)
        out[count++] = index;
    return count;
}

int32_t propose_corners(const space_t *space, setting_t *out)
{
    int32_t count = 0;
    out[count++] = space_default(space);
    for (int32_t i = 0; i < space->knob_count; i++) {
        const space_knob_t *knob = &space->knobs[i];
        bool is_chosen = (knob->use & MOXIE_KNOB_ZERO_CHOOSES) != 0;
        int32_t first = space_first_amount(knob);
        int32_t step = knob->value_count - 1 - first;
        step = knob->is_choice || step < 1 ? 1 : is_chosen && step > 1 ? step / 2 : step;
        for (int32_t j = first; j < knob->value_count && count < PROPOSE_PROBE_MAX; j += step) {
            bool is_last = !knob->is_choice && j + step >= knob->value_count;
            int64_t value = knob->values[is_last ? knob->value_count - 1 : j];
            out[count] = out[0];
            out[count].value[i] = value;
            count += value != knob->value_default;
        }
    }
    return count;
}

int32_t propose_probes(search_t *search, int32_t *out, int32_t count_max)
{
    setting_t corners[PROPOSE_PROBE_MAX];
    int32_t corner_count = propose_corners(search->space, corners);
    int32_t count = 0;
    count_max = count_max < PROPOSE_PROBE_MAX ? count_max : PROPOSE_PROBE_MAX;
    if (search->previous_index > 0 && count < count_max)
        out[count++] = search->previous_index;
    for (int32_t i = 1; i < corner_count; i++)
        count = add_probe(search, &corners[i], out, count, count_max);
    return count;
}

bool propose_fit(const search_t *search, model_t *model)
{
    size_t room = (size_t)search->candidate_count;
    setting_t *settings = malloc(room * sizeof(*settings));
    double *costs = malloc(room * sizeof(*costs));
    int32_t count = 0;
    bool has_room = settings != NULL && costs != NULL;
    for (int32_t i = 0; has_room && i < search->candidate_count; i++) {
        const candidate_t *candidate = &search->candidates[i];
        if (candidate->count == 0 || candidate->error[0] != '\0')
            continue;
        settings[count] = candidate->setting;
        costs[count++] = search_ratio(candidate);
    }
    if (has_room)
        model_fit(model, search->space, settings, costs, count);
    free(settings);
    free(costs);
    return has_room;
}

/* The fastest candidate so far, which may be the default. */
static int32_t fastest_of(const search_t *search)
{
    int32_t fastest = 0;
    for (int32_t i = 1; i < search->candidate_count; i++)
        if (search->candidates[i].count > 0 && search->candidates[i].error[0] == '\0' &&
            search_ratio(&search->candidates[i]) < search_ratio(&search->candidates[fastest]))
            fastest = i;
    return fastest;
}

/* A value that failed alone fails with others, too, so settings with it are not proposed. */
static bool is_hopeless(const search_t *search, const setting_t *setting)
{
    const space_t *space = search->space;
    for (int32_t i = 0; i < space->knob_count; i++) {
        setting_t alone = space_default(space);
        alone.value[i] = setting->value[i];
        for (int32_t j = 1; j < search->candidate_count; j++)
            if (search->candidates[j].error[0] != '\0' &&
                space_is_equal(space, &search->candidates[j].setting, &alone))
                return true;
    }
    return false;
}

/* Keeps the setting with the lowest prediction. */
typedef struct choice {
    setting_t setting;
    double predicted;
    bool is_made;
} choice_t;

static void offer(const search_t *search, const model_t *model, const setting_t *setting,
                  choice_t *choice)
{
    double predicted = model_predict(model, setting);
    if ((choice->is_made && predicted >= choice->predicted) || is_known(search, setting) ||
        is_hopeless(search, setting))
        return;
    *choice = (choice_t){*setting, predicted, true};
}

/* Where the value lies in the list, or would. */
static int32_t index_of(const space_knob_t *knob, int64_t value)
{
    int32_t index = 0;
    while (index + 1 < knob->value_count && knob->values[index] < value)
        index++;
    return index;
}

static void offer_beside(const search_t *search, const model_t *model, int32_t center,
                         choice_t *choice)
{
    const space_t *space = search->space;
    for (int32_t i = 0; i < space->knob_count; i++) {
        const space_knob_t *knob = &space->knobs[i];
        int32_t at = index_of(knob, search->candidates[center].setting.value[i]);
        for (int32_t other = at - 2; other <= at + 2; other++) {
            setting_t setting = search->candidates[center].setting;
            if (other < 0 || other >= knob->value_count)
                continue;
            setting.value[i] = knob->values[other];
            offer(search, model, &setting, choice);
        }
    }
}

static void offer_all(const search_t *search, const model_t *model, choice_t *choice)
{
    int64_t count = space_count(search->space);
    for (int64_t i = 0; i < count && count <= LOOK_COUNT_MAX; i++) {
        setting_t setting = space_at(search->space, i);
        offer(search, model, &setting, choice);
    }
}

int32_t propose_batch(search_t *search, int32_t *out, int32_t count_max)
{
    model_t model;
    int32_t fastest = fastest_of(search);
    int32_t count = 0;
    if (!propose_fit(search, &model))
        return 0;
    while (count < count_max) {
        choice_t choice = {.is_made = false};
        if (count % 2 == 0)
            offer_beside(search, &model, fastest, &choice);
        if (!choice.is_made)
            offer_all(search, &model, &choice);
        int32_t index = choice.is_made ? search_add(search, &choice.setting) : -1;
        if (index < 0)
            break;
        search->candidates[index].predicted_us =
            choice.predicted * search_time_us(&search->candidates[0]);
        out[count++] = index;
    }
    return count;
}

bool propose_spread(search_t *search, int32_t count)
{
    const space_t *space = search->space;
    int32_t quota = (count - 1 + space->knob_count - 1) / space->knob_count;
    for (int32_t turn = 0; turn < quota; turn++) {
        for (int32_t i = 0; i < space->knob_count; i++) {
            const space_knob_t *knob = &space->knobs[i];
            setting_t setting = space_default(space);
            if (search->candidate_count >= count)
                return true;
            int32_t at =
                quota < 2 ? knob->value_count / 2 : turn * (knob->value_count - 1) / (quota - 1);
            setting.value[i] = knob->values[at];
            if (search_add(search, &setting) < 0)
                return false;
        }
    }
    return true;
}
