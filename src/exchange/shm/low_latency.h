/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of low latency: what their update and dispatch do. */
#ifndef MOXIE_EXCHANGE_SHM_LOW_LATENCY_H
#define MOXIE_EXCHANGE_SHM_LOW_LATENCY_H

#include "exchange/shm/slots.h"

moxie_status_t low_latency_update(moxie_route_t *route, const moxie_routing_t *routing);

/* Both halves. */
moxie_status_t low_latency_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                    const moxie_dispatch_out_t *out);

moxie_status_t low_latency_dispatch_send(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                         moxie_stream_t stream);
moxie_status_t low_latency_dispatch_receive(moxie_route_t *route, const moxie_dispatch_out_t *out,
                                            moxie_stream_t stream);

#endif
