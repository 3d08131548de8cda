/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on a route: what all of them check, offer and end with, and what became of them. */
#include "core/dtype.h"
#include "core/error.h"
#include "exchange/cuda/cuda.h"
#include "transport/deadline.h"
#include "transport/fault.h"
#include "transport/shm/signal.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* How long a kernel may take to notice that a peer which has ended had done its part. */
#define GRACE_NS 200000000u

/* The host gives the device this much longer than its deadline. */
#define HANG_NS UINT64_C(10000000000)

moxie_status_t cuda_call_begin(const moxie_route_t *route, const char *op)
{
    const cuda_exchange_t *exchange = cuda_of(route->group);
    const moxie_status_t status = cuda_transport_check(exchange->transport, op);
    fault_point(route->group->rank, op, "begin");
    return status != MOXIE_OK ? status : cuda_device_enter(&exchange->transport->device);
}

void cuda_offer_status(const moxie_route_t *route, moxie_status_t local, cuda_offer_t *offer)
{
    cuda_route_pinned_t *pinned = cuda_route_of(route)->pinned;
    offer->fields[CUDA_OFFER_STATUS] = (uint32_t)local;
    if (local == MOXIE_OK) {
        return;
    }
    moxie_error_t *error = error_detail();
    error->rank = error->rank < 0 ? route->group->rank : error->rank;
    error->peer = error->peer < 0 ? route->group->rank : error->peer;
    memset(pinned->error, 0, sizeof(pinned->error));
    memcpy(pinned->error, error, sizeof(*error));
    offer->error = pinned->error;
}

void cuda_offer_route_capacity(const moxie_route_t *route, cuda_offer_t *offer)
{
    offer->fields[CUDA_OFFER_ROUTE_CAPACITY_LOW] = (uint32_t)route->row_capacity;
    offer->fields[CUDA_OFFER_ROUTE_CAPACITY_HIGH] = (uint32_t)((uint64_t)route->row_capacity >> 32);
}

_Static_assert(sizeof(moxie_error_t) <= sizeof(uint32_t) * CUDA_ERROR_WORDS,
               "an error fits into the words behind an offer");

/* Where a buffer lies. */
typedef struct buffer_place {
    uint32_t window;
    uint64_t offset;
    uint64_t room; /* bytes from there to the end of the window */
} buffer_place_t;

static moxie_status_t find_place(const moxie_route_t *route, const void *pointer, const char *name,
                                 buffer_place_t *out)
{
    const cuda_window_t *window = cuda_window_find(cuda_of(route->group)->transport, pointer);
    if (window == NULL) {
        return error_set(MOXIE_ERR_WINDOW,
                         "rank %d: %s does not lie in a window of the group: allocate it with "
                         "moxie_window_allocate()",
                         route->group->rank, name);
    }
    out->window = window->slot;
    out->offset = (uint64_t)((uintptr_t)pointer - (uintptr_t)window->window.base);
    out->room = window->window.bytes - out->offset;
    return MOXIE_OK;
}

moxie_status_t cuda_offer_buffer(const moxie_route_t *route, const void *pointer, const char *name,
                                 cuda_offer_t *offer)
{
    buffer_place_t place = {0};
    if (pointer == NULL) {
        return MOXIE_OK; /* a rank that receives nothing needs none: the kernel knows */
    }
    const moxie_status_t status = find_place(route, pointer, name, &place);
    if (status != MOXIE_OK) {
        return status;
    }
    offer->fields[CUDA_OFFER_PRESENT] |= 1u;
    offer->fields[CUDA_OFFER_WINDOW] = place.window;
    offer->fields[CUDA_OFFER_OFFSET_LOW] = (uint32_t)place.offset;
    offer->fields[CUDA_OFFER_OFFSET_HIGH] = (uint32_t)(place.offset >> 32);
    offer->fields[CUDA_OFFER_ROOM_LOW] = (uint32_t)place.room;
    offer->fields[CUDA_OFFER_ROOM_HIGH] = (uint32_t)(place.room >> 32);
    return MOXIE_OK;
}

/* Columns take the whole row_capacity, however many rows come. */
static moxie_status_t check_columns(const moxie_route_t *route, uint64_t room_rows,
                                    int64_t row_capacity)
{
    if (row_capacity <= 0 || (uint64_t)row_capacity <= room_rows) {
        return MOXIE_OK;
    }
    error_set(MOXIE_ERR_WINDOW,
              "rank %d: recv_scales are columns of %" PRId64
              " rows and their window has room for %" PRIu64,
              route->group->rank, row_capacity, room_rows);
    error_detail()->expected = row_capacity;
    error_detail()->observed = (int64_t)room_rows;
    return MOXIE_ERR_WINDOW;
}

moxie_status_t cuda_offer_scales(const moxie_route_t *route, const dispatch_rows_t *rows,
                                 const moxie_dispatch_out_t *out, cuda_offer_t *offer)
{
    buffer_place_t place = {0};
    if (out->recv_scales == NULL) {
        return MOXIE_OK; /* as above */
    }
    moxie_status_t status = find_place(route, out->recv_scales, "recv_scales", &place);
    if (status != MOXIE_OK) {
        return status;
    }
    const uint64_t room_rows = place.room / (uint64_t)rows->scale_row_bytes;
    if (rows->has_column_scales) {
        status = check_columns(route, room_rows, out->row_capacity);
    }
    offer->fields[CUDA_OFFER_PRESENT] |= 4u;
    offer->fields[CUDA_OFFER_SCALES_WINDOW] = place.window;
    offer->fields[CUDA_OFFER_SCALES_OFFSET_LOW] = (uint32_t)place.offset;
    offer->fields[CUDA_OFFER_SCALES_OFFSET_HIGH] = (uint32_t)(place.offset >> 32);
    offer->fields[CUDA_OFFER_SCALES_ROWS] =
        (uint32_t)(room_rows < INT32_MAX ? room_rows : INT32_MAX);
    return status;
}

moxie_status_t cuda_check_dtype(const moxie_route_t *route, moxie_dtype_t dtype)
{
    if (dtype_is_summable(dtype)) {
        return MOXIE_OK;
    }
    return error_set(moxie_dtype_bytes(dtype) != 0 ? MOXIE_ERR_UNSUPPORTED : MOXIE_ERR_ARGUMENT,
                     "rank %d: backend cuda sums rows of bf16 and fp32, not of type %d (%s)",
                     route->group->rank, (int)dtype, moxie_dtype_name(dtype));
}

moxie_status_t cuda_check_routing(const moxie_route_t *route)
{
    return route->has_routing ? MOXIE_OK
                              : error_set(MOXIE_ERR_ARGUMENT, "rank %d: the route has no routing",
                                          route->group->rank);
}

moxie_status_t cuda_check_home(const moxie_route_t *route, const void *pointer, const char *name)
{
    if (pointer != NULL || cuda_route_of(route)->token_count == 0) {
        return MOXIE_OK;
    }
    return error_set(MOXIE_ERR_ARGUMENT, "rank %d: %s is NULL", route->group->rank, name);
}

static moxie_status_t refuse(const moxie_route_t *route, const cuda_verdict_t *verdict,
                             moxie_status_t status)
{
    moxie_error_t *detail = error_detail();
    (void)route;
    detail->rank = status == MOXIE_ERR_MISMATCH ? 0 : verdict->peer;
    detail->peer = verdict->peer;
    detail->token = verdict->token;
    detail->slot = verdict->slot;
    detail->expected = verdict->expected;
    detail->observed = verdict->observed;
    return status;
}

static moxie_status_t routing_error(const moxie_route_t *route, const cuda_verdict_t *verdict)
{
    const int32_t experts = route->state->shape.expert_count;
    const int exists = verdict->observed >= -1 && verdict->observed < experts;
    error_set(MOXIE_ERR_ROUTING,
              "rank %d, token %" PRId64 ", slot %d: expert %" PRId64 " %s (%d experts)",
              verdict->peer, verdict->token, verdict->slot, verdict->observed,
              exists ? "is there twice" : "does not exist", experts);
    return refuse(route, verdict, MOXIE_ERR_ROUTING);
}

static moxie_status_t mismatch_error(const moxie_route_t *route, const cuda_verdict_t *verdict,
                                     const char *what)
{
    error_set(MOXIE_ERR_MISMATCH, "%s is %" PRId64 " on rank %d and %" PRId64 " on rank 0", what,
              verdict->observed, verdict->peer, verdict->expected);
    return refuse(route, verdict, MOXIE_ERR_MISMATCH);
}

static moxie_status_t buffer_error(const moxie_route_t *route, const cuda_verdict_t *verdict)
{
    switch (verdict->refusal) {
    case CUDA_REFUSED_CAPACITY:
        error_set(MOXIE_ERR_CAPACITY,
                  "rank %d receives %" PRId64 " rows and its row_capacity is %" PRId64,
                  verdict->peer, verdict->expected, verdict->observed);
        return refuse(route, verdict, MOXIE_ERR_CAPACITY);
    case CUDA_REFUSED_WINDOW:
        error_set(MOXIE_ERR_WINDOW,
                  "rank %d: its rows take %" PRId64 " bytes and their window ends after %" PRId64,
                  verdict->peer, verdict->expected, verdict->observed);
        return refuse(route, verdict, MOXIE_ERR_WINDOW);
    case CUDA_REFUSED_SCALES_WINDOW:
        error_set(MOXIE_ERR_WINDOW,
                  "rank %d: recv_scales are of %" PRId64
                  " rows and their window has room for %" PRId64,
                  verdict->peer, verdict->expected, verdict->observed);
        return refuse(route, verdict, MOXIE_ERR_WINDOW);
    case CUDA_REFUSED_NO_SCALES:
        error_set(MOXIE_ERR_ARGUMENT, "rank %d: recv_scales is NULL", verdict->peer);
        return refuse(route, verdict, MOXIE_ERR_ARGUMENT);
    case CUDA_REFUSED_MISSING:
        error_set(MOXIE_ERR_ARGUMENT, "rank %d: its buffer of received rows is NULL",
                  verdict->peer);
        return refuse(route, verdict, MOXIE_ERR_ARGUMENT);
    default:
        error_set(MOXIE_ERR_ARGUMENT,
                  "rank %d gave no rows for d_topk_weights, which a rank asks for", verdict->peer);
        return refuse(route, verdict, MOXIE_ERR_ARGUMENT);
    }
}

moxie_status_t cuda_verdict_error(const moxie_route_t *route, const cuda_verdict_t *verdict)
{
    moxie_error_t error;
    switch (verdict->refusal) {
    case CUDA_REFUSED_NOT:
        return MOXIE_OK;
    case CUDA_REFUSED_KIND:
        return mismatch_error(route, verdict, "the kind of operation");
    case CUDA_REFUSED_CALL:
        memcpy(&error, verdict->error, sizeof(error));
        return error_adopt(&error);
    case CUDA_REFUSED_ROUTING:
        return routing_error(route, verdict);
    case CUDA_REFUSED_DTYPE:
        return mismatch_error(route, verdict, "dtype");
    case CUDA_REFUSED_WIRE_DTYPE:
        return mismatch_error(route, verdict, "wire_dtype");
    case CUDA_REFUSED_UNWEIGHTED:
        return mismatch_error(route, verdict, "unweighted");
    case CUDA_REFUSED_SCALE_TYPE:
        return mismatch_error(route, verdict, "scale_type");
    case CUDA_REFUSED_SCALE_LAYOUT:
        return mismatch_error(route, verdict, "scale_layout");
    case CUDA_REFUSED_NO_DISPATCH:
        return low_latency_no_dispatch(verdict->peer);
    case CUDA_REFUSED_NO_ROUTING:
        return error_set(MOXIE_ERR_ARGUMENT, "the route has no routing yet");
    default:
        return buffer_error(route, verdict);
    }
}

/* Waits for the last call, looking after the peers: their kernels end with their processes. */
static moxie_status_t wait_for_call(const moxie_route_t *route)
{
    cuda_transport_t *transport = cuda_of(route->group)->transport;
    const cuda_route_t *own = cuda_route_of(route);
    const uint64_t start_ns = clock_now_ns();
    const uint64_t hang_ns = start_ns + own->channel.timeout_ns + HANG_NS;
    uint64_t ended_ns = 0;
    for (uint64_t looks = 0;; looks++) {
        const CUresult result = cuda()->cuEventQuery(own->called);
        if (result != CUDA_ERROR_NOT_READY) {
            return cuda_check(result, "waiting for a kernel");
        }
        const uint64_t now_ns = clock_now_ns();
        if (now_ns > hang_ns) {
            return error_set(MOXIE_ERR_TIMEOUT, "the GPU does not come to the call's end");
        }
        if (now_ns - start_ns < 1000000u) {
            continue; /* most calls are done by then */
        }
        const struct timespec pause = {.tv_nsec = 50000};
        nanosleep(&pause, NULL);
        const int32_t ended = looks % 64 == 0 ? signal_find_ended(transport->host) : -1;
        if (ended >= 0 && ended_ns == 0) {
            ended_ns = now_ns;
        }
        if (ended >= 0 && now_ns - ended_ns > GRACE_NS) {
            cuda_transport_abandon(transport, ended);
        }
    }
}

moxie_status_t cuda_route_settle(moxie_route_t *route)
{
    const cuda_route_t *own = cuda_route_of(route);
    cuda_transport_t *transport = cuda_of(route->group)->transport;
    const cuda_route_report_t *report = &own->pinned->report;
    route_state_t *state = route->state;
    const int32_t rank = route->group->rank;
    if (own->mismatch.status != MOXIE_OK) {
        return error_adopt(&own->mismatch);
    }
    moxie_status_t status = cuda_device_enter(&transport->device);
    if (status == MOXIE_OK) {
        status = wait_for_call(route);
        cuda_device_leave();
    }
    if (status == MOXIE_OK) {
        status = cuda_transport_check(transport, "route_status");
    }
    if (status != MOXIE_OK) {
        return status;
    }
    if (state->shape.mode == MOXIE_MODE_LOW_LATENCY) {
        return cuda_slots_settle(route);
    }
    state->token_count = own->token_count;
    state->recv_row_count = report->recv_row_count;
    state->logical_row_count = report->logical_row_count;
    route_row_count(state, rank)[rank] = report->own_row_count;
    status = cuda_verdict_error(route, &report->update);
    return status != MOXIE_OK ? status : cuda_verdict_error(route, &report->call);
}

moxie_status_t cuda_call_end(moxie_route_t *route, moxie_stream_t stream, moxie_status_t local,
                             moxie_status_t launched)
{
    cuda_route_t *own = cuda_route_of(route);
    const int is_capturing = cuda_is_capturing(stream);
    if (launched == MOXIE_OK && !is_capturing) {
        launched = cuda_check(cuda()->cuEventRecord(own->called, stream), "recording an event");
    }
    cuda_device_leave();
    if (local == MOXIE_OK || launched != MOXIE_OK || is_capturing) {
        return local != MOXIE_OK ? local : launched;
    }
    /* What the ranks agreed on is what all of them return; and this rank's error is read from
     * memory that the next call writes. */
    const moxie_error_t error = *error_detail();
    moxie_status_t status = cuda_route_settle(route);
    if (own->pinned->report.call.refusal != CUDA_REFUSED_NOT) {
        status = cuda_verdict_error(route, &own->pinned->report.call);
        own->pinned->report.call.refusal = CUDA_REFUSED_NOT; /* told here and now */
        own->was_told = 1;
    }
    return status != MOXIE_OK ? status : error_adopt(&error);
}
