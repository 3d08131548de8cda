/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows over shared memory, and references to buffers inside them: a rank names its buffer by
 * (window, offset), and its peers turn that into an address of their own mapping.
 */
#ifndef MOXIE_TRANSPORT_SHM_WINDOW_H
#define MOXIE_TRANSPORT_SHM_WINDOW_H

#include "transport/shm/transport.h"
#include "transport/window.h"

/* One rank's part of a window as this rank has it mapped. */
typedef struct shm_window_part {
    void *base;
    uint64_t bytes;        /* as asked for */
    uint64_t mapped_bytes; /* whole pages */
} shm_window_part_t;

typedef struct shm_window {
    moxie_window_t window;
    uint64_t number; /* the same on all ranks */
    int owns_memory; /* allocated here, not registered */
    int has_line;    /* a channel's, which peers may still be reading when it is freed */
    shm_transport_t *transport;
    shm_window_part_t parts[]; /* [rank_count] */
} shm_window_t;

/* Names a buffer of the rank that says it. `present` 0: there is none. */
typedef struct shm_buffer {
    uint64_t window;
    uint64_t offset;
    uint32_t present;
    uint32_t reserved;
} shm_buffer_t;

/* What a window takes on one rank. */
void shm_window_quote(int32_t rank_count, uint64_t bytes, memory_account_t *out);

moxie_status_t shm_window_allocate(shm_transport_t *transport, uint64_t bytes,
                                   moxie_window_t **out);
moxie_status_t shm_window_register(shm_transport_t *transport, const moxie_memory_t *memory,
                                   moxie_window_t **out);
void shm_window_free(moxie_window_t *window);

/* Names this rank's `bytes` bytes at `pointer`; NULL gives an absent buffer. `name` is for errors.
 */
moxie_status_t shm_buffer_name(const shm_transport_t *transport, const void *pointer,
                               uint64_t bytes, const char *name, shm_buffer_t *out);

/* Where this rank has a peer's buffer mapped. Refuses what does not lie in the peer's window. */
moxie_status_t shm_buffer_map(const shm_transport_t *transport, int32_t rank,
                              const shm_buffer_t *buffer, uint64_t bytes, void **out);

#endif
