/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Route update: each rank counts its own tokens, tells everyone its counts, and derives every row's
 * place from the counts of all. The counts travel before any payload.
 */
#include "core/error.h"
#include "core/placement.h"
#include "exchange/shm/counts.h"
#include "exchange/shm/low_latency.h"
#include "exchange/shm/shm.h"
#include "transport/shm/signal.h"

#include <inttypes.h>

/* The body of an update's message. */
typedef struct update_body {
    route_terms_t terms;
    int64_t row_capacity;
    int64_t counts[]; /* rows to each rank [rank_count], then to each expert [expert_count] */
} update_body_t;

static uint32_t body_bytes(const route_shape_t *shape)
{
    return (uint32_t)(sizeof(update_body_t) + counts_bytes(shape));
}

static void write_body(const moxie_route_t *route, shm_message_t *message)
{
    const route_state_t *state = route->state;
    update_body_t *body = (update_body_t *)message->body;
    message->body_bytes = body_bytes(&state->shape);
    body->terms.shape = state->shape;
    body->terms.placement_digest = placement_digest(route->placement);
    body->row_capacity = route->row_capacity;
    counts_write(state, body->counts);
}

static const update_body_t *body_of(const moxie_route_t *route, int32_t rank)
{
    return (const update_body_t *)signal_message(shm_of(route->group)->transport, rank)->body;
}

/* All ranks must mean the same exchange. */
static moxie_status_t compare_terms(const moxie_route_t *route)
{
    moxie_status_t status = MOXIE_OK;
    for (int32_t rank = 1; rank < route->group->rank_count && status == MOXIE_OK; rank++) {
        status = route_terms_compare(&body_of(route, 0)->terms, &body_of(route, rank)->terms, rank);
    }
    return status;
}

/* Copies the counts of all ranks into the route's tables. */
static moxie_status_t read_counts(const moxie_route_t *route)
{
    moxie_status_t status = MOXIE_OK;
    for (int32_t rank = 0; rank < route->group->rank_count && status == MOXIE_OK; rank++) {
        status = counts_read(route->state, rank, body_of(route, rank)->counts);
    }
    return status;
}

/* The same on every rank: the first rank whose buffers are too small. */
static moxie_status_t check_capacities(const moxie_route_t *route)
{
    const int64_t *needs = route_recv_count(route->state);
    for (int32_t rank = 0; rank < route->group->rank_count; rank++) {
        const int64_t capacity = body_of(route, rank)->row_capacity;
        if (needs[rank] > capacity) {
            error_set(MOXIE_ERR_CAPACITY,
                      "rank %d receives %" PRId64 " rows and its row_capacity is %" PRId64, rank,
                      needs[rank], capacity);
            moxie_error_t *detail = error_detail();
            detail->rank = rank;
            detail->peer = rank;
            detail->expected = needs[rank];
            detail->observed = capacity;
            return MOXIE_ERR_CAPACITY;
        }
    }
    return MOXIE_OK;
}

moxie_status_t shm_route_update(moxie_route_t *route, const moxie_routing_t *routing,
                                moxie_stream_t stream)
{
    if (route->state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return low_latency_update(route, routing);
    }
    (void)stream; /* the processor has none */
    shm_transport_t *transport = shm_of(route->group)->transport;
    shm_message_t *message;
    moxie_status_t status =
        signal_begin(&transport->group_channel, SHM_OP_UPDATE, route->id, &message);
    if (status != MOXIE_OK) {
        return status;
    }
    status = route_state_count(route->state, route->placement, routing);
    write_body(route, message);
    status = signal_meet(transport, status);
    if (status == MOXIE_OK) {
        status = signal_check_bodies(transport, sizeof(update_body_t));
    }
    if (status == MOXIE_OK) {
        status = compare_terms(route);
    }
    if (status == MOXIE_OK) { /* of the same shape, so of the same length */
        status = signal_check_bodies(transport, body_bytes(&route->state->shape));
    }
    if (status == MOXIE_OK) {
        status = read_counts(route);
    }
    if (status == MOXIE_OK) {
        route_state_derive(route->state, route->placement);
        status = check_capacities(route);
    }
    return status;
}
