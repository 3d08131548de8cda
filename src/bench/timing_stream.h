/* SPDX-License-Identifier: Apache-2.0 */
/* Times the two calls in the order of a device's stream. */
#ifndef MOXIE_BENCH_TIMING_STREAM_H
#define MOXIE_BENCH_TIMING_STREAM_H

#include "bench/timing.h"

/* As measure_all() of timing.c: warms up and measures every iteration of this rank. */
bool timing_stream_measure(const session_t *session, ceiling_t *ceiling, const timing_t *timing,
                           failure_t *failure);

#endif
