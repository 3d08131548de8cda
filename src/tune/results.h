/* SPDX-License-Identifier: Apache-2.0 */
/* What a tuner leaves: a JSON document with everything, and files and tables made from it. */
#ifndef MOXIE_TUNE_RESULTS_H
#define MOXIE_TUNE_RESULTS_H

#include "tune/tune.h"

#include <jansson.h>

/* How the run is set up, as its log begins: the same setup gives comparable measurements. A new
 * reference. */
json_t *results_setup(const tune_t *tune, const settings_key_t *key);

/* The document, schema moxie.tune/1; a new reference. */
json_t *results_json(const tune_t *tune, const json_t *setup, const char *timestamp);

/* The document without the single measurements, as it is stored; a new reference. */
json_t *results_summary(const json_t *results);

/* "auto", "quick" … */
const char *results_mode_name(search_mode_t mode);

/* Tables for people, from the document: the result, and with `explains` what became of every
 * setting. */
void results_print(const json_t *results, bool explains, FILE *out);

/* OPTIMAL_CONFIGS.md, from the document. */
void results_markdown(const json_t *results, FILE *out);

#endif
