/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures one setting: a run of the benchmark with a new group and outputs that are verified the
 * first time, so that nothing of one setting is left for the next; after a setting that failed with
 * new processes, too. Every measurement is written to a log at once, one JSON object a line; a
 * later run can go on with a log where it ended.
 */
#ifndef MOXIE_TUNE_TRIAL_H
#define MOXIE_TUNE_TRIAL_H

#include "bench/launch.h"
#include "tune/search.h"

#include <jansson.h>
#include <limits.h>

/* The two calls. */
enum { CALL_DISPATCH, CALL_COMBINE, CALL_COUNT };

/* A measurement, now or from a log. */
typedef struct outcome {
    setting_t setting;
    bool is_part;                   /* of the smaller plan */
    double time_us[CALL_COUNT];     /* of the slowest rank, median over iterations */
    char error[SEARCH_ERROR_BYTES]; /* "": none */
    bool is_used;                   /* of a log: it has been asked for */
} outcome_t;

typedef struct trial {
    plan_t *plan;
    plan_t *part;         /* the same with fewer tokens; NULL: none */
    const space_t *space; /* all knobs of the backend */
    launch_t *launch;     /* the ranks; NULL: not started, or of no more use */
    char log_path[PATH_MAX];
    FILE *log;
    outcome_t *outcomes;
    int64_t outcome_count;
    int64_t outcome_capacity;
    int64_t logged_count; /* the first so many came from a log */
    int64_t run_count;    /* measured by this process */
    int64_t deadline_ms;  /* of link_now_ms(): nothing new is measured afterwards; 0: none */
    double logical_bytes[CALL_COUNT];
    double wire_bytes[CALL_COUNT];
    failure_t stop;          /* why there are no more measurements; exit code 0: there may be */
    void (*tell)(void *ctx); /* after each measurement; NULL: nobody wants to know */
    void *tell_ctx;
} trial_t;

/* Finds out which knobs the plan's backend has, with values that are tried, and how the machine is
 * called in the store. In a process of its own. */
bool trial_look(const plan_t *plan, space_t *space, char machine[], failure_t *failure);

/* Opens a new log that begins with `setup`, or, with `resumed_path`, goes on with one. */
bool trial_open(trial_t *trial, const char *path, const json_t *setup, bool is_resumed,
                failure_t *failure);

/* Whether a log is there that a run with this setup can go on with. */
bool trial_can_resume(const char *path, const json_t *setup);

/* Ends the log: it is complete. */
void trial_finish(trial_t *trial);

void trial_close(trial_t *trial);

/* Measures a setting of all knobs with the plan or its part, or takes what the log has of it. */
measured_t trial_measure(trial_t *trial, bool is_part, const setting_t *setting,
                         double time_us[CALL_COUNT], char error[SEARCH_ERROR_BYTES]);

/* {"sms":24,…}; a new reference. */
json_t *trial_setting_json(const space_t *space, const setting_t *setting);

#endif
