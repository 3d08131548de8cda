/* SPDX-License-Identifier: Apache-2.0 */
/* How long a test may take, as scenarios write it. */
#ifndef MOXIE_SUITE_TIME_LIMIT_H
#define MOXIE_SUITE_TIME_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

/* Reads "HH:MM:SS", "H:M", "D-HH:MM:SS" and a number with one of the units s, m, h, d and w: at
 * least a second, at most a year. False: it is none of them. */
bool time_limit_read(const char *text, int64_t *out_s);

#endif
