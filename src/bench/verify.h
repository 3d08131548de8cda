/* SPDX-License-Identifier: Apache-2.0 */
/* Compares every output of a call with the reference, bit by bit. */
#ifndef MOXIE_BENCH_VERIFY_H
#define MOXIE_BENCH_VERIFY_H

#include "bench/session.h"

/* Room for the sentence about a mismatch. */
enum { VERIFY_TEXT_BYTES = 512 };

/*
 * Poisons the outputs, makes the call and compares all that it wrote. False when the call or the
 * comparison could not be made. A mismatch is a result: the first one is described in `mismatch`,
 * which stays "" (or as it was, when it already describes one) if there is none.
 */
bool verify_slot(const session_t *session, side_t side, slot_t slot, int64_t turn,
                 char mismatch[VERIFY_TEXT_BYTES], failure_t *failure);

/* Checks that the route moves the rows that the plan counted. */
void verify_extent(const session_t *session, char mismatch[VERIFY_TEXT_BYTES]);

/* Bytes that a comparison takes at most. */
uint64_t verify_bytes(const plan_t *plan, int32_t rank);

#endif
