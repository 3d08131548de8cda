/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Red zones around mapped memory, in builds with the address sanitizer only: it does not see an
 * overrun inside a mapping, nor one into the mapping next door. So the unused end of a window's
 * last page is poisoned, and every mapping is followed by pages that nobody may touch.
 */
#ifndef MOXIE_TRANSPORT_SHM_RED_ZONE_H
#define MOXIE_TRANSPORT_SHM_RED_ZONE_H

#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#define RED_ZONE_WANTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RED_ZONE_WANTED 1
#endif
#endif

#ifdef RED_ZONE_WANTED
#include <sanitizer/asan_interface.h>
/* Pages behind a mapping: whole ones, and more than the longest row that the tests have. */
#define RED_ZONE_BYTES 65536u
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)   ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define RED_ZONE_BYTES                              0u
#endif

/* Of `mapped_bytes` at `base` only the first `bytes` may be touched. */
static inline void red_zone_mark(void *base, uint64_t bytes, uint64_t mapped_bytes)
{
    if (base != NULL) {
        ASAN_POISON_MEMORY_REGION((char *)base + bytes, (size_t)(mapped_bytes - bytes));
    }
}

/* Before the memory is given back. */
static inline void red_zone_clear(void *base, uint64_t mapped_bytes)
{
    ASAN_UNPOISON_MEMORY_REGION(base, (size_t)mapped_bytes);
}

#endif
