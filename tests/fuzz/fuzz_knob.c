/* SPDX-License-Identifier: Apache-2.0 */
/* Knobs: the bytes are the text of an environment variable, and a caller's setting. */
#include "core/error.h"
#include "core/knob.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const knob_t knobs[] = {
        {"fuzz_small", "a small range", 20, 0, 1000000, 0},
        {"fuzz_large", "the whole range", 0, INT64_MIN, INT64_MAX, 0},
    };
    fuzz_input_t input = {bytes, count};
    moxie_knob_setting_t setting = {"fuzz_small", 0};
    const knob_stored_t stored = {&setting, 1, "stored"}; /* of any value and, below, any name */
    char name[12];
    fuzz_take(&input, name, sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    fuzz_take(&input, &setting.value, sizeof(setting.value));
    char *text = strndup((const char *)input.bytes, input.count);
    if (text == NULL) {
        return 0;
    }
    FUZZ_REQUIRE(setenv("MOXIE_FUZZ_SMALL", text, 1) == 0 &&
                 setenv("MOXIE_FUZZ_LARGE", text, 1) == 0);
    for (size_t setting_count = 0; setting_count <= 1; setting_count++) {
        knob_values_t values;
        if (name[0] != '\0') {
            setting.name = name;
        }
        if (knob_resolve(knobs, 2, &stored, &setting, setting_count, &values) == MOXIE_OK) {
            FUZZ_REQUIRE(values.value[0] >= 0 && values.value[0] <= 1000000);
        } else {
            FUZZ_REQUIRE(error_detail()->message[0] != '\0');
        }
    }
    free(text);
    return 0;
}
