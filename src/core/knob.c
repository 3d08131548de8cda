/* SPDX-License-Identifier: Apache-2.0 */
/* Where a knob's value comes from. */
#include "core/knob.h"

#include "core/error.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static moxie_status_t set_value(const knob_t *knob, int64_t value, const char *from, size_t index,
                                knob_values_t *out)
{
    if (value < knob->value_min || value > knob->value_max) {
        error_set(MOXIE_ERR_ARGUMENT, "%s (%s) is %" PRId64 ", allowed are %" PRId64 " to %" PRId64,
                  knob->name, from, value, knob->value_min, knob->value_max);
        error_detail()->observed = value;
        return MOXIE_ERR_ARGUMENT;
    }
    out->value[index] = value;
    out->from[index] = from;
    return MOXIE_OK;
}

static moxie_status_t read_environment(const knob_t *knob, size_t index, knob_values_t *out)
{
    char name[64] = "MOXIE_";
    for (size_t i = 0; knob->name[i] != '\0' && strlen(name) + 1 < sizeof(name); i++) {
        name[strlen(name)] = (char)toupper((unsigned char)knob->name[i]);
    }
    const char *text = getenv(name);
    if (text == NULL) {
        return MOXIE_OK;
    }
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "environment variable %s is '%s', not a number", name,
                         text);
    }
    return set_value(knob, value, "environment", index, out);
}

static moxie_status_t apply_setting(const knob_t *knobs, size_t knob_count,
                                    const moxie_knob_setting_t *setting, knob_values_t *out)
{
    for (size_t i = 0; i < knob_count; i++) {
        if (setting->name != NULL && strcmp(setting->name, knobs[i].name) == 0) {
            return set_value(&knobs[i], setting->value, "option", i, out);
        }
    }
    return error_set(MOXIE_ERR_ARGUMENT, "the backend has no knob '%s'",
                     setting->name != NULL ? setting->name : "(NULL)");
}

static void apply_stored(const knob_t *knob, const knob_stored_t *stored, size_t index,
                         knob_values_t *out)
{
    for (size_t i = 0; i < stored->count; i++) {
        const int64_t value = stored->settings[i].value;
        if (strcmp(stored->settings[i].name, knob->name) == 0 && value >= knob->value_min &&
            value <= knob->value_max) {
            out->value[index] = value;
            out->from[index] = stored->from;
        }
    }
}

moxie_status_t knob_resolve(const knob_t *knobs, size_t knob_count, const knob_stored_t *stored,
                            const moxie_knob_setting_t *settings, size_t setting_count,
                            knob_values_t *out)
{
    moxie_status_t status = MOXIE_OK;
    for (size_t i = 0; i < knob_count && status == MOXIE_OK; i++) {
        out->value[i] = knobs[i].value_default;
        out->from[i] = "default";
        apply_stored(&knobs[i], stored, i, out);
        status = read_environment(&knobs[i], i, out);
    }
    for (size_t i = 0; i < setting_count && status == MOXIE_OK; i++) {
        status = apply_setting(knobs, knob_count, &settings[i], out);
    }
    return status;
}
