/* SPDX-License-Identifier: Apache-2.0 */
/* Writes options as a command. */
#include "suite/command_text.h"

#include "suite/quote.h"

#include <inttypes.h>
#include <string.h>

static void write_option(FILE *out, const options_t *options, option_id_t id)
{
    const option_row_t *row = option_row(id);
    char word[OPTION_WHERE_BYTES];
    const char *field = (const char *)options + row->offset;
    (void)fprintf(out, " --%s", row->name);
    if (row->type == OPTION_TYPE_NUMBER) {
        int64_t number;
        memcpy(&number, field, sizeof(number));
        (void)fprintf(out, " %" PRId64, number);
    } else if (row->type == OPTION_TYPE_CHOICE) {
        (void)fprintf(out, " %s", option_word(options, id, word));
    } else if (row->type == OPTION_TYPE_TEXT) {
        char *text;
        memcpy(&text, field, sizeof(text));
        (void)fputc(' ', out);
        quote_word(out, text);
    }
}

char *command_text(const options_t *options)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return NULL;
    (void)fputs("moxie bench", out);
    for (option_id_t id = 0; id < OPTION_COUNT; id++)
        if (option_is_given(options, id))
            write_option(out, options, id);
    return fclose(out) == 0 ? text : NULL;
}
