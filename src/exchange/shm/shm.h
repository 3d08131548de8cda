/* SPDX-License-Identifier: Apache-2.0 */
/* The shared-memory backend: ranks are processes, or threads, of one machine. */
#ifndef MOXIE_EXCHANGE_SHM_SHM_H
#define MOXIE_EXCHANGE_SHM_SHM_H

#include "exchange/group.h"
#include "exchange/shm/rows.h"
#include "transport/shm/transport.h"

extern const backend_t shm_backend;

/* A group's own things on this backend. */
typedef struct shm_exchange {
    shm_transport_t *transport;
    const rows_kernels_t *rows;
    int64_t stream_min_bytes; /* knob */
} shm_exchange_t;

static inline shm_exchange_t *shm_of(const moxie_group_t *group)
{
    return group->implementation;
}

moxie_status_t shm_route_update(moxie_route_t *route, const moxie_routing_t *routing,
                                moxie_stream_t stream);
moxie_status_t shm_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                            const moxie_dispatch_out_t *out, moxie_stream_t stream);
moxie_status_t shm_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                           const moxie_combine_out_t *out, moxie_stream_t stream);
moxie_status_t shm_combine_send(moxie_route_t *route, const moxie_combine_in_t *in,
                                moxie_stream_t stream);
moxie_status_t shm_combine_receive(moxie_route_t *route, const moxie_combine_out_t *out,
                                   moxie_stream_t stream);
moxie_status_t shm_dispatch_backward(moxie_route_t *route, const moxie_dispatch_backward_in_t *in,
                                     const moxie_dispatch_backward_out_t *out,
                                     moxie_stream_t stream);
moxie_status_t shm_combine_backward(moxie_route_t *route, const moxie_combine_backward_in_t *in,
                                    const moxie_combine_backward_out_t *out, moxie_stream_t stream);
moxie_status_t shm_ceiling(moxie_group_t *group, const moxie_ceiling_in_t *in, uint64_t *time_ns);

#endif
