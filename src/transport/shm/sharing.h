/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapping a peer's segment. Every rank makes a mapping of its own, also of a rank that is a thread
 * of the same process, so that no rank can pull memory away from another. Under the thread
 * sanitizer threads share one address instead: it knows memory by address, and would not see a race
 * between two mappings of the same page.
 */
#ifndef MOXIE_TRANSPORT_SHM_SHARING_H
#define MOXIE_TRANSPORT_SHM_SHARING_H

#include "transport/shm/segment.h"

#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define SHARING_BY_ADDRESS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHARING_BY_ADDRESS 1
#endif
#endif
#ifndef SHARING_BY_ADDRESS
#define SHARING_BY_ADDRESS 0
#endif

static inline int sharing_is_direct(int32_t peer_pid)
{
    return SHARING_BY_ADDRESS && peer_pid == getpid();
}

/* `address` is where the peer has it mapped. */
static inline moxie_status_t sharing_map(int32_t peer_pid, uint64_t address, int fd,
                                         uint64_t offset, uint64_t bytes, int writable, void **base)
{
    if (sharing_is_direct(peer_pid)) {
        *base = (void *)(uintptr_t)address;
        return MOXIE_OK;
    }
    return segment_map(fd, offset, bytes, writable, base);
}

/*
 * Unmaps a segment of one's own with a line in it. A peer may still be reading it: it has a mapping
 * of its own, or shares this one, which then stays for as long as the process.
 */
static inline void sharing_unmap_own(void *base, uint64_t bytes)
{
    if (!SHARING_BY_ADDRESS) {
        segment_unmap(base, bytes);
    }
}

static inline void sharing_unmap(int32_t peer_pid, void *base, uint64_t bytes)
{
    if (!sharing_is_direct(peer_pid)) {
        segment_unmap(base, bytes);
    }
}

#endif
