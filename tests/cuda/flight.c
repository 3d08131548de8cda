/* SPDX-License-Identifier: Apache-2.0 */
/* One route in the air. */
#include "cuda/flight.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Regions of the arenas. */
enum { RECV_X, RECV_IDX, RECV_WEIGHTS, ROW_WEIGHT = RECV_IDX, ROW_SOURCE };
enum { IDS, WEIGHTS, X, OUT, EXPERT_COUNT, EXPERT_START };

static bool is_expert_major(const flight_t *flight)
{
    return flight->scenario.layout == MOXIE_LAYOUT_EXPERT_MAJOR;
}

bool flight_has_slots(const flight_t *flight)
{
    return flight->scenario.mode == MOXIE_MODE_LOW_LATENCY && !is_expert_major(flight);
}

static void plan(flight_t *flight)
{
    const scenario_t *scenario = &flight->scenario;
    const int64_t rows = flight->row_capacity;
    const int64_t tokens = scenario->token_count_max;
    arena_t *received = &flight->received_arena;
    arena_add(received, 1, "recv_x", moxie_dtype_bytes(scenario->x_dtype), scenario->hidden, rows);
    if (is_expert_major(flight)) {
        arena_add(received, 2, "row_weight", sizeof(float), 1, rows);
        arena_add(received, 3, "row_source", sizeof(int32_t), 3, rows);
    } else {
        arena_add(received, 2, "recv_topk_idx", sizeof(int32_t), scenario->topk, rows);
        arena_add(received, 3, "recv_topk_weights", sizeof(float), scenario->topk, rows);
    }
    arena_finish(received);
    arena_add(&flight->given_arena, 4, "y", moxie_dtype_bytes(scenario->y_dtype), scenario->hidden,
              rows);
    arena_finish(&flight->given_arena);

    arena_t *home = &flight->home_arena;
    const int32_t rank = flight->self->rank;
    const bool is_wide = flight->world.routing[rank].index_type == MOXIE_INDEX_INT64;
    const int64_t locals = moxie_placement_local_count(flight->world.placement, rank) + 1;
    arena_add(home, 5, "topk_idx", is_wide ? sizeof(int64_t) : sizeof(int32_t), scenario->topk,
              tokens);
    arena_add(home, 6, "topk_weights", sizeof(float), scenario->topk, tokens);
    arena_add(home, 7, "x", moxie_dtype_bytes(scenario->x_dtype), scenario->hidden, tokens);
    arena_add(home, 8, "out", moxie_dtype_bytes(scenario->out_dtype), scenario->hidden, tokens);
    arena_add(home, 9, "expert_count", sizeof(int64_t), 1, locals);
    arena_add(home, 10, "expert_start", sizeof(int64_t), 1, locals);
    arena_finish(home);
}

int64_t flight_rows_max(world_rank_t *self, const scenario_t *scenario)
{
    moxie_group_options_t group = MOXIE_GROUP_OPTIONS_INIT;
    group.rank = self->rank;
    group.rank_count = self->options->rank_count;
    group.backend = self->options->backend;
    const scenario_t full = scenario_complete(scenario);
    scenario_world_t world;
    scenario_build(&full, self->options->rank_count, &world);
    const moxie_route_options_t options = scenario_route_options(&full, &world);
    moxie_route_quote_t quote = MOXIE_ROUTE_QUOTE_INIT;
    world_expect(self, "route_memory_quote", moxie_route_memory_quote(&group, &options, &quote),
                 MOXIE_OK);
    const bool has_slots =
        full.mode == MOXIE_MODE_LOW_LATENCY && full.layout == MOXIE_LAYOUT_RANK_MAJOR;
    const int64_t rows = has_slots ? world.rank_count * full.token_count_max : quote.row_capacity;
    scenario_free(&world);
    return rows > 0 ? rows : 1; /* 0 asks for the worst case */
}

bool flight_open(flight_t *flight, world_rank_t *self, moxie_group_t *group,
                 const scenario_t *scenario, int64_t row_capacity, moxie_stream_t stream)
{
    *flight = (flight_t){.self = self,
                         .device = self->device,
                         .stream = stream,
                         .scenario = scenario_complete(scenario),
                         .row_capacity = row_capacity};
    scenario_build(&flight->scenario, self->options->rank_count, &flight->world);
    plan(flight);
    flight->home = device_create(self->device, flight->home_arena.bytes);
    flight->home_image = arena_allocate(&flight->home_arena);
    flight->given_image = arena_allocate(&flight->given_arena);
    moxie_route_options_t options = scenario_route_options(&flight->scenario, &flight->world);
    options.row_capacity = flight->scenario.mode == MOXIE_MODE_LOW_LATENCY ? 0 : row_capacity;
    flight->returns_received = flight_has_slots(flight);
    return world_expect(self, "route_create", moxie_route_create(group, &options, &flight->route),
                        MOXIE_OK) &&
           world_expect(
               self, "window_allocate",
               moxie_window_allocate(group, flight->received_arena.bytes, &flight->received),
               MOXIE_OK) &&
           world_expect(self, "window_allocate",
                        moxie_window_allocate(group, flight->given_arena.bytes, &flight->given),
                        MOXIE_OK);
}

static payload_t payload_of(const flight_t *flight, enum payload_stream stream, moxie_dtype_t dtype)
{
    return (payload_t){.seed = payload_hash(flight->scenario.seed, 84, flight->scenario.variant, 0),
                       .stream = stream,
                       .dtype = dtype,
                       .column_count = flight->scenario.hidden,
                       .special = flight->scenario.special};
}

static void copy_routing(flight_t *flight)
{
    const moxie_routing_t *routing = &flight->world.routing[flight->self->rank];
    const size_t slot_count = (size_t)(routing->token_count * flight->scenario.topk);
    const size_t id_bytes = routing->index_type == MOXIE_INDEX_INT64 ? 8 : 4;
    memcpy(arena_at(&flight->home_arena, IDS, flight->home_image), routing->topk_idx,
           slot_count * id_bytes);
    if (routing->topk_weights != NULL) {
        memcpy(arena_at(&flight->home_arena, WEIGHTS, flight->home_image), routing->topk_weights,
               slot_count * sizeof(float));
    }
}

void flight_load(flight_t *flight, uint64_t variant)
{
    const int32_t rank = flight->self->rank;
    scenario_free(&flight->world);
    flight->scenario.variant = variant;
    scenario_build(&flight->scenario, flight->self->options->rank_count, &flight->world);
    const payload_t x = payload_of(flight, PAYLOAD_X, flight->scenario.x_dtype);
    const payload_t y = payload_of(flight, PAYLOAD_Y, flight->scenario.y_dtype);
    arena_poison(&flight->home_arena, flight->home_image);
    arena_open(&flight->home_arena, flight->home_image);
    copy_routing(flight);
    payload_fill_rows(&x, rank, flight->world.routing[rank].token_count,
                      arena_at(&flight->home_arena, X, flight->home_image));
    arena_open(&flight->given_arena, flight->given_image);
    payload_fill_rows(&y, rank, flight->row_capacity,
                      arena_at(&flight->given_arena, 0, flight->given_image));
    device_upload(flight->device, flight->home, flight->home_image, flight->home_arena.bytes);
    device_upload(flight->device, moxie_window_base(flight->given), flight->given_image,
                  flight->given_arena.bytes);
    device_fill(flight->device, moxie_window_base(flight->received), ARENA_POISON,
                flight->received_arena.bytes);
    device_synchronise(flight->device);
}

void flight_set_id(flight_t *flight, int32_t rank, int64_t token, int32_t slot, int64_t id)
{
    scenario_set_id(&flight->world, rank, token, slot, id);
    copy_routing(flight);
    device_upload(flight->device, flight->home, flight->home_image, flight->home_arena.bytes);
}

/* Where dispatch writes: the device's memory, or with images the reference's. */
static moxie_dispatch_out_t dispatch_out(const flight_t *flight, void *received, void *home)
{
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = flight->row_capacity;
    out.recv_x = arena_at(&flight->received_arena, RECV_X, received);
    out.expert_count = arena_at(&flight->home_arena, EXPERT_COUNT, home);
    if (is_expert_major(flight)) {
        out.row_weight = arena_at(&flight->received_arena, ROW_WEIGHT, received);
        out.row_source = arena_at(&flight->received_arena, ROW_SOURCE, received);
        out.expert_start = arena_at(&flight->home_arena, EXPERT_START, home);
    } else {
        out.recv_topk_idx = arena_at(&flight->received_arena, RECV_IDX, received);
        out.recv_topk_weights = arena_at(&flight->received_arena, RECV_WEIGHTS, received);
    }
    return out;
}

/* What came into slots must be given back from elsewhere. */
static moxie_combine_in_t combine_in(const flight_t *flight)
{
    moxie_combine_in_t in = MOXIE_COMBINE_IN_INIT;
    in.y = flight->returns_received && !flight_has_slots(flight)
               ? arena_at(&flight->received_arena, RECV_X, moxie_window_base(flight->received))
               : arena_at(&flight->given_arena, 0, moxie_window_base(flight->given));
    in.dtype = flight->scenario.y_dtype;
    in.wire_dtype = flight->scenario.wire_dtype;
    in.unweighted = flight->scenario.unweighted;
    return in;
}

static moxie_combine_out_t combine_out(const flight_t *flight, void *home)
{
    moxie_combine_out_t out = MOXIE_COMBINE_OUT_INIT;
    out.out = arena_at(&flight->home_arena, OUT, home);
    out.dtype = flight->scenario.out_dtype;
    return out;
}

/* The route's slots in place of the buffers that it has none for. */
static moxie_dispatch_out_t receive_into_slots(const flight_t *flight)
{
    const int64_t *counts = arena_at(&flight->home_arena, EXPERT_COUNT, flight->home);
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    (void)moxie_route_slots(flight->route, &out);
    out.expert_count = (int64_t *)(uintptr_t)counts;
    return out;
}

/* Update and dispatch, in one call or two. */
static moxie_status_t launch_dispatch(const flight_t *flight, const moxie_routing_t *routing,
                                      const moxie_dispatch_in_t *send,
                                      const moxie_dispatch_out_t *receive)
{
    if (flight->scenario.brings_routing) {
        return moxie_dispatch_routing(flight->route, routing, send, receive, flight->stream);
    }
    const moxie_status_t status = moxie_route_update(flight->route, routing, flight->stream);
    return status != MOXIE_OK ? status
                              : moxie_dispatch(flight->route, send, receive, flight->stream);
}

moxie_status_t flight_launch(flight_t *flight)
{
    moxie_routing_t routing = flight->world.routing[flight->self->rank];
    routing.topk_idx = arena_at(&flight->home_arena, IDS, flight->home);
    if (routing.topk_weights != NULL) {
        routing.topk_weights = arena_at(&flight->home_arena, WEIGHTS, flight->home);
    }
    moxie_dispatch_in_t send = MOXIE_DISPATCH_IN_INIT;
    send.x = arena_at(&flight->home_arena, X, flight->home);
    send.dtype = flight->scenario.x_dtype;
    const moxie_dispatch_out_t receive =
        flight_has_slots(flight)
            ? receive_into_slots(flight)
            : dispatch_out(flight, moxie_window_base(flight->received), flight->home);
    const moxie_combine_in_t give = combine_in(flight);
    const moxie_combine_out_t get = combine_out(flight, flight->home);
    moxie_status_t status = launch_dispatch(flight, &routing, &send, &receive);
    if (flight_has_slots(flight)) {
        device_download_later(flight->device, (void *)(uintptr_t)give.y, receive.recv_x,
                              (size_t)(flight->row_capacity * flight->scenario.hidden) *
                                  moxie_dtype_bytes(send.dtype));
    }
    if (status == MOXIE_OK) {
        status = moxie_combine(flight->route, &give, &get, flight->stream);
    }
    return status;
}

moxie_status_t flight_settle(flight_t *flight, moxie_status_t launched)
{
    return launched != MOXIE_OK ? launched : moxie_route_status(flight->route);
}

/* Reads rows that ranks received. */
typedef struct received_rows {
    char *rows[MOXIE_RANK_COUNT_MAX]; /* [rank] */
    size_t row_bytes;
    int32_t rank_count;
} received_rows_t;

static const void *read_received(void *ctx, int32_t rank, int64_t row)
{
    const received_rows_t *received = ctx;
    return received->rows[rank] + (size_t)row * received->row_bytes;
}

/* What every rank receives, by the reference. */
static received_rows_t receive_everywhere(const flight_t *flight, const moxie_row_reader_t *x)
{
    received_rows_t received = {.row_bytes = (size_t)flight->scenario.hidden *
                                             moxie_dtype_bytes(flight->scenario.x_dtype),
                                .rank_count = flight->world.rank_count};
    for (int32_t rank = 0; rank < received.rank_count; rank++) {
        moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
        if (moxie_reference_recv_rows(&flight->world.world, rank, &out.row_capacity) != MOXIE_OK) {
            abort();
        }
        received.rows[rank] = malloc((size_t)out.row_capacity * received.row_bytes + 1);
        out.recv_x = received.rows[rank];
        if (out.recv_x == NULL ||
            moxie_reference_dispatch(&flight->world.world, rank, x, &out) != MOXIE_OK) {
            abort();
        }
    }
    return received;
}

static bool expect_combine(flight_t *flight, const moxie_row_reader_t *x, void *home)
{
    const payload_t y = payload_of(flight, PAYLOAD_Y, flight->scenario.y_dtype);
    payload_reader_t given;
    payload_reader_open(&given, &y);
    received_rows_t received = {.rank_count = 0};
    moxie_row_reader_t reader = given.reader;
    if (flight->returns_received) {
        received = receive_everywhere(flight, x);
        reader = (moxie_row_reader_t){read_received, &received, flight->scenario.x_dtype};
    }
    const moxie_combine_in_t in = combine_in(flight);
    const moxie_combine_out_t out = combine_out(flight, home);
    const bool good = world_expect(
        flight->self, "reference_combine",
        moxie_reference_combine(&flight->world.world, flight->self->rank, &reader, &in, &out),
        MOXIE_OK);
    for (int32_t rank = 0; rank < received.rank_count; rank++) {
        free(received.rows[rank]);
    }
    payload_reader_close(&given);
    return good;
}

bool flight_expect(flight_t *flight, void *received, void *home)
{
    const payload_t x = payload_of(flight, PAYLOAD_X, flight->scenario.x_dtype);
    payload_reader_t reader;
    payload_reader_open(&reader, &x);
    arena_open(&flight->received_arena, received);
    arena_open(&flight->home_arena, home);
    const moxie_dispatch_out_t out = dispatch_out(flight, received, home);
    const bool good =
        world_expect(flight->self, "reference_dispatch",
                     moxie_reference_dispatch(&flight->world.world, flight->self->rank,
                                              &reader.reader, &out),
                     MOXIE_OK) &&
        expect_combine(flight, &reader.reader, home);
    payload_reader_close(&reader);
    return good;
}

bool flight_compare(flight_t *flight, const arena_t *arena, void *got, void *expected)
{
    arena_difference_t difference;
    if (!arena_differs(arena, got, expected, &difference)) {
        return true;
    }
    char what[400];
    scenario_describe(&flight->scenario, what, sizeof(what));
    world_fail(flight->self,
               "%s: %s row %" PRId64 " column %" PRId64 " is 0x%" PRIx64 ", not 0x%" PRIx64, what,
               difference.region == NULL ? "around the buffers" : difference.region->name,
               difference.row, difference.column, difference.got, difference.expected);
    return false;
}

static bool compare_device(flight_t *flight, const arena_t *arena, const void *device,
                           void *expected)
{
    void *got = arena_allocate(arena);
    arena_open(arena, got);
    device_download(flight->device, got, device, arena->bytes);
    const bool good = flight_compare(flight, arena, got, expected);
    free(got);
    return good;
}

bool flight_check(flight_t *flight)
{
    void *received = arena_allocate(&flight->received_arena);
    void *home = arena_copy(&flight->home_arena, flight->home_image);
    bool good = flight_expect(flight, received, home) &&
                compare_device(flight, &flight->home_arena, flight->home, home);
    if (!flight_has_slots(flight)) { /* where `out` shows what came */
        good = good &&
               compare_device(flight, &flight->received_arena, moxie_window_base(flight->received),
                              received) &&
               compare_device(flight, &flight->given_arena, moxie_window_base(flight->given),
                              flight->given_image);
    }
    free(received);
    free(home);
    return good;
}

void flight_poison(flight_t *flight, bool received)
{
    const arena_region_t *out = &flight->home_arena.regions[OUT];
    device_fill(flight->device, (char *)flight->home + out->offset, ARENA_POISON,
                out->element_bytes * (size_t)out->row_elements * (size_t)out->row_count);
    if (received) {
        device_fill(flight->device, moxie_window_base(flight->received), ARENA_POISON,
                    flight->received_arena.bytes);
    }
}

/* What lies in the buffers is made the same on both sides. */
bool flight_kept_red_zones(flight_t *flight)
{
    const arena_t *arena = &flight->received_arena;
    void *got = arena_allocate(arena);
    void *expected = arena_allocate(arena);
    arena_open(arena, got);
    arena_open(arena, expected);
    device_download(flight->device, got, moxie_window_base(flight->received), arena->bytes);
    for (size_t i = 0; i < arena->region_count; i++) {
        const arena_region_t *region = &arena->regions[i];
        memcpy(arena_at(arena, i, expected), arena_at(arena, i, got),
               region->element_bytes * (size_t)region->row_elements * (size_t)region->row_count);
    }
    arena_difference_t difference;
    const bool differs = arena_differs(arena, got, expected, &difference);
    if (differs) {
        world_fail(flight->self, "something was written around the received rows, at byte %zu",
                   difference.offset);
    }
    free(got);
    free(expected);
    return !differs;
}

bool flight_play(flight_t *flight, uint64_t variant)
{
    flight_load(flight, variant);
    return world_expect(flight->self, "update, dispatch and combine",
                        flight_settle(flight, flight_launch(flight)), MOXIE_OK) &&
           flight_check(flight);
}

void flight_close(flight_t *flight)
{
    if (flight->self == NULL) {
        return;
    }
    moxie_route_destroy(flight->route);
    moxie_window_free(flight->given);
    moxie_window_free(flight->received);
    if (flight->home != NULL) {
        device_destroy(flight->device, flight->home);
    }
    free(flight->given_image);
    free(flight->home_image);
    scenario_free(&flight->world);
    *flight = (flight_t){.self = NULL};
}
