/* SPDX-License-Identifier: Apache-2.0 */
/* One rank is lost at one point of a group's life, and the others must find out, in time and alike.
 * Every case runs in processes of its own; many run at a time, for most of their time is waiting.
 */
#ifndef FAULT_FAULT_CASE_H
#define FAULT_FAULT_CASE_H

#include "moxie/moxie.h"

#include <stdbool.h>
#include <stddef.h>

/* What every rank calls, in this order; from the update on once a round. */
typedef enum fault_step {
    STEP_CREATE,
    STEP_WINDOW,
    STEP_UPDATE,
    STEP_DISPATCH,
    STEP_COMBINE,
    STEP_DISPATCH_BACKWARD,
    STEP_COMBINE_BACKWARD,
    STEP_LOW_LATENCY_DISPATCH,
    STEP_LOW_LATENCY_REPEAT, /* another dispatch right behind it */
    STEP_LOW_LATENCY_COMBINE,
    STEP_BARRIER,
    STEP_COUNT,
} fault_step_t;

typedef enum fault_action {
    ACTION_KILL,
    ACTION_STOP,
    ACTION_ABSENT,        /* the rank stays alive and never makes the call */
    ACTION_ABSENT_THREAD, /* the same, ranks as threads of one process */
    ACTION_COUNT,
} fault_action_t;

typedef struct fault_case {
    fault_step_t step;
    const char *phase; /* where in the step, as in MOXIE_FAULT; "" when it is not called at all */
    fault_action_t action;
    int32_t rank;       /* the culprit */
    int32_t rank_count; /* 2 … FAULT_RANK_COUNT_MAX */
    int32_t round;      /* from 2: the first operation of a group has a deadline of its own */
} fault_case_t;

#define FAULT_RANK_COUNT_MAX 5

/* The phases of a step where a rank can be killed or stopped; NULL behind the last one. */
const char *const *fault_phases(fault_step_t step);

/*
 * Runs all cases, some at a time; a case that only took too long may do so once, for machines are
 * busy. Prints what went wrong and a summary. Returns how many failed.
 */
int fault_run(const fault_case_t *cases, size_t case_count);

#endif
