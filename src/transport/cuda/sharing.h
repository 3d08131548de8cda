/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory that every rank of a group has mapped: physical allocations that travel as POSIX
 * file descriptors over the ranks' sockets, or memory of the caller's that travels as a CUDA IPC
 * handle. Never multicast objects. A peer that ends takes nothing away: an allocation lives for as
 * long as somebody has it mapped.
 */
#ifndef MOXIE_TRANSPORT_CUDA_SHARING_H
#define MOXIE_TRANSPORT_CUDA_SHARING_H

#include "moxie/window.h"
#include "transport/cuda/device.h"
#include "transport/cuda/protocol.h"
#include "transport/shm/transport.h"

/* Physical memory comes in pieces of this; what is allocated is rounded up to it. */
#define CUDA_PAGE_BYTES (2u << 20)

typedef enum cuda_sharing_kind {
    CUDA_SHARING_NONE, /* no memory */
    CUDA_SHARING_FD,   /* a physical allocation */
    CUDA_SHARING_IPC,  /* memory of cudaMalloc in another process */
    CUDA_SHARING_OWN,  /* an address that is used as it is */
} cuda_sharing_kind_t;

/* One rank's part as this rank has it mapped. */
typedef struct cuda_part {
    char *base;
    uint64_t bytes;
    char *mapping; /* what is to be undone: the whole mapping that `base` lies in */
    uint64_t mapped_bytes;
    cuda_sharing_kind_t kind;
} cuda_part_t;

typedef struct cuda_sharing {
    int32_t rank;
    int32_t rank_count;
    uint64_t charged_bytes; /* device memory of this rank's own */
    cuda_part_t parts[CUDA_RANK_COUNT_MAX];
} cuda_sharing_t;

/* What differs between calls that share memory. */
typedef struct cuda_sharing_call {
    shm_transport_t *host;
    const cuda_device_t *device;
    CUstream stream;  /* for zeroing */
    const char *name; /* "window_allocate" */
} cuda_sharing_call_t;

/*
 * Allocates `bytes` of zeroed memory on every rank and maps it everywhere. Collective; `local` is
 * this rank's status so far. On failure every rank gets the same error and nothing is left.
 */
moxie_status_t cuda_sharing_allocate(const cuda_sharing_call_t *call, uint64_t bytes,
                                     moxie_status_t local, cuda_sharing_t *out);

/* The same for memory that the caller allocated. */
moxie_status_t cuda_sharing_register(const cuda_sharing_call_t *call, const moxie_memory_t *memory,
                                     moxie_status_t local, cuda_sharing_t *out);

/* Unmaps everything and frees this rank's own. Local. */
void cuda_sharing_close(const cuda_sharing_call_t *call, cuda_sharing_t *sharing);

#endif
