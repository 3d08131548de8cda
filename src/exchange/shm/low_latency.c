/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch in low latency: rows and counts go out together, without asking. Each rank writes its
 * rows into its own slots at every receiver, one row a rank, as soon as the receiver has begun a
 * later call than the one these slots were written in last. In expert_major the receiver then
 * copies the rows to their experts.
 */
#include "exchange/shm/low_latency.h"

#include "core/error.h"
#include "core/layout.h"
#include "exchange/shm/counts.h"
#include "exchange/shm/dispatch_push.h"

#include <string.h>

/* The body of a dispatch's message: the same on all ranks but for the counts. */
typedef struct dispatch_body {
    int32_t dtype;
    int32_t wire_dtype;
    int32_t scale_type;
    int32_t scale_layout;
    int64_t counts[];
} dispatch_body_t;

static int is_rank_major(const moxie_route_t *route)
{
    return route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
}

static const dispatch_body_t *body_of(const moxie_route_t *route, int32_t rank)
{
    return (const dispatch_body_t *)signal_message(shm_of(route->group)->transport, rank)->body;
}

static size_t body_bytes(const moxie_route_t *route)
{
    return sizeof(dispatch_body_t) + counts_bytes(&route->state->shape);
}

/* Local: until a dispatch has told the peers' counts they are taken for 0. */
moxie_status_t low_latency_update(moxie_route_t *route, const moxie_routing_t *routing)
{
    route_state_t *state = route->state;
    shm_slots_t *slots = slots_of(route);
    moxie_status_t status = low_latency_check_half(route, slots_of(route)->half, HALF_NONE);
    if (status != MOXIE_OK) {
        return status;
    }
    memset(&slots->routing_error, 0, sizeof(slots->routing_error));
    slots->has_dispatched = 0;
    status = route_state_count(state, route->placement, routing);
    if (status != MOXIE_OK) {
        slots->routing_error = *error_detail();
        return MOXIE_OK; /* the dispatch tells it, to all ranks */
    }
    for (int32_t rank = 0; rank < state->shape.rank_count; rank++) {
        if (rank != state->shape.rank) {
            memset(route_row_count(state, rank), 0,
                   sizeof(int64_t) * (size_t)state->shape.rank_count);
            memset(route_expert_count(state, rank), 0,
                   sizeof(int64_t) * (size_t)state->shape.expert_count);
        }
    }
    route_state_derive(state, route->placement);
    return MOXIE_OK;
}

static moxie_status_t check_input(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                                  dispatch_rows_t *kind)
{
    const moxie_error_t *error = &slots_of(route)->routing_error;
    return route->has_routing && error->status != MOXIE_OK
               ? error_adopt(error)
               : low_latency_check_input(route, in, kind);
}

static void write_body(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                       const dispatch_rows_t *kind, shm_message_t *message)
{
    dispatch_body_t *body = (dispatch_body_t *)message->body;
    message->body_bytes = (uint32_t)body_bytes(route);
    body->dtype = (int32_t)kind->dtype;
    body->wire_dtype = (int32_t)kind->wire_dtype;
    body->scale_type = (int32_t)kind->scale_type;
    body->scale_layout = kind->scale_words > 0 ? (int32_t)in->scale_layout : 0;
    counts_write(route->state, body->counts);
}

/* Rows, labels and scales into this rank's slots everywhere. */
static void push_rows(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                      const dispatch_rows_t *kind)
{
    const shm_slots_t *slots = slots_of(route);
    const slots_layout_t *layout = &slots->layout;
    const route_shape_t *shape = &route->state->shape;
    char *bases[5][MOXIE_RANK_COUNT_MAX];
    int64_t strides[MOXIE_RANK_COUNT_MAX];
    for (int32_t rank = 0; rank < shape->rank_count; rank++) {
        char *part = slots->parts[rank];
        bases[0][rank] = part + layout->rows_offset;
        bases[1][rank] = part + layout->weights_offset;
        bases[2][rank] = part + layout->idx_offset;
        bases[3][rank] = part + layout->tokens_offset;
        bases[4][rank] = part + layout->scales_offset;
        strides[rank] = route_slot_count(shape);
    }
    dispatch_push_t push = {.route = route,
                            .rows = push_open(route, bases[0], (size_t)kind->row_bytes),
                            .kind = *kind,
                            .by_rank = 1,
                            .weights = bases[1],
                            .labels = bases[2],
                            .tokens = is_rank_major(route) ? NULL : bases[3],
                            .scales = bases[4],
                            .scale_strides = strides};
    /* In expert_major the receiver brings scales into their layout. */
    push.kind.has_column_scales = kind->has_column_scales && is_rank_major(route);
    const source_segment_t segment = {.source_rank = shape->rank,
                                      .token_count = route->state->token_count,
                                      .rows = in->x,
                                      .scales = in->x_scales};
    const rows_modes_t modes = rows_enter_modes();
    dispatch_push_segment(&push, &segment);
    rows_leave_modes(modes);
    push_close(&push.rows);
}

/* `out` is NULL in a half. */
static moxie_status_t send_rows(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                const moxie_dispatch_out_t *out)
{
    shm_slots_t *slots = slots_of(route);
    shm_transport_t *transport = slots->channel.transport;
    shm_message_t *message;
    moxie_status_t status = low_latency_check_half(route, slots_of(route)->half, HALF_NONE);
    if (status == MOXIE_OK) {
        status = signal_begin(&slots->channel, SHM_OP_LOW_LATENCY_DISPATCH, route->id, &message);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    slots->has_dispatched = 0;
    memset(&slots->kind, 0, sizeof(slots->kind));
    moxie_status_t local = check_input(route, in, &slots->kind);
    if (local == MOXIE_OK && out != NULL) {
        local = low_latency_check_outputs(route, &slots->kind, out);
    }
    write_body(route, in, &slots->kind, message);
    signal_post(transport, local);
    if (local == MOXIE_OK && slots->written_op > 0) {
        /* A rank that has begun a later call has read what came to it before. */
        status = signal_await_credit(transport, slots->written_op + 1);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    if (local == MOXIE_OK) {
        route_state_derive_slots(route->state, route->placement);
        push_rows(route, in, &slots->kind);
        slots->written_op = slots->channel.op;
    }
    signal_say_finished(transport);
    slots->half = HALF_DISPATCH;
    return MOXIE_OK;
}

static moxie_status_t compare_bodies(const moxie_route_t *route)
{
    const dispatch_body_t *first = body_of(route, 0);
    for (int32_t rank = 1; rank < route->group->rank_count; rank++) {
        const dispatch_body_t *body = body_of(route, rank);
        const struct {
            const char *name;
            int32_t expected, observed;
        } fields[] = {{"dtype", first->dtype, body->dtype},
                      {"wire_dtype", first->wire_dtype, body->wire_dtype},
                      {"scale_type", first->scale_type, body->scale_type},
                      {"scale_layout", first->scale_layout, body->scale_layout}};
        for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
            if (fields[i].expected != fields[i].observed) {
                return offer_differ(rank, fields[i].name, fields[i].expected, fields[i].observed);
            }
        }
    }
    return MOXIE_OK;
}

/* One row from its slot to one of its experts. */
static void copy_row(const moxie_route_t *route, int64_t slot, int64_t row, moxie_row_source_t from,
                     const moxie_dispatch_out_t *out)
{
    const shm_slots_t *slots = slots_of(route);
    const route_shape_t *shape = &route->state->shape;
    const dispatch_rows_t *kind = &slots->kind;
    const char *part = slots->parts[shape->rank];
    const float *weights = (const void *)(part + slots->layout.weights_offset);
    const uint32_t *words = (const void *)(part + slots->layout.scales_offset);
    const size_t row_bytes = (size_t)kind->row_bytes;
    memcpy((char *)out->recv_x + (size_t)row * row_bytes,
           part + slots->layout.rows_offset + (size_t)slot * row_bytes, row_bytes);
    if (out->row_weight != NULL) {
        out->row_weight[row] = weights[slot * shape->topk + from.slot];
    }
    if (out->row_source != NULL) {
        out->row_source[row] = from;
    }
    for (int64_t word = 0; word < kind->scale_words; word++) {
        memcpy((char *)out->recv_scales +
                   dispatch_rows_scale_offset(kind, route_slot_count(shape), row, word),
               &words[slot * kind->scale_words + word], sizeof(*words));
    }
}

/* expert_major: the rows of one slot to each of its experts here. */
static moxie_status_t spread_slot(const moxie_route_t *route, int32_t source, int64_t slot,
                                  int64_t *next_row, const moxie_dispatch_out_t *out)
{
    const route_shape_t *shape = &route->state->shape;
    const int32_t local_count = moxie_placement_local_count(route->placement, shape->rank);
    const int64_t block_rows = route_slot_count(shape);
    const char *part = slots_of(route)->parts[shape->rank];
    const int32_t *idx = (const void *)(part + slots_of(route)->layout.idx_offset);
    const int32_t *tokens = (const void *)(part + slots_of(route)->layout.tokens_offset);
    for (int32_t k = 0; k < shape->topk; k++) {
        const int32_t local = idx[slot * shape->topk + k]; /* read once: peers can write it */
        if (local < 0) {
            continue;
        }
        if (local >= local_count || next_row[local] >= block_rows) {
            error_set(MOXIE_ERR_PROTOCOL, "rank %d sent a row for expert %d of %d", source, local,
                      local_count);
            error_detail()->peer = source;
            return signal_revoke(shm_of(route->group)->transport);
        }
        const moxie_row_source_t from = {.rank = source, .token = tokens[slot], .slot = k};
        copy_row(route, slot, local * block_rows + next_row[local]++, from, out);
    }
    return MOXIE_OK;
}

static moxie_status_t spread_rows(const moxie_route_t *route, const moxie_dispatch_out_t *out)
{
    const route_state_t *state = route->state;
    int64_t *next_row = route_at(state, state->scratch_offset);
    moxie_status_t status = MOXIE_OK;
    memset(next_row, 0, sizeof(int64_t) * (size_t)state->shape.expert_count);
    for (int32_t source = 0; source < state->shape.rank_count; source++) {
        const int64_t count = route_row_count(state, source)[state->shape.rank];
        const int64_t first = source * state->shape.token_count_max;
        for (int64_t i = 0; i < count && status == MOXIE_OK; i++) {
            status = spread_slot(route, source, first + i, next_row, out);
        }
    }
    return status;
}

static moxie_status_t read_bodies(const moxie_route_t *route)
{
    moxie_status_t status = signal_check_bodies(shm_of(route->group)->transport, body_bytes(route));
    if (status == MOXIE_OK) {
        status = compare_bodies(route);
    }
    for (int32_t rank = 0; rank < route->group->rank_count && status == MOXIE_OK; rank++) {
        status = counts_read(route->state, rank, body_of(route, rank)->counts);
    }
    return status;
}

/* `local`: what is wrong with this rank's outputs, found out too late to tell. */
static moxie_status_t receive_rows(moxie_route_t *route, const moxie_dispatch_out_t *out,
                                   moxie_status_t local)
{
    shm_slots_t *slots = slots_of(route);
    const moxie_error_t mine = *error_detail();
    slots->half = HALF_NONE;
    moxie_status_t status = signal_receive(slots->channel.transport);
    if (status == MOXIE_OK) {
        status = read_bodies(route);
    }
    if (status == MOXIE_OK && local != MOXIE_OK) {
        status = error_adopt(&mine);
    }
    if (status == MOXIE_OK && !is_rank_major(route)) {
        status = spread_rows(route, out);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    route_state_derive(route->state, route->placement);
    counts_deliver(route, out);
    slots->has_dispatched = 1;
    return MOXIE_OK;
}

moxie_status_t low_latency_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                    const moxie_dispatch_out_t *out)
{
    const moxie_status_t status = send_rows(route, in, out);
    return status != MOXIE_OK ? status : receive_rows(route, out, MOXIE_OK);
}

moxie_status_t low_latency_dispatch_send(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                         moxie_stream_t stream)
{
    (void)stream; /* the processor has none */
    return send_rows(route, in, NULL);
}

moxie_status_t low_latency_dispatch_receive(moxie_route_t *route, const moxie_dispatch_out_t *out,
                                            moxie_stream_t stream)
{
    (void)stream; /* the processor has none */
    shm_slots_t *slots = slots_of(route);
    moxie_status_t status = low_latency_check_half(route, slots_of(route)->half, HALF_DISPATCH);
    if (status == MOXIE_OK) {
        status = signal_resume(&slots->channel, SHM_OP_LOW_LATENCY_DISPATCH, route->id);
    }
    return status != MOXIE_OK
               ? status
               : receive_rows(route, out, low_latency_check_outputs(route, &slots->kind, out));
}
