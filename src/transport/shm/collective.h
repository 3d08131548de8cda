/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives of the host: for set-up and statistics, on every backend of one host. */
#ifndef MOXIE_TRANSPORT_SHM_COLLECTIVE_H
#define MOXIE_TRANSPORT_SHM_COLLECTIVE_H

#include "transport/shm/transport.h"

/* Returns when every rank has called it. */
moxie_status_t shm_barrier(shm_transport_t *transport);

/* Gathers `bytes` bytes of every rank into `out` [rank_count][bytes]. */
moxie_status_t shm_allgather(shm_transport_t *transport, const void *in, size_t bytes, void *out);

#endif
