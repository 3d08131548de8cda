/* SPDX-License-Identifier: Apache-2.0 */
/* The other side of a comparison: a plug-in that does the same exchange in the same processes, on
 * the same inputs and into the same buffers. */
#ifndef MOXIE_BENCH_BASELINE_H
#define MOXIE_BENCH_BASELINE_H

#include "bench/session.h"

/* Whether a baseline is asked for that takes MPI, and so mpirun. */
bool baseline_is_mpi(const options_t *options);

/* Refuses what a baseline cannot be compared on; exit code 77 when its plug-in is not there. */
bool baseline_check(const plan_t *plan, failure_t *failure);

/* Bytes that a rank's baseline takes. */
uint64_t baseline_bytes(const plan_t *plan, int32_t rank);

/* Loads the plug-in and prepares the exchange; collective. Nothing when no baseline is asked for.
 */
bool baseline_join(session_t *session, failure_t *failure);

/* Gives it this rank's routing; collective. */
bool baseline_update_route(const session_t *session, failure_t *failure);

/* Makes the call on the input sets of a turn; collective. `travel_ns` is the bare Alltoallv; on a
 * device it may be NULL, and then the call is not waited for. */
bool baseline_call(const session_t *session, slot_t slot, int64_t turn, uint64_t *travel_ns,
                   failure_t *failure);

/* Ends it; collective only when the run succeeded. */
void baseline_leave(session_t *session, bool is_done);

#endif
