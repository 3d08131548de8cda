/* SPDX-License-Identifier: Apache-2.0 */
/* Reads time limits. */
#include "suite/time_limit.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const int64_t minute_s = 60;
static const int64_t hour_s = 3600;
static const int64_t day_s = 86400;

/* Digits, six at most; moves behind them. */
static bool read_part(const char **at, int64_t *out)
{
    size_t length = strspn(*at, "0123456789");
    if (length == 0 || length > 6)
        return false;
    *out = strtol(*at, NULL, 10);
    *at += length;
    return true;
}

/* "30m"; `at` is behind the number. */
static bool read_unit(const char *at, int64_t number, int64_t *out_s)
{
    static const char units[] = "smhdwSMHDW";
    const int64_t seconds[] = {1, minute_s, hour_s, day_s, 7 * day_s};
    const char *unit = *at == '\0' ? NULL : strchr(units, *at);
    if (unit == NULL || at[1] != '\0')
        return false;
    *out_s = number * seconds[(unit - units) % 5];
    return true;
}

/* "30:00" and "30:00:15", of which `hours` is read. */
static bool read_clock(const char *at, int64_t hours, int64_t *out_s)
{
    int64_t minutes = 0;
    int64_t seconds = 0;
    if (*at++ != ':' || !read_part(&at, &minutes))
        return false;
    if (*at == ':') {
        at++;
        if (!read_part(&at, &seconds))
            return false;
    }
    *out_s = hours * hour_s + minutes * minute_s + seconds;
    return *at == '\0' && minutes < 60 && seconds < 60;
}

bool time_limit_read(const char *text, int64_t *out_s)
{
    const char *at = text;
    int64_t number = 0;
    int64_t days = 0;
    bool is_read = read_part(&at, &number);
    if (is_read && *at == '-') {
        at++;
        days = number;
        is_read = read_part(&at, &number) && read_clock(at, number, out_s);
    } else {
        is_read = is_read && (read_unit(at, number, out_s) || read_clock(at, number, out_s));
    }
    *out_s += is_read ? days * day_s : 0;
    return is_read && *out_s >= 1 && *out_s <= 366 * day_s;
}
