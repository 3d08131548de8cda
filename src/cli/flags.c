/* SPDX-License-Identifier: Apache-2.0 */
/* Makes argp's options, with defaults in their help, from the table of options. */
#include "cli/flags.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* argp takes keys that are no characters for options without a short form. */
enum { KEY_FIRST = 256 };

/* What the parser fills. */
typedef struct reading {
    options_t *options;
    failure_t *failure;
} reading_t;

/* The first choice is the default; the last ones may not be built yet. */
static void choice_text(const option_row_t *row, char text[FLAGS_HELP_BYTES])
{
    const char *later = row->choices;
    for (int64_t built = 0; built < row->built_count; built++) {
        later += strcspn(later, "|");
        later += *later == '|';
    }
    (void)snprintf(text, FLAGS_HELP_BYTES, " (default: %.*s%s%s)", (int)strcspn(row->choices, "|"),
                   row->choices, *later == '\0' ? "" : "; not built yet: ", later);
}

static void default_text(const option_row_t *row, char text[FLAGS_HELP_BYTES])
{
    text[0] = '\0';
    if (row->is_later || (row->type == OPTION_TYPE_CHOICE && row->built_count == 0))
        (void)snprintf(text, FLAGS_HELP_BYTES, " (not built yet)");
    else if (row->text_default != NULL)
        (void)snprintf(text, FLAGS_HELP_BYTES, " (default: %s)", row->text_default);
    else if (row->type == OPTION_TYPE_NUMBER)
        (void)snprintf(text, FLAGS_HELP_BYTES, " (default: %" PRId64 ")", row->value_default);
    else if (row->type == OPTION_TYPE_CHOICE)
        choice_text(row, text);
}

void flags_help(option_id_t id, char help[FLAGS_HELP_BYTES])
{
    const option_row_t *row = option_row(id);
    char text[FLAGS_HELP_BYTES];
    default_text(row, text);
    (void)snprintf(help, FLAGS_HELP_BYTES, "%.380s%.100s", row->help, text);
}

static error_t take(int key, char *argument, struct argp_state *state)
{
    const reading_t *reading = state->input;
    option_origin_t origin = {ORIGIN_FLAG, 0};
    if (key == ARGP_KEY_ARG)
        argp_error(state, "'%s' is no option", argument);
    if (key < KEY_FIRST || key >= KEY_FIRST + OPTION_COUNT)
        return ARGP_ERR_UNKNOWN;
    option_id_t id = (option_id_t)(key - KEY_FIRST);
    bool is_set = argument == NULL
                      ? option_set_number(reading->options, id, origin, 1, reading->failure)
                      : option_set_text(reading->options, id, origin, argument, reading->failure);
    return is_set ? 0 : EINVAL;
}

bool flags_read(options_t *options, int argc, char **argv, failure_t *failure)
{
    static char help[OPTION_COUNT][FLAGS_HELP_BYTES];
    struct argp_option rows[OPTION_COUNT + 1];
    memset(rows, 0, sizeof(rows));
    for (option_id_t id = 0; id < OPTION_COUNT; id++) {
        const option_row_t *row = option_row(id);
        flags_help(id, help[id]);
        rows[id] = (struct argp_option){.name = row->name,
                                        .key = KEY_FIRST + (int)id,
                                        .arg = row->placeholder,
                                        .doc = help[id]};
    }
    struct argp argp = {
        .options = rows,
        .parser = take,
        .doc = "Measures dispatch and combine of an MoE layer between ranks, verified against the "
               "reference before and after the timing.\v"
               "A time is what a caller sees: all ranks leave a barrier, each marks its start, "
               "calls, and marks its end when its output is ready; an iteration's time is the "
               "largest over the ranks. GB are 1e9 bytes. The ceiling is what the same ranks reach "
               "by plain copies of the same rows.\n\n"
               "Exit codes: 0 done; 1 ran and failed; 2 bad usage or input; 3 a peer was lost or a "
               "deadline passed; 77 not available here or not built yet.",
    };
    reading_t reading = {options, failure};
    return argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &reading) == 0;
}
