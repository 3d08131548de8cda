/* SPDX-License-Identifier: Apache-2.0 */
/* Values on the command line: lines, each an option's number and its value as text. */
#include "bench/options.h"
#include "bench/routing.h"
#include "fuzz/fuzz.h"

/* What the table promises of a value that it took. */
static void check_value(const options_t *options, option_id_t id)
{
    const option_row_t *row = option_row(id);
    char word[OPTION_WHERE_BYTES];
    char where[OPTION_WHERE_BYTES];
    FUZZ_REQUIRE(option_where(options, id, where)[0] != '\0');
    if (row->type == OPTION_TYPE_NUMBER) {
        int64_t number;
        memcpy(&number, (const char *)options + row->offset, sizeof(number));
        FUZZ_REQUIRE(number >= row->value_min && number <= row->value_max);
    } else if (row->type == OPTION_TYPE_CHOICE) {
        FUZZ_REQUIRE(option_word(options, id, word)[0] != '\0');
    }
}

static void set_option(options_t *options, const char *line)
{
    const option_id_t id = (option_id_t)((uint8_t)line[0] % OPTION_COUNT);
    const option_origin_t origin = {ORIGIN_FLAG, 0};
    failure_t failure = {0};
    if (line[0] == '\0') {
        return;
    }
    if (option_row(id)->type == OPTION_TYPE_SWITCH) { /* takes no text */
        FUZZ_REQUIRE(option_set_number(options, id, origin, 1, &failure));
    } else if (option_set_text(options, id, origin, line + 1, &failure)) {
        check_value(options, id);
    } else {
        FUZZ_REQUIRE(failure.exit_code != EXIT_DONE && failure.sentence[0] != '\0');
    }
    routing_spec_t spec = {0};
    failure = (failure_t){0};
    if (!routing_spec_parse(line + 1, "--routing", &spec, &failure)) {
        FUZZ_REQUIRE(failure.exit_code == EXIT_USAGE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *text = malloc(count + 1);
    options_t options;
    if (text == NULL) {
        return 0;
    }
    memcpy(text, bytes, count);
    text[count] = '\0';
    FUZZ_REQUIRE(options_init(&options));
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        set_option(&options, line);
    }
    failure_t failure = {0};
    (void)options_check_built(&options, &failure);
    options_release(&options);
    free(text);
    return 0;
}
