/* SPDX-License-Identifier: Apache-2.0 */
/* Makes, reads and numbers the values that are tried. */
#include "tune/space.h"

#include "moxie/group.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ranges up to these sizes: all values of a choice; small steps. */
enum { CHOICE_RANGE_MAX = 7, SMALL_RANGE_MAX = 4096 };

/* The values go this far from the default, where the range does not end before. */
#define WIDE_REACH 256

static int compare(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one;
    int64_t b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static bool has_value(const space_knob_t *knob, int64_t value)
{
    for (int32_t i = 0; i < knob->value_count; i++)
        if (knob->values[i] == value)
            return true;
    return false;
}

/* Returns false when there is no room. */
static bool add_value(space_knob_t *knob, int64_t value)
{
    if (has_value(knob, value))
        return true;
    if (knob->value_count == SPACE_VALUE_COUNT_MAX)
        return false;
    knob->values[knob->value_count++] = value;
    return true;
}

/* Up and down from a value by a factor, given as a quotient, until `reach` times it. */
static void spread_by(space_knob_t *knob, int64_t from, int64_t numerator, int64_t denominator,
                      int64_t reach)
{
    (void)add_value(knob, from);
    for (int64_t value = from; value > knob->value_min && value > from / reach;) {
        value = value * denominator / numerator;
        (void)add_value(knob, value > knob->value_min ? value : knob->value_min);
    }
    for (int64_t value = from; value < knob->value_max && value < from * reach;) {
        int64_t next = value * numerator / denominator;
        next = next > value ? next : value + 1;
        value = next < knob->value_max ? next : knob->value_max;
        (void)add_value(knob, value);
    }
}

void space_knob_spread(space_knob_t *knob)
{
    knob->value_count = 0;
    uint64_t range = (uint64_t)knob->value_max - (uint64_t)knob->value_min;
    int64_t from = knob->value_default > 0 ? knob->value_default : 1;
    (void)add_value(knob, knob->value_default);
    knob->is_choice = range <= CHOICE_RANGE_MAX;
    if (knob->is_choice) {
        for (int64_t value = knob->value_min; value <= knob->value_max; value++)
            (void)add_value(knob, value);
    } else if ((knob->use & MOXIE_KNOB_ZERO_CHOOSES) != 0) {
        spread_by(knob, knob->value_max, 4, 3, 16);
    } else if (range <= SMALL_RANGE_MAX) {
        spread_by(knob, from, 4, 3, 8);
    } else {
        spread_by(knob, from, 4, 1, WIDE_REACH);
        (void)add_value(knob, knob->value_min);
    }
    qsort(knob->values, (size_t)knob->value_count, sizeof(knob->values[0]), compare);
}

int32_t space_first_amount(const space_knob_t *knob)
{
    bool chooses = (knob->use & MOXIE_KNOB_ZERO_CHOOSES) != 0 && knob->values[0] == 0;
    return chooses && knob->value_count > 1 ? 1 : 0;
}

/* Reads a number and moves on behind it. */
static bool take_number(const char **text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    *out = strtoll(*text, &end, 10);
    bool is_number = end != *text && errno == 0;
    *text = end;
    return is_number;
}

/* "16" or "4:32" or "4:32:2". */
static bool take_range(const char **text, int64_t range[3])
{
    if (!take_number(text, &range[0]))
        return false;
    range[1] = range[0];
    range[2] = 1;
    for (int i = 1; i < 3 && **text == ':'; i++) {
        (*text)++;
        if (!take_number(text, &range[i]))
            return false;
    }
    return range[1] >= range[0] && range[2] > 0;
}

static bool add_range(space_knob_t *knob, const int64_t range[3], const char *where,
                      failure_t *failure)
{
    if (range[0] < knob->value_min || range[1] > knob->value_max)
        return failure_set(failure, EXIT_USAGE,
                           "%s: %" PRId64 " is out of range, it can be %" PRId64 " to %" PRId64,
                           where, range[0] < knob->value_min ? range[0] : range[1], knob->value_min,
                           knob->value_max);
    for (int64_t value = range[0];; value += range[2]) {
        if (!add_value(knob, value))
            return failure_set(failure, EXIT_USAGE, "%s: more than %d values", where,
                               SPACE_VALUE_COUNT_MAX);
        if (value > range[1] - range[2])
            return true;
    }
}

bool space_knob_parse(space_knob_t *knob, const char *text, const char *where, failure_t *failure)
{
    const char *rest = text;
    knob->value_count = 0;
    for (;;) {
        int64_t range[3];
        bool is_range = take_range(&rest, range);
        if (!is_range || (*rest != '\0' && *rest != ','))
            return failure_set(failure, EXIT_USAGE,
                               "%s: '%.100s' is no list of values, as 16,24 or 4:32:2", where,
                               text);
        if (!add_range(knob, range, where, failure))
            return false;
        if (*rest == '\0')
            break;
        rest++;
    }
    qsort(knob->values, (size_t)knob->value_count, sizeof(knob->values[0]), compare);
    return true;
}

setting_t space_default(const space_t *space)
{
    setting_t setting = {{0}};
    for (int32_t i = 0; i < space->knob_count; i++)
        setting.value[i] = space->knobs[i].value_default;
    return setting;
}

bool space_is_equal(const space_t *space, const setting_t *one, const setting_t *other)
{
    for (int32_t i = 0; i < space->knob_count; i++)
        if (one->value[i] != other->value[i])
            return false;
    return true;
}

int64_t space_count(const space_t *space)
{
    int64_t count = 1;
    for (int32_t i = 0; i < space->knob_count; i++)
        if (__builtin_mul_overflow(count, (int64_t)space->knobs[i].value_count, &count))
            return INT64_MAX;
    return count;
}

setting_t space_at(const space_t *space, int64_t index)
{
    setting_t setting = {{0}};
    for (int32_t i = space->knob_count - 1; i >= 0; i--) {
        setting.value[i] = space->knobs[i].values[index % space->knobs[i].value_count];
        index /= space->knobs[i].value_count;
    }
    return setting;
}

const char *space_text(const space_t *space, const setting_t *setting, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < space->knob_count && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s=%" PRId64, i > 0 ? " " : "",
                                 space->knobs[i].name, setting->value[i]);
    return text;
}
