/* SPDX-License-Identifier: Apache-2.0 */
/* What `moxie tune` reads: the bytes are the values of a knob, and an entry to import. */
#include "fuzz/fuzz.h"
#include "tune/database.h"
#include "tune/space.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    space_knob_t knob = {.value_min = -5, .value_max = INT64_MAX};
    settings_entry_t entry;
    failure_t failure = {.sentence = ""};
    char *text = strndup((const char *)bytes, count);
    if (text == NULL) {
        return 0;
    }
    if (space_knob_parse(&knob, text, "--knob", &failure)) {
        FUZZ_REQUIRE(knob.value_count > 0 && knob.values[0] >= -5);
    } else {
        FUZZ_REQUIRE(failure.sentence[0] != '\0');
    }
    json_t *json = json_loadb((const char *)bytes, count, 0, NULL);
    if (database_entry_from_json(json, &entry)) {
        char line[SETTINGS_LINE_BYTES * 2];
        FILE *stream = fmemopen(line, sizeof(line), "w");
        FUZZ_REQUIRE(stream != NULL && settings_print(&entry, stream) && fclose(stream) == 0);
        FUZZ_REQUIRE(strchr(line, '\n') == line + strlen(line) - 1);
    }
    json_decref(json);
    free(text);
    return 0;
}
