/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank's flight recorder says when a run fails. */
#ifndef MOXIE_BENCH_FLIGHT_H
#define MOXIE_BENCH_FLIGHT_H

#include "moxie/group.h"

#include <stdio.h>

/* The recorder's text, to be freed; NULL when there is no memory for it. */
char *flight_read(const moxie_group_t *group);

/* Prints the last operations in a recorder's text. */
void flight_print(const char *text, int32_t rank, FILE *out);

#endif
