/* SPDX-License-Identifier: Apache-2.0 */
/* The result of a run as JSON, schema moxie.bench/1. All other views are made from it. */
#ifndef MOXIE_BENCH_RECORD_H
#define MOXIE_BENCH_RECORD_H

#include "bench/ceiling.h"
#include "bench/timing.h"

/* What rank 0 measured, without the machine and the version; a new reference. */
json_t *record_make(const session_t *session, const timing_t *timing, ceiling_t *ceiling,
                    bool is_verified);

/* Adds the machine and the version. */
void record_complete(json_t *record);

/* {"error": …} of a lost peer or a passed deadline; a new reference. */
json_t *record_error(const failure_t *failure);

/* Writes a document and a newline. False: the output could not be written. */
bool record_write(const json_t *document, FILE *out);

#endif
