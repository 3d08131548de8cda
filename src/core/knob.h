/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Knobs: a backend's tuning parameters, one table each. Environment variables are read here and
 * nowhere else.
 */
#ifndef MOXIE_CORE_KNOB_H
#define MOXIE_CORE_KNOB_H

#include "moxie/group.h"

/* A row of a backend's table. */
typedef struct knob {
    const char *name; /* "spin_count"; the environment variable is MOXIE_SPIN_COUNT */
    const char *help;
    int64_t value_default;
    int64_t value_min;
    int64_t value_max;
    uint64_t use; /* MOXIE_KNOB_…: which calls read it; 0: every call */
} knob_t;

/* Knobs a backend may have at most. */
#define KNOB_COUNT_MAX 16

/* The values in use. */
typedef struct knob_values {
    int64_t value[KNOB_COUNT_MAX];
    const char *from[KNOB_COUNT_MAX]; /* "default", "model", "stored", "environment", "option" */
} knob_values_t;

/* Settings that a tuner left, possibly for another version of the backend. */
typedef struct knob_stored {
    const moxie_knob_setting_t *settings;
    size_t count;
    const char *from; /* "stored"; "model": what its model proposes */
} knob_stored_t;

/*
 * Settles every knob: the caller's settings win over the environment, that over what is stored, and
 * that over the default. What is stored for a knob that there is not, or out of its range, is
 * passed over; the others must make sense.
 */
moxie_status_t knob_resolve(const knob_t *knobs, size_t knob_count, const knob_stored_t *stored,
                            const moxie_knob_setting_t *settings, size_t setting_count,
                            knob_values_t *out);

#endif
