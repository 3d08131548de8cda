/* SPDX-License-Identifier: Apache-2.0 */
/* The phases, one after the other, and the last comparison. */
#include "tune/tune.h"

#include "bench/stats.h"

#include <math.h>
#include <string.h>

/* Measurements of the default at the end when there is nothing to compare it with. */
enum { ALONE_COUNT = 3 };

/* What the searches may take of a time limit, and each of its share before its final rounds. */
enum { SEARCH_SHARE_PERCENT = 85, LOOK_SHARE_PERCENT = 70 };

/* The phase of knobs that change both calls, and that of knobs that change none. */
enum { CALL_BOTH = CALL_COUNT, CALL_NONE };

/* The call of the plan's runs whose time a knob changes: nothing else is measured. A fresh dispatch
 * is moxie_dispatch_routing(); the backward of one call moves rows as the other does. */
static int call_of(const plan_t *plan, uint64_t use)
{
    bool is_expert_major = plan->layout == MOXIE_LAYOUT_EXPERT_MAJOR;
    uint64_t of_other_layout = is_expert_major ? MOXIE_KNOB_RANK_MAJOR : MOXIE_KNOB_EXPERT_MAJOR;
    uint64_t of_other_mode = plan->is_low_latency ? MOXIE_KNOB_STANDARD : MOXIE_KNOB_LOW_LATENCY;
    bool in_routing =
        (use & MOXIE_KNOB_ROUTING_EXPERT_MAJOR) != 0 && is_expert_major && plan->is_fresh;
    bool in_dispatch = (use & MOXIE_KNOB_DISPATCH) != 0 || in_routing;
    bool in_combine = (use & MOXIE_KNOB_COMBINE) != 0;
    if ((use & (of_other_layout | of_other_mode)) != 0)
        return CALL_NONE;
    if ((use & (MOXIE_KNOB_DISPATCH | MOXIE_KNOB_COMBINE | MOXIE_KNOB_UPDATE |
                MOXIE_KNOB_ROUTING_EXPERT_MAJOR)) == 0)
        return CALL_BOTH;
    if (in_combine == in_dispatch)
        return in_combine ? CALL_BOTH : CALL_NONE;
    return in_combine != plan->is_backward ? CALL_COMBINE : CALL_DISPATCH;
}

bool tune_uses_knob(const tune_t *tune, const space_knob_t *knob)
{
    return call_of(tune->trial.plan, knob->use) != CALL_NONE;
}

void tune_plan(tune_t *tune)
{
    static const char *const names[] = {"dispatch", "combine", "exchange"};
    static const int order[] = {CALL_BOTH, CALL_DISPATCH, CALL_COMBINE};
    tune->phase_count = 0;
    for (int i = 0; i < PHASE_COUNT_MAX; i++) {
        phase_t *phase = &tune->phases[tune->phase_count];
        *phase = (phase_t){.name = names[order[i]]};
        phase->has_call[CALL_DISPATCH] = order[i] != CALL_COMBINE;
        phase->has_call[CALL_COMBINE] = order[i] != CALL_DISPATCH;
        for (int32_t j = 0; j < tune->space.knob_count; j++) {
            if (call_of(tune->trial.plan, tune->space.knobs[j].use) != order[i])
                continue;
            phase->knob_of[phase->space.knob_count] = j;
            phase->previous.value[phase->space.knob_count] = tune->previous.value[j];
            phase->space.knobs[phase->space.knob_count++] = tune->space.knobs[j];
        }
        tune->phase_count += phase->space.knob_count > 0;
    }
}

/* The phase's knobs among all. */
static setting_t whole(const phase_t *phase, const setting_t *part)
{
    setting_t setting = phase->base;
    for (int32_t i = 0; i < phase->space.knob_count; i++)
        setting.value[phase->knob_of[i]] = part->value[i];
    return setting;
}

static measured_t measure_at(tune_t *tune, bool is_part, const setting_t *part, double *time_us,
                             char error[SEARCH_ERROR_BYTES])
{
    const phase_t *phase = &tune->phases[tune->phase_at];
    double times_us[CALL_COUNT] = {0.0};
    setting_t setting = whole(phase, part);
    measured_t measured = trial_measure(&tune->trial, is_part, &setting, times_us, error);
    *time_us = 0.0;
    for (int call = 0; call < CALL_COUNT; call++)
        *time_us += phase->has_call[call] ? times_us[call] : 0.0;
    return measured;
}

static measured_t measure(void *ctx, const setting_t *part, double *time_us,
                          char error[SEARCH_ERROR_BYTES])
{
    return measure_at(ctx, false, part, time_us, error);
}

static measured_t measure_part(void *ctx, const setting_t *part, double *time_us,
                               char error[SEARCH_ERROR_BYTES])
{
    return measure_at(ctx, true, part, time_us, error);
}

static double median(const double *values, int32_t count)
{
    double copy[CONFIRM_COUNT];
    memcpy(copy, values, (size_t)count * sizeof(*copy));
    return stats_describe(copy, count).p50;
}

/* A call's time in a turn; CALL_COUNT: of both. */
static double time_in_turn(const confirmed_t *confirmed, int call, int32_t turn)
{
    return call < CALL_COUNT
               ? confirmed->times_us[call][turn]
               : confirmed->times_us[CALL_DISPATCH][turn] + confirmed->times_us[CALL_COMBINE][turn];
}

/* The gain of `ours` over `theirs`, from measurements that were made in turns. Its error is that of
 * a mean: a machine that is sometimes fast and sometimes slow has a large one. */
static void compare(const confirmed_t *ours, confirmed_t *theirs)
{
    double ratios[CONFIRM_COUNT];
    int32_t count = ours->count < theirs->count ? ours->count : theirs->count;
    for (int call = 0; call <= CALL_COUNT && count > 1; call++) {
        double mean = 0.0;
        double square = 0.0;
        for (int32_t i = 0; i < count; i++) {
            ratios[i] = time_in_turn(ours, call, i) / time_in_turn(theirs, call, i);
            mean += ratios[i] / count;
        }
        for (int32_t i = 0; i < count; i++)
            square += (ratios[i] - mean) * (ratios[i] - mean);
        theirs->gain[call] = 1.0 - median(ratios, count);
        theirs->gain_error[call] = sqrt(square / (count - 1) / count);
    }
}

static bool confirm_one(tune_t *tune, confirmed_t *confirmed)
{
    double time_us[CALL_COUNT];
    char error[SEARCH_ERROR_BYTES];
    if (trial_measure(&tune->trial, false, &confirmed->setting, time_us, error) != MEASURED_TIME)
        return false;
    for (int call = 0; call < CALL_COUNT; call++) {
        confirmed->times_us[call][confirmed->count] = time_us[call];
        confirmed->time_us[call] = median(confirmed->times_us[call], confirmed->count + 1);
    }
    confirmed->count++;
    return true;
}

/* Result and default in turns; and what was stored before, where it is something else. */
static bool confirm(tune_t *tune)
{
    bool is_default = space_is_equal(&tune->space, &tune->best, &tune->by_default.setting);
    bool has_before = tune->has_previous &&
                      !space_is_equal(&tune->space, &tune->previous, &tune->best) &&
                      !space_is_equal(&tune->space, &tune->previous, &tune->by_default.setting);
    tune->optimal = (confirmed_t){.setting = tune->best};
    tune->before = (confirmed_t){.setting = tune->previous};
    int32_t turn_count = is_default && !has_before ? ALONE_COUNT : CONFIRM_COUNT;
    for (int32_t i = 0; i < turn_count; i++)
        if (!confirm_one(tune, &tune->by_default) ||
            (!is_default && !confirm_one(tune, &tune->optimal)) ||
            (has_before && !confirm_one(tune, &tune->before)))
            return false;
    if (is_default)
        tune->optimal = tune->by_default;
    compare(&tune->optimal, &tune->by_default);
    compare(&tune->optimal, &tune->before);
    return true;
}

static void keep_default(tune_t *tune, const char *verdict)
{
    tune->verdict = verdict;
    tune->best = tune->by_default.setting;
    tune->optimal = tune->by_default;
    compare(&tune->optimal, &tune->by_default);
    compare(&tune->optimal, &tune->before);
}

/* A call, or with CALL_COUNT both together, takes surely less time than by default. */
static bool is_surely_faster(const tune_t *tune, int call)
{
    double gain = tune->by_default.gain[call];
    return gain > SEARCH_GAIN_MIN && gain > 2.0 * tune->by_default.gain_error[call];
}

/* The default for the knobs of a phase that change one call alone, which then takes the default's
 * time. */
static void drop_phase(tune_t *tune, const phase_t *phase, int call)
{
    for (int32_t i = 0; i < phase->space.knob_count; i++) {
        int32_t knob = phase->knob_of[i];
        tune->best.value[knob] = tune->by_default.setting.value[knob];
    }
    tune->optimal.setting = tune->best;
    tune->optimal.time_us[call] = tune->by_default.time_us[call];
    memcpy(tune->optimal.times_us[call], tune->by_default.times_us[call],
           sizeof(tune->optimal.times_us[call]));
    compare(&tune->optimal, &tune->by_default);
    compare(&tune->optimal, &tune->before);
}

/* What is not surely faster in the last comparison is not used: each call is judged by its own time
 * where its knobs change no other, and else both together. */
static void decide(tune_t *tune)
{
    bool judges_both = false;
    for (int32_t i = 0; i < tune->phase_count; i++) {
        const phase_t *phase = &tune->phases[i];
        int call = phase->has_call[CALL_DISPATCH] ? CALL_DISPATCH : CALL_COMBINE;
        bool has_both = phase->has_call[CALL_DISPATCH] && phase->has_call[CALL_COMBINE];
        judges_both |= has_both;
        if (!has_both && !is_surely_faster(tune, call))
            drop_phase(tune, phase, call);
    }
    if (space_is_equal(&tune->space, &tune->best, &tune->by_default.setting))
        tune->verdict = "the default is kept: nothing is surely faster";
    else if (!judges_both || is_surely_faster(tune, CALL_COUNT))
        tune->verdict = "faster than the default";
    else
        keep_default(tune, "the default is kept: what seemed faster is not surely so");
}

/* The phases share the time that the limit leaves beside the last comparison; in each some is kept
 * for the final rounds and the smaller size. */
static void set_deadline(tune_t *tune, int64_t start_ms)
{
    int64_t searches_ms = tune->time_limit_s * SEARCH_SHARE_PERCENT * 10;
    int64_t now_ms = link_now_ms();
    if (searches_ms == 0)
        return;
    tune->trial.deadline_ms = start_ms + searches_ms * (tune->phase_at + 1) / tune->phase_count;
    tune->late_ms = now_ms + (tune->trial.deadline_ms - now_ms) * LOOK_SHARE_PERCENT / 100;
}

static bool is_late(void *ctx)
{
    const tune_t *tune = ctx;
    return tune->late_ms > 0 && link_now_ms() >= tune->late_ms;
}

/* Searches in a phase, then looks at the smaller size. */
static bool run_phase(tune_t *tune, phase_t *phase, failure_t *failure)
{
    phase->base = tune->best;
    phase->search = (search_t){.space = &phase->space,
                               .mode = tune->mode,
                               .measure = measure,
                               .is_late = is_late,
                               .ctx = tune,
                               .previous = tune->has_previous ? &phase->previous : NULL};
    if (!search_run(&phase->search, failure))
        return false;
    memcpy(phase->slope.mb, tune->mb, sizeof(tune->mb));
    if (!phase->search.is_stopped && tune->trial.part != NULL)
        (void)slope_find(&phase->search, measure_part, tune, &phase->slope);
    tune->noise = fmax(tune->noise, phase->search.noise);
    tune->best = whole(phase, &phase->search.candidates[phase->search.best_index].setting);
    tune->is_stopped = tune->trial.stop.exit_code != EXIT_DONE;
    tune->is_out_of_time |= phase->search.is_cut || (phase->search.is_stopped && !tune->is_stopped);
    return true;
}

bool tune_run(tune_t *tune, failure_t *failure)
{
    int64_t start_ms = link_now_ms();
    tune->best = space_default(&tune->space);
    tune->by_default = (confirmed_t){.setting = tune->best};
    tune->verdict = "stopped before the end";
    for (int32_t i = 0; i < tune->phase_count; i++) {
        tune->phase_at = i;
        set_deadline(tune, start_ms);
        if (!run_phase(tune, &tune->phases[i], failure))
            return false;
        if (tune->is_stopped)
            return true;
    }
    tune->phase_at = tune->phase_count;
    tune->trial.deadline_ms = 0;
    bool is_confirmed = confirm(tune);
    tune->is_stopped = tune->trial.stop.exit_code != EXIT_DONE;
    if (is_confirmed)
        decide(tune);
    else if (!tune->is_stopped)
        keep_default(tune, "the default is kept: a setting failed when measured again");
    return true;
}

void tune_release(tune_t *tune)
{
    for (int32_t i = 0; i < tune->phase_count; i++)
        search_release(&tune->phases[i].search);
    trial_close(&tune->trial);
}
