/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Offers: what every rank tells the others when an exchange begins. Naming a buffer says where it
 * lies and that it may be written, or read, from now on; that holds on cached routes too.
 */
#ifndef MOXIE_EXCHANGE_SHM_OFFER_H
#define MOXIE_EXCHANGE_SHM_OFFER_H

#include "exchange/shm/shm.h"
#include "transport/shm/signal.h"
#include "transport/shm/window.h"

/* Buffers one exchange can have on the receiving side. */
#define OFFER_BUFFER_COUNT 4

typedef struct shm_offer {
    int32_t dtype;      /* of the rows; the same on all ranks, as the next four */
    int32_t wire_dtype; /* of partials, or of rows on the way */
    int32_t unweighted;
    int32_t scale_type; /* of fp8 rows, else 0 */
    int32_t scale_layout;
    int32_t wants_gradient; /* this rank wants the weights' gradient: the second buffer is needed */
    shm_buffer_t buffers[OFFER_BUFFER_COUNT];
    int64_t row_counts[OFFER_BUFFER_COUNT]; /* rows that each is laid out for */
} shm_offer_t;

/* A buffer of the receiving side, for offer_name(). */
typedef struct offer_buffer {
    const void *pointer;
    int64_t row_bytes;
    const char *name;
    int64_t row_count; /* rows that it is laid out for; 0: as many as come */
    int is_needed;     /* where rows come; the first one always is */
} offer_buffer_t;

/* An exchange under way. */
typedef struct shm_exchange_op {
    moxie_route_t *route;
    shm_transport_t *transport;
    shm_offer_t *offer; /* in the message being made */
    int64_t row_bytes[OFFER_BUFFER_COUNT];
    int is_needed[OFFER_BUFFER_COUNT];
} shm_exchange_op_t;

/* Begins an exchange on a route. Fails at once only when the group has failed. */
moxie_status_t offer_begin(moxie_route_t *route, shm_op_kind_t kind, shm_exchange_op_t *op);

/* Refuses a route without a routing. */
moxie_status_t offer_check_routing(const shm_exchange_op_t *op);

/* Checks that the route has a routing, and the dtypes of rows that are summed. */
moxie_status_t offer_check(const shm_exchange_op_t *op, moxie_dtype_t dtype,
                           moxie_dtype_t wire_dtype);

/* Names this rank's buffers. */
moxie_status_t offer_name(shm_exchange_op_t *op, const offer_buffer_t *buffers, int32_t count);

/* Meets the peers with this rank's status and judges whether the offers fit together. */
moxie_status_t offer_meet(shm_exchange_op_t *op, moxie_status_t local);

/* The second half of it, after signal_post(). */
moxie_status_t offer_await(shm_exchange_op_t *op);

/* MOXIE_ERR_MISMATCH: what `rank` says is not what rank 0 says. */
moxie_status_t offer_differ(int32_t rank, const char *what, int32_t expected, int32_t observed);

/* Where this rank has each rank's buffer `index` mapped, into bases [rank_count]; NULL: absent. And
 * the rows it is laid out for, into row_counts [rank_count] unless that is NULL. */
moxie_status_t offer_map(const shm_exchange_op_t *op, int32_t index, char **bases,
                         int64_t *row_counts);

/* Refuses a capacity below what the routing brings to this rank. */
moxie_status_t offer_check_capacity(const moxie_route_t *route, int64_t row_capacity);

#endif
