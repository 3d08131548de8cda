/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA transport of one rank: its GPU, the memory that its peers reach, its windows. The ranks
 * talk through the host's transport where no kernel runs.
 */
#ifndef MOXIE_TRANSPORT_CUDA_TRANSPORT_H
#define MOXIE_TRANSPORT_CUDA_TRANSPORT_H

#include "transport/cuda/sharing.h"
#include "transport/window.h"

typedef struct cuda_transport cuda_transport_t;

typedef struct cuda_window {
    moxie_window_t window;
    cuda_transport_t *transport;
    uint32_t slot; /* in the table on the device; the same on all ranks */
    cuda_sharing_t memory;
} cuda_window_t;

struct cuda_transport {
    shm_transport_t *host;
    cuda_device_t device;
    int32_t ranks_on_device;
    CUstream stream;             /* for set-up: the caller's streams may be waiting for peers */
    cuda_group_report_t *report; /* pinned */
    cuda_sharing_t memory;       /* cuda_control_t, the table of windows, the group's channel */
    cuda_window_t *windows[CUDA_WINDOW_COUNT_MAX]; /* by slot */
    uint64_t window_serial;                        /* the same on all ranks */
};

/* Where the table of windows and the group's channel lie in the group's memory. */
uint64_t cuda_transport_table_offset(void);
uint64_t cuda_transport_channel_offset(int32_t rank_count);

/* What a transport takes on one rank, with a channel of so many bytes. */
void cuda_transport_quote(int32_t rank_count, uint64_t channel_bytes, memory_account_t *out);

moxie_status_t cuda_transport_open(const moxie_group_options_t *options, memory_account_t *account,
                                   moxie_group_counters_t *counters, uint64_t channel_bytes,
                                   cuda_transport_t **out);
void cuda_transport_close(cuda_transport_t *transport);

/* How this transport's memory is shared, for a call named so. */
cuda_sharing_call_t cuda_transport_call(const cuda_transport_t *transport, const char *name);

/* MOXIE_OK, or why the group can only be destroyed; the first time, its peers are told too. */
moxie_status_t cuda_transport_check(cuda_transport_t *transport, const char *op_name);

/* Ends every wait of this rank's kernels, because a peer's process has ended. */
void cuda_transport_abandon(cuda_transport_t *transport, int32_t peer);

/* What a window takes on one rank. */
void cuda_window_quote(int32_t rank_count, uint64_t bytes, memory_account_t *out);

moxie_status_t cuda_window_allocate(cuda_transport_t *transport, uint64_t bytes,
                                    moxie_window_t **out);
moxie_status_t cuda_window_register(cuda_transport_t *transport, const moxie_memory_t *memory,
                                    moxie_window_t **out);
void cuda_window_free(moxie_window_t *window);

/* The window that an address lies in; NULL: none. */
const cuda_window_t *cuda_window_find(const cuda_transport_t *transport, const void *address);

#endif
