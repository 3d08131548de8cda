/* SPDX-License-Identifier: Apache-2.0 */
/* Runs, and the log of what they gave. */
#include "tune/trial.h"

#include "bench/aside.h"
#include "bench/file.h"
#include "store/machine_key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A log is small; anything larger is something else. */
#define LOG_BYTES_MAX ((size_t)64 << 20)

static const char *const call_names[CALL_COUNT] = {"dispatch", "combine"};

/* What the other process finds out. */
typedef struct look {
    space_t space;
    char machine[MACHINE_KEY_BYTES];
    char reason[256]; /* "": it worked */
} look_t;

static void look(const void *in, void *out)
{
    look_t *look = out;
    const plan_t *plan = in;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    moxie_knob_info_t info = MOXIE_KNOB_INFO_INIT;
    moxie_group_t *group = NULL;
    options.rank_count = 1;
    options.backend = plan->place.backend;
    if (moxie_group_create(&options, &group) != MOXIE_OK) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        (void)moxie_last_error(&error);
        (void)snprintf(look->reason, sizeof(look->reason), "%.255s", error.message);
        return;
    }
    for (size_t i = 0; i < SPACE_KNOB_COUNT_MAX && moxie_group_knob(group, i, &info) == MOXIE_OK;
         i++) {
        space_knob_t *knob = &look->space.knobs[look->space.knob_count++];
        (void)snprintf(knob->name, sizeof(knob->name), "%s", info.name);
        (void)snprintf(knob->help, sizeof(knob->help), "%s", info.help);
        knob->value_default = info.value_default;
        knob->value_min = info.value_min;
        knob->value_max = info.value_max;
        knob->use = info.use;
        space_knob_spread(knob);
    }
    moxie_group_destroy(group);
    machine_key(plan->place.backend, look->machine);
}

bool trial_look(const plan_t *plan, space_t *space, char machine[], failure_t *failure)
{
    look_t found = {.reason = ""};
    if (!aside_run(look, plan, &found, sizeof(found)))
        return failure_set(failure, EXIT_FAILED, "the backend's knobs could not be read");
    if (found.reason[0] != '\0')
        return failure_set(failure, EXIT_USAGE, "the backend's knobs: %s", found.reason);
    *space = found.space;
    memcpy(machine, found.machine, sizeof(found.machine));
    return true;
}

json_t *trial_setting_json(const space_t *space, const setting_t *setting)
{
    json_t *json = json_object();
    for (int32_t i = 0; i < space->knob_count; i++)
        json_object_set_new(json, space->knobs[i].name, json_integer(setting->value[i]));
    return json;
}

/* Writes a line and frees the document. A log that cannot be written ends the run. */
static void write_line(trial_t *trial, json_t *document)
{
    if (json_dumpf(document, trial->log, JSON_COMPACT | JSON_REAL_PRECISION(17)) != 0 ||
        fputc('\n', trial->log) == EOF || fflush(trial->log) != 0)
        failure_set(&trial->stop, EXIT_FAILED, "%s: cannot be written: %s", trial->log_path,
                    strerror(errno));
    json_decref(document);
}

static outcome_t *add_outcome(trial_t *trial, bool is_part, const setting_t *setting)
{
    if (trial->outcome_count == trial->outcome_capacity) {
        int64_t capacity = 2 * trial->outcome_capacity + 64;
        outcome_t *grown = realloc(trial->outcomes, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            failure_set(&trial->stop, EXIT_FAILED, "not enough memory for the measurements");
            return NULL;
        }
        trial->outcomes = grown;
        trial->outcome_capacity = capacity;
    }
    outcome_t *outcome = &trial->outcomes[trial->outcome_count++];
    *outcome = (outcome_t){.setting = *setting, .is_part = is_part, .is_used = true};
    return outcome;
}

/* Reads one line of a log; lines that are none, as a last one that was cut, are passed over. */
static void take_logged(trial_t *trial, const json_t *line)
{
    const json_t *values = json_object_get(line, "setting");
    const json_t *error = json_object_get(line, "error");
    setting_t setting = {{0}};
    if (!json_is_object(values))
        return;
    for (int32_t i = 0; i < trial->space->knob_count; i++) {
        const json_t *value = json_object_get(values, trial->space->knobs[i].name);
        if (!json_is_integer(value))
            return;
        setting.value[i] = json_integer_value(value);
    }
    bool is_part = json_is_true(json_object_get(line, "part"));
    outcome_t *outcome = add_outcome(trial, is_part, &setting);
    if (outcome == NULL)
        return;
    outcome->is_used = false;
    for (int call = 0; call < CALL_COUNT; call++) {
        const json_t *figures = json_object_get(line, call_names[call]);
        outcome->time_us[call] = json_number_value(json_object_get(figures, "time_us"));
        if (!json_is_string(error) && !is_part) {
            trial->logical_bytes[call] =
                json_number_value(json_object_get(figures, "logical_bytes"));
            trial->wire_bytes[call] = json_number_value(json_object_get(figures, "wire_bytes"));
        }
    }
    if (json_is_string(error))
        (void)snprintf(outcome->error, sizeof(outcome->error), "%s", json_string_value(error));
}

/* Calls take() with every line that is JSON; the number of lines. */
static void each_line(const char *path, void (*take)(void *ctx, const json_t *line), void *ctx)
{
    file_bytes_t file;
    failure_t unused;
    char *rest = NULL;
    if (!file_read(path, "log", LOG_BYTES_MAX, &file, &unused))
        return;
    for (char *line = strtok_r(file.bytes, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        json_t *document = json_loads(line, 0, NULL);
        if (document != NULL)
            take(ctx, document);
        json_decref(document);
    }
    file_release(&file);
}

/* Whether a log is of the same setup and not complete. */
typedef struct match {
    const json_t *setup;
    bool is_same;
    bool is_complete;
} match_t;

static void look_at_line(void *ctx, const json_t *line)
{
    match_t *match = ctx;
    const json_t *setup = json_object_get(line, "setup");
    match->is_same |= setup != NULL && json_equal(setup, match->setup);
    match->is_complete |= json_object_get(line, "complete") != NULL;
}

bool trial_can_resume(const char *path, const json_t *setup)
{
    match_t match = {.setup = setup};
    each_line(path, look_at_line, &match);
    return match.is_same && !match.is_complete;
}

static void take_line(void *ctx, const json_t *line)
{
    take_logged(ctx, line);
}

bool trial_open(trial_t *trial, const char *path, const json_t *setup, bool is_resumed,
                failure_t *failure)
{
    (void)snprintf(trial->log_path, sizeof(trial->log_path), "%s", path);
    if (is_resumed)
        each_line(path, take_line, trial);
    trial->logged_count = trial->outcome_count;
    trial->log = fopen(path, "ae");
    if (trial->log == NULL)
        return failure_set(failure, EXIT_USAGE, "%s: cannot be written: %s", path, strerror(errno));
    if (is_resumed)
        (void)fputc('\n', trial->log); /* the last line may have been cut */
    else
        write_line(trial, json_pack("{s:s,s:O}", "schema", "moxie.tune.log/1", "setup", setup));
    if (trial->stop.exit_code != EXIT_DONE)
        *failure = trial->stop;
    return trial->stop.exit_code == EXIT_DONE;
}

void trial_finish(trial_t *trial)
{
    write_line(trial, json_pack("{s:b}", "complete", 1));
}

void trial_close(trial_t *trial)
{
    launch_close(trial->launch);
    if (trial->log != NULL)
        (void)fclose(trial->log);
    free(trial->outcomes);
    *trial = (trial_t){.plan = NULL};
}

static const outcome_t *find_logged(trial_t *trial, bool is_part, const setting_t *setting)
{
    for (int64_t i = 0; i < trial->logged_count; i++) {
        outcome_t *outcome = &trial->outcomes[i];
        if (!outcome->is_used && outcome->is_part == is_part &&
            space_is_equal(trial->space, &outcome->setting, setting)) {
            outcome->is_used = true;
            return outcome;
        }
    }
    return NULL;
}

static void log_outcome(trial_t *trial, const outcome_t *outcome)
{
    json_t *line = json_object();
    json_object_set_new(line, "setting", trial_setting_json(trial->space, &outcome->setting));
    json_object_set_new(line, "part", json_boolean(outcome->is_part));
    for (int call = 0; call < CALL_COUNT; call++)
        json_object_set_new(line, call_names[call],
                            json_pack("{s:f,s:f,s:f}", "time_us", outcome->time_us[call],
                                      "logical_bytes", trial->logical_bytes[call], "wire_bytes",
                                      trial->wire_bytes[call]));
    if (outcome->error[0] != '\0')
        json_object_set_new(line, "error", json_string(outcome->error));
    write_line(trial, line);
}

/* Takes the figures out of a run's record. */
static void take_record(trial_t *trial, const json_t *record, outcome_t *outcome)
{
    for (int call = 0; call < CALL_COUNT; call++) {
        const json_t *figures = json_object_get(record, call_names[call]);
        const json_t *time_us = json_object_get(figures, "time_us");
        outcome->time_us[call] = json_number_value(json_object_get(time_us, "p50"));
        if (outcome->is_part)
            continue;
        trial->logical_bytes[call] = json_number_value(json_object_get(figures, "logical_bytes"));
        trial->wire_bytes[call] = json_number_value(json_object_get(figures, "wire_bytes"));
    }
}

/* Whether the same setting has run before: its outputs were verified then. */
static bool is_verified(const trial_t *trial, const outcome_t *outcome)
{
    for (int64_t i = 0; i < trial->outcome_count; i++)
        if (&trial->outcomes[i] != outcome && trial->outcomes[i].error[0] == '\0' &&
            trial->outcomes[i].is_part == outcome->is_part &&
            space_is_equal(trial->space, &trial->outcomes[i].setting, &outcome->setting))
            return true;
    return false;
}

static void run(trial_t *trial, outcome_t *outcome)
{
    moxie_knob_setting_t knobs[SPACE_KNOB_COUNT_MAX];
    run_result_t result = {.record = NULL};
    failure_t failure = {.exit_code = EXIT_DONE};
    for (int32_t i = 0; i < trial->space->knob_count; i++)
        knobs[i] = (moxie_knob_setting_t){trial->space->knobs[i].name, outcome->setting.value[i]};
    plan_t *plan = outcome->is_part ? trial->part : trial->plan;
    plan->knobs = knobs;
    plan->knob_count = (size_t)trial->space->knob_count;
    plan->skips_verification = is_verified(trial, outcome);
    if (trial->launch == NULL)
        trial->launch = launch_open(trial->plan, &failure);
    bool is_done = trial->launch != NULL && launch_do(trial->launch, plan, &result, &failure);
    plan->knobs = NULL;
    plan->knob_count = 0;
    if (failure.signal != 0)
        trial->stop = failure;
    else if (!is_done)
        (void)snprintf(outcome->error, sizeof(outcome->error), "%.255s", failure.sentence);
    else if (result.mismatch[0] != '\0')
        (void)snprintf(outcome->error, sizeof(outcome->error), "NOT VERIFIED: %.240s",
                       result.mismatch);
    else
        take_record(trial, result.record, outcome);
    if (!is_done || result.mismatch[0] != '\0') { /* the next one gets new processes */
        launch_close(trial->launch);
        trial->launch = NULL;
    }
    run_result_release(&result);
}

static bool is_out_of_time(const trial_t *trial)
{
    return trial->deadline_ms > 0 && link_now_ms() >= trial->deadline_ms;
}

measured_t trial_measure(trial_t *trial, bool is_part, const setting_t *setting,
                         double time_us[CALL_COUNT], char error[SEARCH_ERROR_BYTES])
{
    if (trial->stop.exit_code != EXIT_DONE)
        return MEASURED_STOP;
    const outcome_t *outcome = find_logged(trial, is_part, setting);
    if (outcome == NULL && is_out_of_time(trial))
        return MEASURED_STOP;
    if (outcome == NULL) {
        outcome_t *measured = add_outcome(trial, is_part, setting);
        if (measured == NULL)
            return MEASURED_STOP;
        run(trial, measured);
        if (trial->stop.exit_code != EXIT_DONE) {
            trial->outcome_count--; /* it was cut short */
            return MEASURED_STOP;
        }
        trial->run_count++;
        log_outcome(trial, measured);
        outcome = measured;
    }
    memcpy(time_us, outcome->time_us, sizeof(outcome->time_us));
    (void)snprintf(error, SEARCH_ERROR_BYTES, "%s", outcome->error);
    if (trial->tell != NULL)
        trial->tell(trial->tell_ctx);
    return outcome->error[0] == '\0' ? MEASURED_TIME : MEASURED_ERROR;
}
