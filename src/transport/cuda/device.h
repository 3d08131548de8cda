/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU of one rank: its primary context, which the caller's own work uses too. */
#ifndef MOXIE_TRANSPORT_CUDA_DEVICE_H
#define MOXIE_TRANSPORT_CUDA_DEVICE_H

#include "core/memory.h"
#include "driver/cuda.h"
#include "moxie/status.h"

typedef struct cuda_device {
    int32_t ordinal;
    CUdevice device;
    CUcontext context; /* primary; NULL: not open */
    int32_t sm_count;
} cuda_device_t;

/* MOXIE_OK for CUDA_SUCCESS; else the error says what was refused. */
moxie_status_t cuda_check(CUresult result, const char *what);

/* Opens the GPU with an ordinal; -1: that of the calling thread's context, else rank % GPUs. */
moxie_status_t cuda_device_open(int32_t ordinal, int32_t rank, cuda_device_t *out);
void cuda_device_close(cuda_device_t *device);

/*
 * Makes the device's context the calling thread's for as long as it takes. Memory is made and freed
 * meanwhile without a word to graphs that the thread is capturing: they stay valid.
 */
moxie_status_t cuda_device_enter(const cuda_device_t *device);
void cuda_device_leave(void);

/* Zeroed memory of the host that kernels of this process can write. */
moxie_status_t cuda_pinned_allocate(memory_account_t *account, uint64_t bytes, void **out);
void cuda_pinned_release(memory_account_t *account, void *memory, uint64_t bytes);

#endif
