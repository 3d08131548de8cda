/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange/low_latency_check.h"

#include "core/error.h"

#include <inttypes.h>

moxie_status_t low_latency_check_half(const moxie_route_t *route, low_latency_half_t half,
                                      low_latency_half_t wanted)
{
    static const char *const names[] = {"none", "a dispatch's", "a combine's"};
    return half == wanted ? MOXIE_OK
                          : error_set(MOXIE_ERR_ARGUMENT,
                                      "rank %d: the second half that comes next on this route is "
                                      "%s, not %s",
                                      route->group->rank, names[half], names[wanted]);
}

moxie_status_t low_latency_check_input(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                                       dispatch_rows_t *kind)
{
    const route_state_t *state = route->state;
    const int32_t rank = route->group->rank;
    if (!route->has_routing) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: the route has no routing", rank);
    }
    const moxie_status_t status = dispatch_rows_read(in, &state->shape, kind);
    if (status != MOXIE_OK) {
        return status;
    }
    if (kind->wire_dtype == MOXIE_DTYPE_FP32) {
        return error_set(MOXIE_ERR_UNSUPPORTED,
                         "rank %d: low latency dispatches rows of bf16 and fp8, not of fp32", rank);
    }
    if (in->x == NULL && state->token_count > 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: x is NULL", rank);
    }
    return dispatch_rows_check_scales(kind, rank, in->x_scales, state->token_count, NULL, 0);
}

/* In rank_major rows stay in the slots: nothing else may be named. */
static moxie_status_t check_slots(const moxie_route_t *route, const moxie_dispatch_out_t *out)
{
    const int32_t rank = route->group->rank;
    moxie_dispatch_out_t slots = MOXIE_DISPATCH_OUT_INIT;
    route->group->backend->route_slots(route, &slots);
    const struct {
        const char *name;
        const void *given, *own;
    } buffers[] = {{"recv_x", out->recv_x, slots.recv_x},
                   {"recv_topk_idx", out->recv_topk_idx, slots.recv_topk_idx},
                   {"recv_topk_weights", out->recv_topk_weights, slots.recv_topk_weights},
                   {"recv_scales", out->recv_scales, slots.recv_scales}};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
        if (buffers[i].given != NULL && buffers[i].given != buffers[i].own) {
            return error_set(MOXIE_ERR_ARGUMENT,
                             "rank %d: %s is not the route's own, which moxie_route_slots() tells",
                             rank, buffers[i].name);
        }
    }
    if (out->row_weight != NULL || out->row_source != NULL || out->expert_start != NULL) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "rank %d: row_weight, row_source and expert_start are of expert_major, "
                         "the route is rank_major",
                         rank);
    }
    return MOXIE_OK;
}

/* Every slot may be filled: the worst case is what must fit. */
static moxie_status_t check_capacity(const moxie_route_t *route, int64_t row_capacity)
{
    const int32_t rank = route->group->rank;
    if (row_capacity >= route->row_capacity) {
        return MOXIE_OK;
    }
    error_set(MOXIE_ERR_CAPACITY,
              "rank %d receives %" PRId64 " rows and its row_capacity is %" PRId64, rank,
              route->row_capacity, row_capacity);
    moxie_error_t *detail = error_detail();
    detail->rank = detail->peer = rank;
    detail->expected = route->row_capacity;
    detail->observed = row_capacity;
    return MOXIE_ERR_CAPACITY;
}

moxie_status_t low_latency_check_outputs(const moxie_route_t *route, const dispatch_rows_t *kind,
                                         const moxie_dispatch_out_t *out)
{
    const int32_t rank = route->group->rank;
    if (route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR) {
        return check_slots(route, out);
    }
    if (out->recv_topk_idx != NULL || out->recv_topk_weights != NULL || out->source_count != NULL) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "rank %d: recv_topk_idx, recv_topk_weights and source_count are of "
                         "rank_major, the route is expert_major",
                         rank);
    }
    if (out->recv_x == NULL && route->row_capacity > 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: recv_x is NULL", rank);
    }
    const moxie_status_t status = check_capacity(route, out->row_capacity);
    return status != MOXIE_OK ? status
                              : dispatch_rows_check_scales(kind, rank, NULL, 0, out->recv_scales,
                                                           route->row_capacity);
}

moxie_status_t low_latency_check_y(const moxie_route_t *route, const void *y, const void *slots,
                                   uint64_t slot_bytes)
{
    const uintptr_t offset = (uintptr_t)y - (uintptr_t)slots;
    return offset >= slot_bytes
               ? MOXIE_OK
               : error_set(MOXIE_ERR_ARGUMENT,
                           "rank %d: y lies in the route's slots, where the next rows may come",
                           route->group->rank);
}

moxie_status_t low_latency_no_dispatch(int32_t rank)
{
    return error_set(MOXIE_ERR_ARGUMENT,
                     "rank %d: no dispatch of the route's routing has succeeded", rank);
}
