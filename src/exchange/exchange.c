/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch, combine and their backward: the public calls. Each reads the caller's structs, of
 * whatever version, and hands over to the backend. */
#include "moxie/exchange.h"

#include "core/error.h"
#include "core/options.h"
#include "exchange/group.h"

/* Reads the one struct of half a call, of a route that has halves. */
#define READ_HALF(route, struct_, ours, name)                                                      \
    do {                                                                                           \
        moxie_status_t status_ = check_halves(route, name);                                        \
        if (status_ == MOXIE_OK) {                                                                 \
            status_ = options_read(&(ours), struct_, sizeof(ours), name);                          \
        }                                                                                          \
        if (status_ != MOXIE_OK) {                                                                 \
            return status_;                                                                        \
        }                                                                                          \
    } while (0)

/* Reads a pair of structs, in and out. */
#define READ_PAIR(route, in, out, ours_in, ours_out, name)                                         \
    do {                                                                                           \
        if ((route) == NULL) {                                                                     \
            return error_set(MOXIE_ERR_ARGUMENT, name ": the route is NULL");                      \
        }                                                                                          \
        moxie_status_t status_ = options_read(&(ours_in), in, sizeof(ours_in), name " input");     \
        if (status_ == MOXIE_OK) {                                                                 \
            status_ = options_read(&(ours_out), out, sizeof(ours_out), name " output");            \
        }                                                                                          \
        if (status_ != MOXIE_OK) {                                                                 \
            return status_;                                                                        \
        }                                                                                          \
    } while (0)

static moxie_status_t check_halves(const moxie_route_t *route, const char *name)
{
    if (route == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "%s: the route is NULL", name);
    }
    if (route->state->shape.mode != MOXIE_MODE_LOW_LATENCY) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "%s: only routes of low latency have halves", name);
    }
    return MOXIE_OK;
}

/* Decoding has no gradients. */
static moxie_status_t check_backward(const moxie_route_t *route)
{
    return route->state->shape.mode == MOXIE_MODE_LOW_LATENCY
               ? error_set(MOXIE_ERR_UNSUPPORTED, "routes of low latency have no backward")
               : MOXIE_OK;
}

/* A backend without fp8 copies rows as they are and need not know what fp8 rows bring with them.
 * All ranks have the same backend. */
static moxie_status_t check_fp8(const backend_t *backend, const moxie_dispatch_in_t *in)
{
    const int is_copied = in->wire_dtype == 0 || in->wire_dtype == in->dtype;
    if ((backend->capabilities & MOXIE_CAP_FP8) == 0 &&
        (in->dtype == MOXIE_DTYPE_FP8_E4M3 || !is_copied || in->x_scales != NULL)) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "backend %s dispatches no rows of fp8",
                         backend->name);
    }
    return MOXIE_OK;
}

/* The same of what only they receive, and only low latency. */
static moxie_status_t check_outputs(const backend_t *backend, const moxie_dispatch_out_t *out)
{
    if ((backend->capabilities & MOXIE_CAP_FP8) == 0 && out->recv_scales != NULL) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "backend %s dispatches no rows of fp8",
                         backend->name);
    }
    if ((backend->capabilities & MOXIE_CAP_LOW_LATENCY) == 0 && out->source_count != NULL) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "backend %s has no routes of low latency",
                         backend->name);
    }
    return MOXIE_OK;
}

moxie_status_t moxie_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                              const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    moxie_dispatch_in_t ours_in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t ours_out = MOXIE_DISPATCH_OUT_INIT;
    READ_PAIR(route, in, out, ours_in, ours_out, "dispatch");
    const backend_t *backend = route->group->backend;
    moxie_status_t status = check_fp8(backend, &ours_in);
    if (status == MOXIE_OK) {
        status = check_outputs(backend, &ours_out);
    }
    return status != MOXIE_OK ? status : backend->dispatch(route, &ours_in, &ours_out, stream);
}

moxie_status_t moxie_dispatch_routing(moxie_route_t *route, const moxie_routing_t *routing,
                                      const moxie_dispatch_in_t *in,
                                      const moxie_dispatch_out_t *out, moxie_stream_t stream)
{
    moxie_routing_t ours_routing = MOXIE_ROUTING_INIT;
    moxie_dispatch_in_t ours_in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t ours_out = MOXIE_DISPATCH_OUT_INIT;
    READ_PAIR(route, in, out, ours_in, ours_out, "dispatch_routing");
    const backend_t *backend = route->group->backend;
    moxie_status_t status =
        options_read(&ours_routing, routing, sizeof(ours_routing), "moxie_routing_t");
    if (status == MOXIE_OK) {
        status = check_fp8(backend, &ours_in);
    }
    if (status == MOXIE_OK) {
        status = check_outputs(backend, &ours_out);
    }
    if (status == MOXIE_OK && backend->dispatch_routing != NULL &&
        route->state->shape.mode == MOXIE_MODE_STANDARD) {
        return backend->dispatch_routing(route, &ours_routing, &ours_in, &ours_out, stream);
    }
    if (status == MOXIE_OK) {
        status = moxie_route_update(route, &ours_routing, stream);
    }
    return status != MOXIE_OK ? status : backend->dispatch(route, &ours_in, &ours_out, stream);
}

moxie_status_t moxie_dispatch_send(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                   moxie_stream_t stream)
{
    moxie_dispatch_in_t ours = MOXIE_DISPATCH_IN_INIT;
    READ_HALF(route, in, ours, "dispatch_send");
    const moxie_status_t status = check_fp8(route->group->backend, &ours);
    return status != MOXIE_OK ? status : route->group->backend->dispatch_send(route, &ours, stream);
}

moxie_status_t moxie_dispatch_receive(moxie_route_t *route, const moxie_dispatch_out_t *out,
                                      moxie_stream_t stream)
{
    moxie_dispatch_out_t ours = MOXIE_DISPATCH_OUT_INIT;
    READ_HALF(route, out, ours, "dispatch_receive");
    return route->group->backend->dispatch_receive(route, &ours, stream);
}

moxie_status_t moxie_combine_send(moxie_route_t *route, const moxie_combine_in_t *in,
                                  moxie_stream_t stream)
{
    moxie_combine_in_t ours = MOXIE_COMBINE_IN_INIT;
    READ_HALF(route, in, ours, "combine_send");
    return route->group->backend->combine_send(route, &ours, stream);
}

moxie_status_t moxie_combine_receive(moxie_route_t *route, const moxie_combine_out_t *out,
                                     moxie_stream_t stream)
{
    moxie_combine_out_t ours = MOXIE_COMBINE_OUT_INIT;
    READ_HALF(route, out, ours, "combine_receive");
    return route->group->backend->combine_receive(route, &ours, stream);
}

moxie_status_t moxie_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                             const moxie_combine_out_t *out, moxie_stream_t stream)
{
    moxie_combine_in_t ours_in = MOXIE_COMBINE_IN_INIT;
    moxie_combine_out_t ours_out = MOXIE_COMBINE_OUT_INIT;
    READ_PAIR(route, in, out, ours_in, ours_out, "combine");
    return route->group->backend->combine(route, &ours_in, &ours_out, stream);
}

moxie_status_t moxie_dispatch_backward(moxie_route_t *route, const moxie_dispatch_backward_in_t *in,
                                       const moxie_dispatch_backward_out_t *out,
                                       moxie_stream_t stream)
{
    moxie_dispatch_backward_in_t ours_in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    moxie_dispatch_backward_out_t ours_out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    READ_PAIR(route, in, out, ours_in, ours_out, "dispatch_backward");
    const moxie_status_t status = check_backward(route);
    return status != MOXIE_OK
               ? status
               : route->group->backend->dispatch_backward(route, &ours_in, &ours_out, stream);
}

moxie_status_t moxie_combine_backward(moxie_route_t *route, const moxie_combine_backward_in_t *in,
                                      const moxie_combine_backward_out_t *out,
                                      moxie_stream_t stream)
{
    moxie_combine_backward_in_t ours_in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    moxie_combine_backward_out_t ours_out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    READ_PAIR(route, in, out, ours_in, ours_out, "combine_backward");
    const moxie_status_t status = check_backward(route);
    return status != MOXIE_OK
               ? status
               : route->group->backend->combine_backward(route, &ours_in, &ours_out, stream);
}

moxie_status_t moxie_ceiling_measure(moxie_group_t *group, const moxie_ceiling_in_t *in,
                                     uint64_t *time_ns)
{
    if (group == NULL || time_ns == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "ceiling_measure: an argument is NULL");
    }
    moxie_ceiling_in_t ours = MOXIE_CEILING_IN_INIT;
    const moxie_status_t status = options_read(&ours, in, sizeof(ours), "moxie_ceiling_in_t");
    return status != MOXIE_OK ? status : group->backend->ceiling(group, &ours, time_ns);
}
