/* SPDX-License-Identifier: Apache-2.0 */
/* A record for a person. */
#ifndef MOXIE_BENCH_TABLE_H
#define MOXIE_BENCH_TABLE_H

#include <jansson.h>
#include <stdio.h>

/* Writes the table of a complete record; `shape_name` is what the person asked for. */
void table_write(const json_t *record, const char *shape_name, FILE *out);

#endif
