/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `moxie tune`: flags of `moxie bench`, its own, and one for every knob. */
#ifndef MOXIE_CLI_TUNE_FLAGS_H
#define MOXIE_CLI_TUNE_FLAGS_H

#include "bench/options.h"
#include "tune/search.h"

/* Which values of a knob are tried; the knob is looked for when the backend is known. */
typedef struct tune_values {
    char flag[64]; /* as it was given, "--sms" or "--knob sms" */
    char name[SPACE_NAME_BYTES];
    const char *text; /* "16,24"; of the command line */
} tune_values_t;

enum { TUNE_VALUES_COUNT_MAX = 32 };

typedef struct tune_flags {
    options_t options;
    search_mode_t mode;
    const char *store;    /* NULL: where the library looks */
    int64_t time_limit_s; /* 0: none */
    bool is_resumed;
    bool explains;
    tune_values_t values[TUNE_VALUES_COUNT_MAX];
    int32_t value_count;
} tune_flags_t;

/* Reads flags; `options` is initialised. Ends the program for --help, and for flags that there are
 * not. */
bool tune_flags_read(tune_flags_t *flags, int argc, char **argv, failure_t *failure);

/* Gives the knobs the values that flags ask for. */
bool tune_flags_apply(const tune_flags_t *flags, const char *backend, space_t *space,
                      failure_t *failure);

#endif
