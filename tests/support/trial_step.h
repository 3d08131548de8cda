/* SPDX-License-Identifier: Apache-2.0 */
/* What trial.c and trial_step.c share. */
#ifndef SUPPORT_TRIAL_STEP_H
#define SUPPORT_TRIAL_STEP_H

#include "support/trial.h"

/* True when `status` is MOXIE_OK. */
/* Gives the route a routing of another variant, and then makes the call with that of the scenario,
 * which is overwritten as soon as may be. The status is that of the last call made. */
moxie_status_t trial_call_dispatch_routing(trial_t *trial, const moxie_dispatch_in_t *in,
                                           const moxie_dispatch_out_t *out);

bool trial_expect(trial_t *trial, const char *what, moxie_status_t status);

/* Compares what the route says of rows that came with what must have come. */
bool trial_check_rows(trial_t *trial);

/* The buffers of each call. */
void trial_plan_dispatch(const trial_t *trial, arena_t *arena);
void trial_plan_d_y(const trial_t *trial, arena_t *arena);
void trial_plan_y(const trial_t *trial, arena_t *arena);
void trial_plan_d_recv(const trial_t *trial, arena_t *arena);

/* The floating-point modes of the caller, around a call. */
typedef struct trial_fenv {
    int rounding;
    unsigned control; /* MXCSR */
} trial_fenv_t;

/* Rounding upward and flushing subnormals, when the scenario wants it. */
trial_fenv_t trial_fenv_enter(const trial_t *trial);

/* Restores the modes; false when the call had not left them as it found them. */
bool trial_fenv_leave(trial_t *trial, trial_fenv_t saved);

#endif
