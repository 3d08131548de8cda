/* SPDX-License-Identifier: Apache-2.0 */
/* Times the two calls. All ranks leave a barrier, each marks its start, calls, and marks its end
 * when its output is ready. */
#ifndef MOXIE_BENCH_TIMING_H
#define MOXIE_BENCH_TIMING_H

#include "bench/ceiling.h"

/* What a rank saw in one iteration of a call. */
typedef struct sample {
    uint64_t time_ns; /* end − start */
    uint64_t wait_ns; /* the part spent waiting for peers; of a baseline: in the bare Alltoallv; on
                         a device: of another iteration */
    uint64_t prepare_ns; /* on a device, of that iteration too: moxie_group_counters_t */
    uint64_t move_ns;
    uint64_t finish_ns;
} sample_t;

/* Every rank's samples of both calls, of each side. */
typedef struct timing {
    int32_t rank_count;
    int64_t iteration_count;
    int32_t side_count;
    sample_t *samples; /* [side_count][SLOT_COUNT][rank_count][iteration_count] */
} timing_t;

/*
 * Warms up and measures; collective. Afterwards every rank has the samples of all. The ceiling's
 * iterations are spread evenly between those of the calls, so that both see the same machine: what
 * else runs there comes and goes.
 */
bool timing_measure(const session_t *session, ceiling_t *ceiling, timing_t *out,
                    failure_t *failure);

/* Releases the samples. */
void timing_release(timing_t *timing);

/* The samples of a rank, [iteration_count]. */
sample_t *timing_of_rank(const timing_t *timing, side_t side, slot_t slot, int32_t rank);

/* Nanoseconds of the clock that marks starts and ends. */
uint64_t timing_now_ns(void);

#endif
