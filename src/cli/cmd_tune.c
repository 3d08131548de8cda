/* SPDX-License-Identifier: Apache-2.0 */
/* moxie tune: plan, search, files, database. */
#include "bench/device.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "bench/stopping.h"
#include "bench/tuned.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/tune_files.h"
#include "cli/tune_flags.h"
#include "tune/database.h"
#include "tune/results.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* The model's smaller size: so many times fewer tokens. */
enum { PART_DIVISOR = 8 };

/* Where files go when nobody says. */
static const char default_folder[] = "tuning";

/* A run of the command. */
typedef struct job {
    const tune_flags_t *flags;
    plan_t plan;
    plan_t part; /* for the model's smaller size */
    tune_t tune;
    settings_key_t key;
    database_t database;
    tune_files_t files;
    json_t *setup;
    json_t *results;
} job_t;

static void tell_progress(void *ctx)
{
    const tune_t *tune = ctx;
    char what[64];
    const phase_t *phase = &tune->phases[tune->phase_at];
    bool is_last = tune->phase_at >= tune->phase_count;
    (void)snprintf(what, sizeof(what), "tuning %s", is_last ? "(comparing)" : phase->name);
    progress_draw(what, is_last ? 1 : phase->search.measurement_count,
                  is_last ? 1 : phase->search.measurement_count_max);
}

/* The setting that is stored for exactly this. */
static bool find_previous(job_t *job, failure_t *failure)
{
    settings_entry_t entry;
    tune_t *tune = &job->tune;
    if (job->database.connection == NULL)
        return true;
    tune->has_previous = database_find(&job->database, &job->key, &entry, failure);
    for (int32_t i = 0; i < tune->space.knob_count && tune->has_previous; i++) {
        const space_knob_t *knob = &tune->space.knobs[i];
        bool is_there = false;
        for (int32_t j = 0; j < entry.knob_count; j++) {
            if (strcmp(entry.knobs[j].name, knob->name) != 0)
                continue;
            tune->previous.value[i] = entry.knobs[j].value;
            is_there =
                entry.knobs[j].value >= knob->value_min && entry.knobs[j].value <= knob->value_max;
        }
        tune->has_previous = is_there; /* of a version with other knobs */
    }
    return failure->exit_code == EXIT_DONE;
}

/* Values of a knob that would all measure the same, and a plan in which every knob's would. */
static bool check_knobs(const job_t *job, failure_t *failure)
{
    const space_t *space = &job->tune.space;
    int32_t used_count = 0;
    for (int32_t i = 0; i < space->knob_count; i++) {
        const space_knob_t *knob = &space->knobs[i];
        bool is_used = tune_uses_knob(&job->tune, knob);
        used_count += is_used;
        for (int32_t j = 0; j < job->flags->value_count && !is_used; j++)
            if (strcmp(knob->name, job->flags->values[j].name) == 0)
                return failure_set(failure, EXIT_USAGE,
                                   "%s: changes nothing in mode %s with %s (layout, direction, "
                                   "route, launch, dtype)",
                                   job->flags->values[j].flag, job->key.mode, job->key.variant);
    }
    return used_count > 0 ||
           failure_set(failure, EXIT_USAGE,
                       "no knob of backend %s changes anything in mode %s with %s (layout, "
                       "direction, route, launch, dtype)",
                       job->key.backend, job->key.mode, job->key.variant);
}

static bool open_store(job_t *job, failure_t *failure)
{
    char folder[PATH_MAX];
    if (job->flags->store == NULL && !settings_folder(folder, sizeof(folder))) {
        (void)fprintf(stderr, "moxie tune: MOXIE_TUNING is off, so nothing will be stored\n");
        return true;
    }
    return database_open(&job->database, job->flags->store, failure) && find_previous(job, failure);
}

/* A few tokens have no smaller size worth the name. */
static bool make_part(job_t *job, failure_t *failure)
{
    settings_key_t key;
    if (job->plan.token_count_max < 2 * PART_DIVISOR)
        return true;
    if (!plan_make_part(&job->part, &job->plan, PART_DIVISOR, failure))
        return false;
    job->tune.trial.part = &job->part;
    tuned_key(&job->part, &key);
    job->tune.mb[SIZE_PART] = settings_mb(&key);
    job->tune.mb[SIZE_WHOLE] = settings_mb(&job->key);
    return true;
}

/* Everything that can be refused, before anything is measured. */
static bool prepare(job_t *job, const launcher_t *launcher, failure_t *failure)
{
    const options_t *options = &job->flags->options;
    tune_t *tune = &job->tune;
    char stem[64];
    if (launcher->name != NULL)
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "it starts its ranks itself, and does not run under %s", launcher->name);
    tune->mode = job->flags->mode;
    tune->time_limit_s = job->flags->time_limit_s;
    if (!plan_make(&job->plan, options, launcher, failure))
        return false;
    tuned_key(&job->plan, &job->key);
    tune->trial.plan = &job->plan;
    if (!make_part(job, failure) ||
        !trial_look(&job->plan, &tune->space, job->key.machine, failure) ||
        !tune_flags_apply(job->flags, job->plan.place.backend, &tune->space, failure) ||
        !check_knobs(job, failure) || !open_store(job, failure))
        return false;
    tune->trial.space = &tune->space;
    tune->trial.tell = progress_is_visible() ? tell_progress : NULL;
    tune->trial.tell_ctx = tune;
    tune_plan(tune);
    job->setup = results_setup(tune, &job->key);
    (void)snprintf(stem, sizeof(stem), "ep%d_%s", job->plan.rank_count,
                   results_mode_name(tune->mode));
    return tune_files_open(&job->files,
                           options->output_dir == NULL ? default_folder : options->output_dir, stem,
                           job->setup, job->flags->is_resumed, failure) &&
           trial_open(&tune->trial, job->files.log_path, job->setup, job->flags->is_resumed,
                      failure);
}

/* The lines of all phases; one that found none has none. */
static void add_models(const tune_t *tune, settings_entry_t *entry)
{
    double error = 0.0;
    for (int32_t i = 0; i < tune->phase_count; i++) {
        const slope_t *slope = &tune->phases[i].slope;
        for (int32_t j = 0; j < slope->line_count; j++)
            entry->models[entry->model_count++] = slope->lines[j];
        error = fmax(error, slope->line_count > 0 ? slope->error : 0.0);
    }
    entry->model_error = llround(1000.0 * error);
}

static bool store(job_t *job, failure_t *failure)
{
    const tune_t *tune = &job->tune;
    settings_entry_t entry = {.key = job->key, .knob_count = tune->space.knob_count};
    if (job->database.connection == NULL)
        return true;
    for (int32_t i = 0; i < tune->space.knob_count; i++) {
        (void)snprintf(entry.knobs[i].name, sizeof(entry.knobs[i].name), "%s",
                       tune->space.knobs[i].name);
        entry.knobs[i].value = tune->best.value[i];
    }
    add_models(tune, &entry);
    json_t *summary = results_summary(job->results);
    bool is_stored = database_put(&job->database, &entry, summary, failure);
    json_decref(summary);
    return is_stored;
}

static void print_results(const job_t *job, bool is_stored)
{
    if (job->flags->options.json) {
        (void)record_write(job->results, stdout);
        return;
    }
    results_print(job->results, job->flags->explains, stdout);
    (void)printf("files     are in %s\n", job->files.folder);
    if (is_stored && job->database.connection != NULL)
        (void)printf("stored    in %s\n", job->database.path);
}

/* A stopped run leaves its log and what it found so far; it stores nothing. A run that could not
 * store what it found can be resumed, too: then nothing is measured again. */
static bool finish(job_t *job, failure_t *failure)
{
    tune_t *tune = &job->tune;
    progress_clear();
    job->results = results_json(tune, job->setup, job->files.stamp);
    if (job->results == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory for the results");
    if (!tune_files_write(&job->files, job->results, failure))
        return false;
    bool is_stored = !tune->is_stopped && store(job, failure);
    print_results(job, is_stored);
    if (is_stored) {
        trial_finish(&tune->trial);
        return true;
    }
    if (tune->is_stopped)
        *failure = tune->trial.stop;
    (void)snprintf(failure->sentence + strlen(failure->sentence),
                   sizeof(failure->sentence) - strlen(failure->sentence),
                   "; what was measured is kept, and --resume goes on");
    return false;
}

static void release(job_t *job)
{
    tune_release(&job->tune);
    database_close(&job->database);
    plan_release(&job->part);
    plan_release(&job->plan);
    json_decref(job->setup);
    json_decref(job->results);
}

static bool is_about_database(const char *word)
{
    static const char *const words[] = {"list", "show", "export", "import", "forget"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i], word) == 0)
            return true;
    return false;
}

int cmd_tune(int argc, char **argv)
{
    static tune_flags_t flags;
    static job_t job;
    launcher_t launcher;
    failure_t failure = {.exit_code = EXIT_DONE};
    sigset_t stopping;
    if (argc > 1 && is_about_database(argv[1]))
        return cmd_tuning(argc, argv);
    device_prepare();
    if (!options_init(&flags.options))
        return EXIT_FAILED;
    job.flags = &flags;
    stop_signals(&stopping); /* between two runs they wait for the next one, which looks */
    (void)sigprocmask(SIG_BLOCK, &stopping, NULL);
    bool is_done = launcher_find(&launcher, &failure) &&
                   tune_flags_read(&flags, argc, argv, &failure) &&
                   (flags.options.config == NULL || config_read(&flags.options, &failure)) &&
                   prepare(&job, &launcher, &failure) && tune_run(&job.tune, &failure) &&
                   finish(&job, &failure);
    release(&job);
    options_release(&flags.options);
    if (!is_done && failure.sentence[0] != '\0')
        (void)cli_fail(argv[0], &failure);
    (void)fflush(stdout);
    if (failure.signal != 0) {
        (void)signal(failure.signal, SIG_DFL);
        (void)raise(failure.signal);
    }
    (void)sigprocmask(SIG_UNBLOCK, &stopping, NULL);
    return failure.exit_code;
}
