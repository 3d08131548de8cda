/* SPDX-License-Identifier: Apache-2.0 */
/* Stored settings: the bytes are a line of the file. */
#include "fuzz/fuzz.h"
#include "store/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    settings_entry_t entry;
    settings_entry_t again;
    char line[SETTINGS_LINE_BYTES * 2];
    char *text = strndup((const char *)bytes, count);
    if (text == NULL) {
        return 0;
    }
    if (settings_parse(text, &entry)) {
        FILE *stream = fmemopen(line, sizeof(line), "w");
        FUZZ_REQUIRE(stream != NULL && settings_print(&entry, stream) && fclose(stream) == 0);
        FUZZ_REQUIRE(strlen(line) >= SETTINGS_LINE_BYTES || settings_parse(line, &again));
        FUZZ_REQUIRE(settings_distance(&entry.key, &entry.key) == 0.0);
    }
    free(text);
    return 0;
}
