/* SPDX-License-Identifier: Apache-2.0 */
/* What a search may choose from: some values of every knob. */
#ifndef MOXIE_TUNE_SPACE_H
#define MOXIE_TUNE_SPACE_H

#include "bench/failure.h"

#include <stdbool.h>
#include <stdint.h>

enum { SPACE_KNOB_COUNT_MAX = 16, SPACE_VALUE_COUNT_MAX = 64, SPACE_NAME_BYTES = 32 };

/* A knob as its backend describes it, and the values that are tried, ascending. */
typedef struct space_knob {
    char name[SPACE_NAME_BYTES];
    char help[128];
    int64_t value_default;
    int64_t value_min;
    int64_t value_max;
    int64_t values[SPACE_VALUE_COUNT_MAX];
    int32_t value_count;
    uint64_t use;   /* MOXIE_KNOB_… */
    bool is_choice; /* a few values without an order, as kinds of kernels */
} space_knob_t;

typedef struct space {
    space_knob_t knobs[SPACE_KNOB_COUNT_MAX];
    int32_t knob_count;
} space_t;

/* A value for every knob. */
typedef struct setting {
    int64_t value[SPACE_KNOB_COUNT_MAX];
} setting_t;

/* Gives a described knob the values that are tried when nobody says which: from the default in both
 * directions by a factor, finer where the range is small, and both ends of a small range. Where 0
 * is no amount, 0 and from the largest down. */
void space_knob_spread(space_knob_t *knob);

/* The index of the first value that is an amount: a 0 by which the library chooses is none. */
int32_t space_first_amount(const space_knob_t *knob);

/*
 * Reads the values that a person wants tried: "16,24,32", "4:32:2" (from, to, step), or a mixture.
 * `where` names the flag.
 */
bool space_knob_parse(space_knob_t *knob, const char *text, const char *where, failure_t *failure);

/* Every knob's default. */
setting_t space_default(const space_t *space);

bool space_is_equal(const space_t *space, const setting_t *one, const setting_t *other);

/* Settings in all. */
int64_t space_count(const space_t *space);

/* The setting with a number in [0, space_count()). */
setting_t space_at(const space_t *space, int64_t index);

/* "sms=24 combine_sms=40". */
const char *space_text(const space_t *space, const setting_t *setting, char *text, size_t bytes);

#endif
