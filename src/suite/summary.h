/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a whole suite, schema moxie.suite/1 (docs/suite.md), and what a person sees of it.
 */
#ifndef MOXIE_SUITE_SUMMARY_H
#define MOXIE_SUITE_SUMMARY_H

#include "suite/session.h"

#include <stdio.h>
#include <time.h>

/* A record of `run_count` runs that are still to be made; a new reference. */
json_t *summary_make(const suite_session_t *session, int32_t run_count, time_t start);

/* Adds a run by its record. */
void summary_add(json_t *summary, const json_t *record);

/* Counts the runs so far, and says whether these are all. */
void summary_close(json_t *summary, time_t end);

/* Runs that did not pass, in a dry run could not be planned, and were not ended on purpose. */
int64_t summary_failed_count(const json_t *summary);

/* Lines of a table: its head, a run, the end. */
void summary_print_head(const json_t *summary, FILE *out);
void summary_print_run(const json_t *record, FILE *out);
void summary_print_end(const json_t *summary, const char *folder, FILE *out);

#endif
