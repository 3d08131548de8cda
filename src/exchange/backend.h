/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backend is: a probe, windows, a barrier, and its own dispatch and combine. There is no
 * common put or get: each backend moves data its own best way. What it lacks is NULL, and a
 * capability bit is missing.
 */
#ifndef MOXIE_EXCHANGE_BACKEND_H
#define MOXIE_EXCHANGE_BACKEND_H

#include "core/knob.h"
#include "core/memory.h"
#include "core/route.h"
#include "moxie/backend.h"
#include "moxie/exchange.h"
#include "moxie/quote.h"

#include <stdbool.h>

typedef struct backend {
    const char *name;
    uint32_t capabilities; /* MOXIE_CAP_* */
    const knob_t *knobs;
    size_t knob_count;

    /* Fills in available, reason and detail. */
    void (*probe)(moxie_backend_info_t *out);

    /* Memory of a group, and of a window, on one rank. */
    void (*group_quote)(int32_t rank_count, memory_account_t *out);
    void (*window_quote)(int32_t rank_count, uint64_t bytes, memory_account_t *out);

    moxie_status_t (*group_open)(moxie_group_t *group, const moxie_group_options_t *options);
    void (*group_close)(moxie_group_t *group);
    moxie_status_t (*barrier)(moxie_group_t *group);
    moxie_status_t (*group_status)(const moxie_group_t *group);
    /* A device backend's; NULL on the CPU. */
    int32_t (*device)(const moxie_group_t *group);
    int32_t (*sm_count)(const moxie_group_t *group);
    moxie_status_t (*stream_barrier)(moxie_group_t *group, moxie_stream_t stream);
    void (*counters)(const moxie_group_t *group, moxie_group_counters_t *out);
    void (*peer_counters)(const moxie_group_t *group, int32_t rank, moxie_peer_counters_t *out);
    void (*dump)(const moxie_group_t *group, int fd);
    /* False: it is not remembered. NULL on a device, where the host sees no phases. */
    bool (*operation)(const moxie_group_t *group, uint64_t op, moxie_operation_t *out);
    moxie_status_t (*allgather)(moxie_group_t *group, const void *in, size_t bytes, void *out);

    moxie_status_t (*window_allocate)(moxie_group_t *group, size_t bytes, moxie_window_t **out);
    moxie_status_t (*window_register)(moxie_group_t *group, const moxie_memory_t *memory,
                                      moxie_window_t **out);
    void (*window_free)(moxie_window_t *window);

    /* What a backend keeps for a route beside its host state; may be NULL. The options are checked,
     * and `route` holds placement, capacity and shape already. */
    void (*route_quote)(const route_shape_t *shape, memory_account_t *out);
    moxie_status_t (*route_open)(moxie_route_t *route);
    void (*route_close)(moxie_route_t *route);
    /* Waits for what was called on the route, then brings its host state up to date. */
    moxie_status_t (*route_settle)(moxie_route_t *route);
    /* Fills in all of the host state, for a check. */
    moxie_status_t (*route_download)(moxie_route_t *route);

    moxie_status_t (*route_update)(moxie_route_t *route, const moxie_routing_t *routing,
                                   moxie_stream_t stream);
    /* Both in one, for a route in standard mode; NULL where they follow each other as well. */
    moxie_status_t (*dispatch_routing)(moxie_route_t *route, const moxie_routing_t *routing,
                                       const moxie_dispatch_in_t *in,
                                       const moxie_dispatch_out_t *out, moxie_stream_t stream);
    moxie_status_t (*dispatch)(moxie_route_t *route, const moxie_dispatch_in_t *in,
                               const moxie_dispatch_out_t *out, moxie_stream_t stream);
    moxie_status_t (*combine)(moxie_route_t *route, const moxie_combine_in_t *in,
                              const moxie_combine_out_t *out, moxie_stream_t stream);
    moxie_status_t (*dispatch_backward)(moxie_route_t *route,
                                        const moxie_dispatch_backward_in_t *in,
                                        const moxie_dispatch_backward_out_t *out,
                                        moxie_stream_t stream);
    moxie_status_t (*combine_backward)(moxie_route_t *route, const moxie_combine_backward_in_t *in,
                                       const moxie_combine_backward_out_t *out,
                                       moxie_stream_t stream);

    /* Low latency: NULL without MOXIE_CAP_LOW_LATENCY. With it `dispatch` and `combine` are both
     * halves in one, for a route in that mode. */
    void (*route_slots)(const moxie_route_t *route, moxie_dispatch_out_t *out); /* rank_major */
    moxie_status_t (*dispatch_send)(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                    moxie_stream_t stream);
    moxie_status_t (*dispatch_receive)(moxie_route_t *route, const moxie_dispatch_out_t *out,
                                       moxie_stream_t stream);
    moxie_status_t (*combine_send)(moxie_route_t *route, const moxie_combine_in_t *in,
                                   moxie_stream_t stream);
    moxie_status_t (*combine_receive)(moxie_route_t *route, const moxie_combine_out_t *out,
                                      moxie_stream_t stream);

    moxie_status_t (*ceiling)(moxie_group_t *group, const moxie_ceiling_in_t *in,
                              uint64_t *time_ns);
} backend_t;

/* The backend of NVIDIA GPUs: in a library without CUDA kernels one that only says so. */
extern const backend_t cuda_backend;

/* The backend that `name` asks for; NULL or "auto": the best one that works here. */
moxie_status_t backend_select(const char *name, const backend_t **out);

#endif
