/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection, in test builds only (MOXIE_FAULT_HOOKS): the environment variable
 *
 *     MOXIE_FAULT=PHASE:RANK:N:ACTION[,…]
 *
 * makes rank RANK kill itself, stop itself or sleep when it comes to phase PHASE for the Nth time
 * (from 1; `*`: every time). ACTION is kill, stop, or delay=MICROSECONDS. Phases are "join",
 * "introduce", "window", and for each operation OP "OP.begin", "OP.post", "OP.work" (in the middle
 * of the payload), "OP.finish" and "OP.leave". docs/protocol.md says where they lie.
 */
#ifndef MOXIE_TRANSPORT_FAULT_H
#define MOXIE_TRANSPORT_FAULT_H

#include <stdint.h>

#ifdef MOXIE_FAULT_HOOKS
/* This rank has come to OP.PHASE, or to PHASE when `op` is NULL. */
void fault_point(int32_t rank, const char *op, const char *phase);

/* MOXIE_DELAY_SEED: ranks dawdle at all of these points, and kernels on a device here and there, by
 * this seed; 0: never. */
uint64_t fault_delay_seed(void);
#else
static inline uint64_t fault_delay_seed(void)
{
    return 0;
}

static inline void fault_point(int32_t rank, const char *op, const char *phase)
{
    (void)rank;
    (void)op;
    (void)phase;
}
#endif

#endif
