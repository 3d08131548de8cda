/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-memory transport of one rank: its peers, its windows, and the operation it is in.
 */
#ifndef MOXIE_TRANSPORT_SHM_TRANSPORT_H
#define MOXIE_TRANSPORT_SHM_TRANSPORT_H

#include "core/memory.h"
#include "moxie/group.h"
#include "moxie/window.h"
#include "transport/bootstrap.h"
#include "transport/shm/control.h"
#include "transport/shm/recorder.h"

/* Windows a group may have at a time. */
#define SHM_WINDOW_COUNT_MAX 256

/* One rank, as this rank sees it. */
typedef struct shm_peer {
    shm_control_t *control; /* own: writable; a peer's: for reading */
    int pid_fd;             /* readable once the process has ended */
    int32_t pid;
} shm_peer_t;

/* Operations that follow each other, numbered alike on every rank: those of the group, or of one
 * low-latency route. */
typedef struct shm_channel {
    struct shm_transport *transport;
    uint32_t op;        /* number of the operation under way, or of the last */
    shm_line_t **lines; /* [rank_count] own: writable; a peer's: for reading */
} shm_channel_t;

typedef struct shm_transport {
    int32_t rank;
    int32_t rank_count;
    shm_channel_t group_channel;
    shm_channel_t *channel; /* that the operation under way is on */
    const char *op_name;
    uint64_t deadline_ns; /* of the operation under way */
    int64_t timeout_us;
    int64_t first_timeout_us; /* of the first operation; 0 afterwards */
    int32_t spin_count;       /* pauses before a wait yields the processor */
    int32_t yield_count;      /* yields before it sleeps */
    int revoked;
    memory_account_t *account;
    moxie_group_counters_t *counters;
    recorder_t recorder;
    uint64_t *times_ns; /* [rank_count] scratch: when the ranks posted, how long they worked */
    bootstrap_t *bootstrap;
    bootstrap_part_t *parts; /* [rank_count] scratch of allgathers over the bootstrap */
    struct shm_window *windows[SHM_WINDOW_COUNT_MAX]; /* in no order; NULL: free */
    uint64_t window_serial; /* windows made so far; the same on all ranks */
    shm_peer_t *peers;      /* [rank_count] */
} shm_transport_t;

/* What a transport takes on one rank. */
void shm_transport_quote(int32_t rank_count, memory_account_t *out);

/* Meets the peers and maps their control segments. */
moxie_status_t shm_transport_open(const moxie_group_options_t *options, memory_account_t *account,
                                  moxie_group_counters_t *counters, shm_transport_t **out);

/* Local and bounded. Windows must have been freed. */
void shm_transport_close(shm_transport_t *transport);

#endif
