/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: memory that processes share. A memfd has no name and vanishes with its last mapping;
 * sealing its size means that no peer can cut it off under our feet.
 */
#ifndef MOXIE_TRANSPORT_SHM_SEGMENT_H
#define MOXIE_TRANSPORT_SHM_SEGMENT_H

#include "moxie/status.h"

/* Whole pages that `bytes` take. */
uint64_t segment_round_up(uint64_t bytes);

/* A memfd of whole pages, all of them allocated, sealed in size. */
moxie_status_t segment_create(uint64_t bytes, int *fd);

/* From here on only the mappings that exist can write to it. */
moxie_status_t segment_seal_writing(int fd);

/* MOXIE_OK when `fd` is a memfd that can't shrink and holds `bytes` from `offset` on. */
moxie_status_t segment_check(int fd, uint64_t offset, uint64_t bytes);

/* Maps whole pages, present at once; `writable` 0 maps for reading only. */
moxie_status_t segment_map(int fd, uint64_t offset, uint64_t bytes, int writable, void **base);

void segment_unmap(void *base, uint64_t bytes);

#endif
