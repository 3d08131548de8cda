/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Route update: each rank counts its own tokens, tells everyone its counts, and derives every row's
 * place from the counts of all. The counts travel before any payload.
 */
#include "core/error.h"
#include "core/placement.h"
#include "exchange/shm/shm.h"
#include "transport/shm/signal.h"

#include <inttypes.h>
#include <string.h>

/* The body of an update's message. */
typedef struct update_body {
    route_terms_t terms;
    int64_t row_capacity;
    int64_t counts[]; /* rows to each rank [rank_count], then to each expert [expert_count] */
} update_body_t;

static uint32_t body_bytes(const route_shape_t *shape)
{
    return (uint32_t)(sizeof(update_body_t) +
                      sizeof(int64_t) * (size_t)(shape->rank_count + shape->expert_count));
}

static void write_body(const moxie_route_t *route, shm_message_t *message)
{
    const route_state_t *state = route->state;
    const int32_t rank_count = state->shape.rank_count;
    update_body_t *body = (update_body_t *)message->body;
    message->body_bytes = body_bytes(&state->shape);
    body->terms.shape = state->shape;
    body->terms.placement_digest = placement_digest(route->placement);
    body->row_capacity = route->row_capacity;
    memcpy(body->counts, route_row_count(state, state->shape.rank),
           sizeof(int64_t) * (size_t)rank_count);
    memcpy(body->counts + rank_count, route_expert_count(state, state->shape.rank),
           sizeof(int64_t) * (size_t)state->shape.expert_count);
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

static moxie_status_t check_counts(const route_state_t *state, int32_t rank, const int64_t *counts,
                                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (counts[i] < 0 || counts[i] > state->shape.token_count_max) {
            error_set(MOXIE_ERR_PROTOCOL, "rank %d says it sends %" PRId64 " rows", rank,
                      counts[i]);
            error_detail()->peer = rank;
            return MOXIE_ERR_PROTOCOL;
        }
    }
    return MOXIE_OK;
}

/* Copies the counts of all ranks into the route's tables, and refuses what cannot be. The copies
 * are looked at, not the peers' memory. */
static moxie_status_t read_counts(const moxie_route_t *route)
{
    const route_state_t *state = route->state;
    const size_t rank_count = (size_t)state->shape.rank_count;
    const size_t expert_count = (size_t)state->shape.expert_count;
    for (int32_t rank = 0; rank < state->shape.rank_count; rank++) {
        const int64_t *counts = body_of(route, rank)->counts;
        memcpy(route_row_count(state, rank), counts, sizeof(int64_t) * rank_count);
        memcpy(route_expert_count(state, rank), counts + rank_count,
               sizeof(int64_t) * expert_count);
        moxie_status_t status = check_counts(state, rank, route_row_count(state, rank), rank_count);
        if (status == MOXIE_OK) {
            status = check_counts(state, rank, route_expert_count(state, rank), expert_count);
        }
        if (status != MOXIE_OK) {
            return status;
        }
    }
    return MOXIE_OK;
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
    (void)stream; /* the processor has none */
    shm_transport_t *transport = shm_of(route->group)->transport;
    shm_message_t *message;
    moxie_status_t status = signal_begin(&transport->group_channel, SHM_OP_UPDATE, route->id, &message);
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
