/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded before libmoxie: makes the exchange wrong by one bit in the output that the environment
 * variable CORRUPT names, so that a test can show that `moxie bench` notices. */
#include "moxie/exchange.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* Flips the lowest bit of an output, if it is the one. */
static void corrupt(const char *name, void *output)
{
    const char *wanted = getenv("CORRUPT");
    if (wanted != NULL && output != NULL && strcmp(wanted, name) == 0)
        *(unsigned char *)output ^= 1u;
}

/* The library's own function behind ours. */
static void *find(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static void corrupt_received(const moxie_dispatch_out_t *out)
{
    corrupt("recv_x", out->recv_x);
    corrupt("recv_topk_idx", out->recv_topk_idx);
    corrupt("recv_topk_weights", out->recv_topk_weights);
    corrupt("row_weight", out->row_weight);
    corrupt("row_source", out->row_source);
    corrupt("expert_count", out->expert_count);
    corrupt("expert_start", out->expert_start);
    corrupt("recv_scales", out->recv_scales);
}

MOXIE_API moxie_status_t moxie_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                        const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    moxie_status_t (*real)(moxie_route_t *, const moxie_dispatch_in_t *,
                           const moxie_dispatch_out_t *, moxie_stream_t);
    *(void **)&real = find("moxie_dispatch");
    moxie_status_t status = real(route, in, out, stream);
    corrupt_received(out);
    return status;
}

MOXIE_API moxie_status_t moxie_dispatch_routing(moxie_route_t *route,
                                                const moxie_routing_t *routing,
                                                const moxie_dispatch_in_t *in,
                                                const moxie_dispatch_out_t *out,
                                                moxie_stream_t stream)
{
    moxie_status_t (*real)(moxie_route_t *, const moxie_routing_t *, const moxie_dispatch_in_t *,
                           const moxie_dispatch_out_t *, moxie_stream_t);
    *(void **)&real = find("moxie_dispatch_routing");
    moxie_status_t status = real(route, routing, in, out, stream);
    corrupt_received(out);
    return status;
}

MOXIE_API moxie_status_t moxie_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                                       const moxie_combine_out_t *out, moxie_stream_t stream)
{
    moxie_status_t (*real)(moxie_route_t *, const moxie_combine_in_t *, const moxie_combine_out_t *,
                           moxie_stream_t);
    *(void **)&real = find("moxie_combine");
    moxie_status_t status = real(route, in, out, stream);
    corrupt("out", out->out);
    return status;
}

MOXIE_API moxie_status_t moxie_dispatch_backward(moxie_route_t *route,
                                                 const moxie_dispatch_backward_in_t *in,
                                                 const moxie_dispatch_backward_out_t *out,
                                                 moxie_stream_t stream)
{
    moxie_status_t (*real)(moxie_route_t *, const moxie_dispatch_backward_in_t *,
                           const moxie_dispatch_backward_out_t *, moxie_stream_t);
    *(void **)&real = find("moxie_dispatch_backward");
    moxie_status_t status = real(route, in, out, stream);
    corrupt("d_x", out->d_x);
    corrupt("travelled d_topk_weights", out->d_topk_weights);
    return status;
}

MOXIE_API moxie_status_t moxie_combine_backward(moxie_route_t *route,
                                                const moxie_combine_backward_in_t *in,
                                                const moxie_combine_backward_out_t *out,
                                                moxie_stream_t stream)
{
    moxie_status_t (*real)(moxie_route_t *, const moxie_combine_backward_in_t *,
                           const moxie_combine_backward_out_t *, moxie_stream_t);
    *(void **)&real = find("moxie_combine_backward");
    moxie_status_t status = real(route, in, out, stream);
    corrupt("d_y", out->d_y);
    corrupt("computed d_topk_weights", out->d_topk_weights);
    return status;
}
