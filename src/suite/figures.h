/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of a run as other programs read them; docs/suite.md has the formulas. */
#ifndef MOXIE_SUITE_FIGURES_H
#define MOXIE_SUITE_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* The list of results.json, made from a record of the benchmark: one object an operation; combine
 * only when it is wanted. A new reference. */
json_t *figures_list(const json_t *bench, bool with_combine);

/* The lines that programs look for on standard output. */
void figures_print(const json_t *list, FILE *out);

/* The first line of a CSV file, and the rows of a run's record: one an operation, with empty fields
 * for what was not measured. */
void figures_csv_head(FILE *out);
void figures_csv_rows(const char *scenario, const json_t *record, FILE *out);

#endif
