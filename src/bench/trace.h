/* SPDX-License-Identifier: Apache-2.0 */
/* A timeline of some iterations in the format of Chrome's tracing, which Perfetto shows: a track a
 * rank, a span a call, an operation of the group in it, and a span a phase in that. */
#ifndef MOXIE_BENCH_TRACE_H
#define MOXIE_BENCH_TRACE_H

#include "bench/session.h"

/* Refuses a trace, with exit code 77, where no phases are seen. */
bool trace_check(const plan_t *plan, failure_t *failure);

/*
 * Makes some more iterations, behind those that are timed so that these do not pay for it, and
 * gathers what each rank's flight recorder saw; collective. Nothing when no trace is asked for.
 *
 * @param[out] trace  on rank 0: the document, a new reference; else NULL
 */
bool trace_measure(const session_t *session, json_t **trace, failure_t *failure);

/* Writes the document. False: the output could not be written. */
bool trace_write(const json_t *trace, FILE *out);

#endif
