/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives of the host: for set-up and statistics, on every backend of one host. */
#ifndef MOXIE_TRANSPORT_SHM_COLLECTIVE_H
#define MOXIE_TRANSPORT_SHM_COLLECTIVE_H

#include "transport/shm/transport.h"

/* Returns when every rank has called it. */
moxie_status_t shm_barrier(shm_transport_t *transport);

/* The same, and all get the error of the lowest rank that has one. `local` is this rank's status,
 * its details in the thread's record. */
moxie_status_t shm_agree(shm_transport_t *transport, moxie_status_t local);

/* Gathers `bytes` bytes of every rank into `out` [rank_count][bytes]. */
moxie_status_t shm_allgather(shm_transport_t *transport, const void *in, size_t bytes, void *out);

/* Begins a collective call over the bootstrap, which carries descriptors: one deadline for all its
 * rounds. */
moxie_status_t shm_rounds_begin(shm_transport_t *transport, const char *op_name);

/*
 * One round of it: every rank gives `bytes` bytes and a descriptor or -1, and finds those of all in
 * transport->parts; it closes the descriptors. `local` is this rank's status so far, with the
 * thread's error; everyone gets the first error. `what` is described, for a peer that does it
 * wrongly.
 */
moxie_status_t shm_round(shm_transport_t *transport, const char *phase, const char *what,
                         const void *data, uint32_t bytes, int fd, moxie_status_t local);

#endif
