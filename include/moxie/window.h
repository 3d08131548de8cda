/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Windows: memory of one rank that every peer of the group can reach.
 *
 * The buffers of the receiving side (what dispatch fills and what combine reads) must lie in
 * windows, at any offset; the buffers of the home side (x, out, their gradients) may be any memory.
 * On cuda windows are device memory, and only the rows themselves must lie in one.
 */
#ifndef MOXIE_WINDOW_H
#define MOXIE_WINDOW_H

#include "moxie/group.h"

MOXIE_BEGIN_DECLS

/** This rank's part of a window, with its mapping of the peers' parts. */
typedef struct moxie_window moxie_window_t;

/**
 * Allocates a window. Collective; each rank chooses its own size.
 *
 * The memory is zeroed, resident at once and fixed in size. What would not fit into
 * moxie_memory_available(), all ranks of this host together, is refused on every rank before
 * anything is allocated.
 *
 * @param bytes    size of this rank's part, may be 0
 * @param[out] out the window, for moxie_window_free()
 * @return MOXIE_OK; MOXIE_ERR_MEMORY (the error has the need and what is there, in bytes)
 */
MOXIE_API moxie_status_t moxie_window_allocate(moxie_group_t *group, size_t bytes,
                                               moxie_window_t **out);

/** Memory that the caller allocated and wants to use as a window. */
typedef struct moxie_memory {
    size_t size;        /**< sizeof(moxie_memory_t) */
    void *base;         /**< first byte, page-aligned on shm; cuda: memory of cudaMalloc or of
                             cuMemCreate with a POSIX file descriptor as handle type */
    size_t bytes;       /**< size in bytes */
    int fd;             /**< shm: the memfd mapped at `base`, sealed with F_SEAL_SHRINK */
    uint64_t fd_offset; /**< shm: where in `fd` the mapping begins, page-aligned */
} moxie_memory_t;

/** Initialiser of a ::moxie_memory_t. */
#define MOXIE_MEMORY_INIT                                                                          \
    {                                                                                              \
        .size = sizeof(moxie_memory_t), .fd = -1                                                   \
    }

/**
 * Makes a window of memory that the caller allocated. Collective. The caller keeps the memory and
 * must keep it mapped until the window is freed, and must not use it again in a new group after
 * this group failed: a peer that was stopped may still write into it.
 *
 * @param memory   described as the backend needs it; see ::moxie_memory_t
 * @param[out] out the window, for moxie_window_free()
 * @return MOXIE_OK; MOXIE_ERR_WINDOW (this memory cannot be shared; the error says what to
 *         allocate it with)
 */
MOXIE_API moxie_status_t moxie_window_register(moxie_group_t *group, const moxie_memory_t *memory,
                                               moxie_window_t **out);

/**
 * Frees this rank's part and its mappings of the others'. Local. NULL is allowed. Nothing may be in
 * flight that uses it: on a device synchronise the stream first, and see moxie/exchange.h for ranks
 * that are threads on one GPU.
 */
MOXIE_API void moxie_window_free(moxie_window_t *window);

/** First byte of this rank's part, aligned to a page. */
MOXIE_API void *moxie_window_base(const moxie_window_t *window);

/** Bytes of this rank's part. */
MOXIE_API size_t moxie_window_bytes(const moxie_window_t *window);

MOXIE_END_DECLS

#endif
