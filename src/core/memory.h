/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory with an account: every allocation of a group goes through here, so that what is allocated
 * can be compared with the quote to the byte.
 */
#ifndef MOXIE_CORE_MEMORY_H
#define MOXIE_CORE_MEMORY_H

#include "moxie/status.h"

/* What one group has allocated now on this rank. */
typedef struct memory_account {
    uint64_t host_bytes;
    uint64_t window_bytes;
    uint64_t device_bytes; /* windows on a device are part of it too */
} memory_account_t;

/* Rounds up to a multiple of `unit`, a power of two. */
static inline uint64_t memory_round_up(uint64_t bytes, uint64_t unit)
{
    return (bytes + unit - 1) & ~(unit - 1);
}

/* Alignment, and unit of size, of every host allocation: a cache line. */
#define MEMORY_LINE_BYTES 64u

/* Host bytes that memory_allocate() charges for `bytes`. */
static inline uint64_t memory_charge(uint64_t bytes)
{
    return memory_round_up(bytes, MEMORY_LINE_BYTES);
}

/* Zeroed and aligned to a cache line; `what` is for the error. */
moxie_status_t memory_allocate(memory_account_t *account, uint64_t bytes, const char *what,
                               void **out);

/* Releases what memory_allocate() gave for the same `bytes`. NULL is allowed. */
void memory_release(memory_account_t *account, void *memory, uint64_t bytes);

/* Refuses a need that moxie_memory_available() does not cover, naming both figures, and the limit
 * if there is one. */
moxie_status_t memory_check_available(uint64_t need_bytes, const char *what);

#endif
