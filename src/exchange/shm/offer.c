/* SPDX-License-Identifier: Apache-2.0 */
/* Making, meeting and mapping offers. */
#include "exchange/shm/offer.h"

#include "core/dtype.h"
#include "core/error.h"
#include "exchange/shm/slots.h"

#include <inttypes.h>
#include <string.h>

moxie_status_t offer_begin(moxie_route_t *route, shm_op_kind_t kind, shm_exchange_op_t *op)
{
    shm_message_t *message;
    memset(op, 0, sizeof(*op));
    op->route = route;
    op->transport = shm_of(route->group)->transport;
    const moxie_status_t status = signal_begin(slots_channel(route), kind, route->id, &message);
    if (status != MOXIE_OK) {
        return status;
    }
    message->body_bytes = sizeof(shm_offer_t);
    op->offer = (shm_offer_t *)message->body;
    memset(op->offer, 0, sizeof(*op->offer));
    return MOXIE_OK;
}

moxie_status_t offer_check_routing(const shm_exchange_op_t *op)
{
    return op->route->has_routing
               ? MOXIE_OK
               : error_set(MOXIE_ERR_ARGUMENT, "rank %d: the route has no routing",
                           op->transport->rank);
}

moxie_status_t offer_check(const shm_exchange_op_t *op, moxie_dtype_t dtype,
                           moxie_dtype_t wire_dtype)
{
    const int32_t rank = op->transport->rank;
    const moxie_status_t status = offer_check_routing(op);
    if (status != MOXIE_OK) {
        return status;
    }
    const moxie_dtype_t dtypes[] = {dtype, wire_dtype};
    for (size_t i = 0; i < 2; i++) {
        if (!dtype_is_summable(dtypes[i])) {
            return error_set(moxie_dtype_bytes(dtypes[i]) != 0 ? MOXIE_ERR_UNSUPPORTED
                                                               : MOXIE_ERR_ARGUMENT,
                             "rank %d: backend shm sums rows of bf16 and fp32, not of type %d (%s)",
                             rank, (int)dtypes[i], moxie_dtype_name(dtypes[i]));
        }
    }
    op->offer->dtype = (int32_t)dtype;
    op->offer->wire_dtype = (int32_t)wire_dtype;
    return MOXIE_OK;
}

moxie_status_t offer_check_capacity(const moxie_route_t *route, int64_t row_capacity)
{
    const int64_t need = route->state->recv_row_count;
    if (row_capacity >= need) {
        return MOXIE_OK;
    }
    error_set(MOXIE_ERR_CAPACITY,
              "rank %d receives %" PRId64 " rows and its row_capacity is %" PRId64,
              route->group->rank, need, row_capacity);
    error_detail()->rank = route->group->rank;
    error_detail()->peer = route->group->rank;
    error_detail()->expected = need;
    error_detail()->observed = row_capacity;
    return MOXIE_ERR_CAPACITY;
}

/* More than any window has where the product is too large to be told. */
static uint64_t offer_bytes(int64_t row_count, int64_t row_bytes)
{
    uint64_t bytes;
    return __builtin_mul_overflow((uint64_t)row_count, (uint64_t)row_bytes, &bytes) ? UINT64_MAX
                                                                                    : bytes;
}

moxie_status_t offer_name(shm_exchange_op_t *op, const offer_buffer_t *buffers, int32_t count)
{
    const int64_t need = op->route->state->recv_row_count;
    for (int32_t i = 0; i < count; i++) {
        const int64_t row_count = buffers[i].row_count > 0 ? buffers[i].row_count : need;
        op->row_bytes[i] = buffers[i].row_bytes;
        op->is_needed[i] = i == 0 || buffers[i].is_needed;
        op->offer->row_counts[i] = row_count;
        if (buffers[i].pointer == NULL && op->is_needed[i] && need > 0) {
            return error_set(MOXIE_ERR_ARGUMENT, "rank %d: %s is NULL", op->transport->rank,
                             buffers[i].name);
        }
        const moxie_status_t status = shm_buffer_name(op->transport, buffers[i].pointer,
                                                      offer_bytes(row_count, buffers[i].row_bytes),
                                                      buffers[i].name, &op->offer->buffers[i]);
        if (status != MOXIE_OK) {
            return status;
        }
    }
    return MOXIE_OK;
}

static const shm_offer_t *offer_of(const shm_exchange_op_t *op, int32_t rank)
{
    return (const shm_offer_t *)signal_message(op->transport, rank)->body;
}

moxie_status_t offer_differ(int32_t rank, const char *what, int32_t expected, int32_t observed)
{
    error_set(MOXIE_ERR_MISMATCH, "%s is %d on rank %d and %d on rank 0", what, observed, rank,
              expected);
    moxie_error_t *detail = error_detail();
    detail->rank = 0;
    detail->peer = rank;
    detail->expected = expected;
    detail->observed = observed;
    return MOXIE_ERR_MISMATCH;
}

/* Somebody wants the weights' gradient, so every rank that received rows must have brought its
 * share. */
static moxie_status_t check_gradients(const shm_exchange_op_t *op)
{
    int wanted = 0;
    for (int32_t rank = 0; rank < op->transport->rank_count; rank++) {
        wanted |= offer_of(op, rank)->wants_gradient;
    }
    for (int32_t rank = 0; wanted && rank < op->transport->rank_count; rank++) {
        if (route_recv_count(op->route->state)[rank] > 0 &&
            !offer_of(op, rank)->buffers[1].present) {
            error_set(MOXIE_ERR_ARGUMENT,
                      "rank %d gave no rows for d_topk_weights, which a rank asks for", rank);
            error_detail()->rank = rank;
            error_detail()->peer = rank;
            return MOXIE_ERR_ARGUMENT;
        }
    }
    return MOXIE_OK;
}

moxie_status_t offer_meet(shm_exchange_op_t *op, moxie_status_t local)
{
    signal_post(op->transport, local);
    return offer_await(op);
}

moxie_status_t offer_await(shm_exchange_op_t *op)
{
    moxie_status_t status = signal_await_posts(op->transport);
    if (status == MOXIE_OK) {
        status = signal_check_bodies(op->transport, sizeof(shm_offer_t));
    }
    const shm_offer_t *first = status == MOXIE_OK ? offer_of(op, 0) : NULL;
    for (int32_t rank = 1; rank < op->transport->rank_count && status == MOXIE_OK; rank++) {
        const shm_offer_t *offer = offer_of(op, rank);
        if (offer->dtype != first->dtype) {
            status = offer_differ(rank, "dtype", first->dtype, offer->dtype);
        } else if (offer->wire_dtype != first->wire_dtype) {
            status = offer_differ(rank, "wire_dtype", first->wire_dtype, offer->wire_dtype);
        } else if (offer->unweighted != first->unweighted) {
            status = offer_differ(rank, "unweighted", first->unweighted, offer->unweighted);
        } else if (offer->scale_type != first->scale_type) {
            status = offer_differ(rank, "scale_type", first->scale_type, offer->scale_type);
        } else if (offer->scale_layout != first->scale_layout) {
            status = offer_differ(rank, "scale_layout", first->scale_layout, offer->scale_layout);
        }
    }
    return status != MOXIE_OK ? status : check_gradients(op);
}

moxie_status_t offer_map(const shm_exchange_op_t *op, int32_t index, char **bases,
                         int64_t *row_counts)
{
    for (int32_t rank = 0; rank < op->transport->rank_count; rank++) {
        const int64_t need = route_recv_count(op->route->state)[rank];
        const int64_t told = offer_of(op, rank)->row_counts[index]; /* read once: the peer's */
        const int64_t row_count = told < need ? need : told;
        void *base;
        moxie_status_t status =
            shm_buffer_map(op->transport, rank, &offer_of(op, rank)->buffers[index],
                           offer_bytes(row_count, op->row_bytes[index]), &base);
        if (status == MOXIE_OK && op->is_needed[index] && base == NULL && need > 0) {
            status = error_set(MOXIE_ERR_PROTOCOL, "rank %d has rows and names no buffer", rank);
            error_detail()->peer = rank;
        }
        if (status != MOXIE_OK) {
            return signal_revoke(op->transport);
        }
        bases[rank] = base;
        if (row_counts != NULL) {
            row_counts[rank] = row_count;
        }
    }
    return MOXIE_OK;
}
