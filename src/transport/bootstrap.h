/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bootstrap: how the ranks of one host meet, over a Unix socket. Rank 0 is the hub of a star; the
 * connections stay open for as long as the group lives, and carry file descriptors.
 */
#ifndef MOXIE_TRANSPORT_BOOTSTRAP_H
#define MOXIE_TRANSPORT_BOOTSTRAP_H

#include "core/memory.h"
#include "moxie/group.h"

typedef struct bootstrap bootstrap_t;

/* Bytes of host memory that a bootstrap takes. */
uint64_t bootstrap_bytes(int32_t rank_count);

/* Meets the other ranks. Errors name a missing, doubled or strange rank. */
moxie_status_t bootstrap_open(const moxie_group_options_t *options, memory_account_t *account,
                              uint64_t deadline_ns, bootstrap_t **out);

void bootstrap_close(bootstrap_t *bootstrap, memory_account_t *account);

/* Bytes that one rank may give to an allgather. */
#define BOOTSTRAP_BYTES_MAX 256

/* File descriptors that one rank may give to an allgather. */
#define BOOTSTRAP_FD_COUNT_MAX 2

/* One rank's part of an allgather. Descriptors are -1 where there is none. */
typedef struct bootstrap_part {
    uint32_t bytes;
    unsigned char data[BOOTSTRAP_BYTES_MAX];
    int fds[BOOTSTRAP_FD_COUNT_MAX];
} bootstrap_part_t;

/*
 * Gathers every rank's part on every rank, into `parts` [rank_count]. The descriptors in `parts`
 * are new ones that the caller closes; on failure there are none. A rank that cannot take part
 * because something failed before passes its error in `refusal`, and every rank gets that error.
 */
moxie_status_t bootstrap_allgather(bootstrap_t *bootstrap, const bootstrap_part_t *mine,
                                   const moxie_error_t *refusal, uint64_t deadline_ns,
                                   bootstrap_part_t *parts);

/* 1 once an allgather failed in a way that leaves the ranks out of step: no other will work. */
int bootstrap_is_broken(const bootstrap_t *bootstrap);

/* Closes the descriptors of [count] parts. */
void bootstrap_close_fds(bootstrap_part_t *parts, int32_t count);

#endif
