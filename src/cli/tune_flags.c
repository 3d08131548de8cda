/* SPDX-License-Identifier: Apache-2.0 */
/* argp for what is known before the backend is; the knobs' flags are taken out before. */
#include "cli/tune_flags.h"

#include "bench/suggest.h"
#include "cli/flags.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_FIRST = 256,
    KEY_MODE = KEY_FIRST + OPTION_COUNT,
    KEY_STORE,
    KEY_TIME_LIMIT,
    KEY_RESUME,
    KEY_EXPLAIN,
    KEY_KNOB
};

/* A month. */
enum { TIME_LIMIT_MAX_S = 31 * 86400 };

/* Flags of `moxie bench` that make no sense here. */
static const option_id_t left_out[] = {OPTION_MODE,      OPTION_RECORD_ROUTING, OPTION_SMS,
                                       OPTION_BASELINE,  OPTION_TRACE,          OPTION_LAYER,
                                       OPTION_OUTPUT_DIR};

static const struct argp_option own_rows[] = {
    {"mode", KEY_MODE, "auto|quick|full|grid", 0,
     "Settings that are looked at: about 6 of each phase (quick), about 16 (full), all (grid), or "
     "what a model of the measurements so far proposes, with at most a quarter of the grid's "
     "measurements (default: auto)",
     1},
    {"knob", KEY_KNOB, "NAME=VALUES", 0,
     "Values of a knob to look at: 16,24 or 4:32:2 (from, to, step). --NAME VALUES is the same. "
     "May be given for several knobs",
     1},
    {"store", KEY_STORE, "DIR", 0,
     "Folder of the tuning database (default: $MOXIE_TUNING, or moxie in $XDG_DATA_HOME)", 1},
    {"time-limit", KEY_TIME_LIMIT, "SECONDS", 0,
     "End the searches so that all takes about so long; the best so far counts", 1},
    {"resume", KEY_RESUME, NULL, 0, "Go on where a run with the same flags was stopped", 1},
    {"explain", KEY_EXPLAIN, NULL, 0,
     "Tell of every setting what the model expected, what was measured, and why it lost", 1},
    {"output-dir", KEY_FIRST + OPTION_OUTPUT_DIR, "DIR", 0,
     "Folder for results/, summary/, logs/ and OPTIMAL_CONFIGS.md (default: tuning)", 1},
    {"num-tokens", KEY_FIRST + OPTION_TOKENS, "T", 0, "The same as --tokens", 2},
    {"num-experts", KEY_FIRST + OPTION_EXPERTS, "E", 0, "The same as --experts", 2},
    {"num-topk", KEY_FIRST + OPTION_TOPK, "K", 0, "The same as --topk", 2},
};

enum { OWN_COUNT = sizeof(own_rows) / sizeof(own_rows[0]) };

typedef struct reading {
    tune_flags_t *flags;
    failure_t *failure;
} reading_t;

static bool is_left_out(option_id_t id)
{
    for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
        if (left_out[i] == id)
            return true;
    return false;
}

static bool take_mode(const reading_t *reading, const char *word)
{
    static const char *const words[] = {"auto", "quick", "full", "grid"};
    for (int mode = SEARCH_AUTO; mode <= SEARCH_GRID; mode++)
        if (strcmp(words[mode], word) == 0) {
            reading->flags->mode = (search_mode_t)mode;
            return true;
        }
    return failure_set(reading->failure, EXIT_USAGE,
                       "--mode: '%.100s' is none of auto|quick|full|grid", word);
}

/* Underscores for dashes. */
static bool add_values(tune_flags_t *flags, const char *prefix, const char *name, size_t length,
                       const char *text, failure_t *failure)
{
    if (flags->value_count == TUNE_VALUES_COUNT_MAX)
        return failure_set(failure, EXIT_USAGE, "more than %d knobs", TUNE_VALUES_COUNT_MAX);
    tune_values_t *values = &flags->values[flags->value_count++];
    values->text = text;
    (void)snprintf(values->name, sizeof(values->name), "%.*s", (int)length, name);
    for (char *c = values->name; *c != '\0'; c++)
        *c = *c == '-' ? '_' : *c;
    (void)snprintf(values->flag, sizeof(values->flag), "%s%.*s", prefix, (int)length, name);
    return true;
}

static bool take_knob(const reading_t *reading, const char *argument)
{
    const char *equals = strchr(argument, '=');
    if (equals == NULL || equals == argument)
        return failure_set(reading->failure, EXIT_USAGE,
                           "--knob: '%.100s' is not NAME=VALUES, as spin_count=20,80", argument);
    return add_values(reading->flags, "--knob ", argument, (size_t)(equals - argument), equals + 1,
                      reading->failure);
}

static bool take_time_limit(const reading_t *reading, const char *text)
{
    char *end = NULL;
    errno = 0;
    reading->flags->time_limit_s = strtoll(text, &end, 10);
    return (end != text && *end == '\0' && errno == 0 && reading->flags->time_limit_s > 0 &&
            reading->flags->time_limit_s <= TIME_LIMIT_MAX_S) ||
           failure_set(reading->failure, EXIT_USAGE,
                       "--time-limit: '%.100s' is no number of seconds from 1 to %d", text,
                       TIME_LIMIT_MAX_S);
}

static bool take_option(const reading_t *reading, option_id_t id, const char *argument)
{
    option_origin_t origin = {ORIGIN_FLAG, 0};
    return argument == NULL
               ? option_set_number(&reading->flags->options, id, origin, 1, reading->failure)
               : option_set_text(&reading->flags->options, id, origin, argument, reading->failure);
}

static error_t take(int key, char *argument, struct argp_state *state)
{
    const reading_t *reading = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is no option, and none of list, show, export, import, forget",
                   argument);
        return EINVAL;
    case KEY_MODE:
        return take_mode(reading, argument) ? 0 : EINVAL;
    case KEY_KNOB:
        return take_knob(reading, argument) ? 0 : EINVAL;
    case KEY_STORE:
        reading->flags->store = argument;
        return argument[0] != '\0' ||
                       failure_set(reading->failure, EXIT_USAGE, "--store: must not be empty")
                   ? 0
                   : EINVAL;
    case KEY_TIME_LIMIT:
        return take_time_limit(reading, argument) ? 0 : EINVAL;
    case KEY_RESUME:
        reading->flags->is_resumed = true;
        return 0;
    case KEY_EXPLAIN:
        reading->flags->explains = true;
        return 0;
    default:
        if (key < KEY_FIRST || key >= KEY_FIRST + OPTION_COUNT)
            return ARGP_ERR_UNKNOWN;
        return take_option(reading, (option_id_t)(key - KEY_FIRST), argument) ? 0 : EINVAL;
    }
}

/* Whether argp knows a flag by this name, or by the beginning of one. */
static bool is_known(const struct argp_option *rows, const char *name, size_t length)
{
    static const char *const always[] = {"help", "usage", "version", "program-name"};
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        if (strncmp(always[i], name, length) == 0)
            return true;
    for (; rows->name != NULL; rows++)
        if (strncmp(rows->name, name, length) == 0)
            return true;
    return false;
}

/* Takes "--NAME VALUES" and "--NAME=VALUES" of flags that argp does not know out of the arguments;
 * the rest stays, in `kept`. */
static bool take_knob_flags(const reading_t *reading, const struct argp_option *rows, int argc,
                            char **argv, char **kept, int *kept_count)
{
    for (int i = 0; i < argc; i++) {
        const char *name = argv[i] + 2;
        size_t length = strncmp(argv[i], "--", 2) == 0 ? strcspn(name, "=") : 0;
        if (i == 0 || length == 0 || is_known(rows, name, length)) {
            kept[(*kept_count)++] = argv[i];
            continue;
        }
        const char *text = name[length] == '=' ? name + length + 1 : argv[++i];
        if (text == NULL)
            return failure_set(reading->failure, EXIT_USAGE,
                               "--%.40s: no option, and as a knob it needs values", name);
        if (!add_values(reading->flags, "--", name, length, text, reading->failure))
            return false;
    }
    kept[*kept_count] = NULL;
    return true;
}

static const char *doc =
    "Finds the settings with which dispatch and combine are fastest on this machine for a shape, "
    "tells what they gain over the default, and stores them: from then on moxie bench and programs "
    "that use libmoxie take them.\v"
    "A setting is judged by the slowest rank's time, in a group of its own whose outputs are "
    "verified; the default is measured in between, and a gain within the noise is none. "
    "Measurements are kept in --output-dir (default: tuning): results/, summary/, logs/ and "
    "OPTIMAL_CONFIGS.md.\n\n"
    "`moxie tune list', `show ID', `export [FILE]', `import FILE' and `forget ID|all' look after "
    "the tuning database; each takes --store DIR, list and show --json.\n\n"
    "Exit codes: 0 done; 1 ran and failed; 2 bad usage or input; 77 not available here.";

bool tune_flags_read(tune_flags_t *flags, int argc, char **argv, failure_t *failure)
{
    static char help[OPTION_COUNT][FLAGS_HELP_BYTES];
    struct argp_option rows[OPTION_COUNT + OWN_COUNT + 1];
    int count = 0;
    reading_t reading = {flags, failure};
    memset(rows, 0, sizeof(rows));
    for (option_id_t id = 0; id < OPTION_COUNT; id++) {
        if (is_left_out(id))
            continue;
        flags_help(id, help[id]);
        rows[count++] = (struct argp_option){.name = option_row(id)->name,
                                             .key = KEY_FIRST + (int)id,
                                             .arg = option_row(id)->placeholder,
                                             .doc = help[id]};
    }
    memcpy(rows + count, own_rows, sizeof(own_rows));
    struct argp argp = {.options = rows,
                        .parser = take,
                        .args_doc = "[list|show|export|import|forget]",
                        .doc = doc};
    char **kept = calloc((size_t)argc + 1, sizeof(*kept));
    int kept_count = 0;
    bool is_read = (kept != NULL || failure_set(failure, EXIT_FAILED, "not enough memory")) &&
                   take_knob_flags(&reading, rows, argc, argv, kept, &kept_count) &&
                   argp_parse(&argp, kept_count, kept, ARGP_IN_ORDER, NULL, &reading) == 0;
    free(kept);
    return is_read;
}

bool tune_flags_apply(const tune_flags_t *flags, const char *backend, space_t *space,
                      failure_t *failure)
{
    for (int32_t i = 0; i < flags->value_count; i++) {
        const tune_values_t *values = &flags->values[i];
        suggestion_t suggestion = {.word = values->name};
        space_knob_t *knob = NULL;
        for (int32_t j = 0; j < space->knob_count; j++) {
            suggestion_offer(&suggestion, space->knobs[j].name);
            if (strcmp(space->knobs[j].name, values->name) == 0)
                knob = &space->knobs[j];
        }
        if (knob == NULL)
            return failure_set(failure, EXIT_USAGE,
                               "%s: there is no such option, and backend %s has no such knob%s%s%s",
                               values->flag, backend, suggestion.nearest == NULL ? "" : ", is it '",
                               suggestion.nearest == NULL ? "" : suggestion.nearest,
                               suggestion.nearest == NULL ? "" : "'?");
        if (!space_knob_parse(knob, values->text, values->flag, failure))
            return false;
    }
    return true;
}
