/* SPDX-License-Identifier: Apache-2.0 */
/* A deadline for calls that have none of their own: MPI waits for a peer for ever. */
#ifndef MOXIE_BENCH_WATCHDOG_H
#define MOXIE_BENCH_WATCHDOG_H

#include "bench/session.h"

/*
 * From now on a passed deadline calls expired(ctx, failure) on a thread of its own, and then the
 * process ends with the failure's exit code. The same thread beats the pulse of this rank. False:
 * no thread could be made.
 */
bool watchdog_watch(int32_t rank, int32_t rank_count, void (*expired)(void *, failure_t *),
                    void *ctx);

/* The calling rank begins an operation of its baseline that must end in time; one at a time. */
void watchdog_arm(const session_t *session, const char *op, int64_t timeout_us);

/* It has ended. */
void watchdog_disarm(void);

#endif
