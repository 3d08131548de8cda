/* SPDX-License-Identifier: Apache-2.0 */
/* The four calls of a trial: buffers poisoned, the call, the reference, the comparison. */
#include "support/trial_step.h"

#include "support/piece.h"

#include <fenv.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* Flush-to-zero and denormals-are-zero of MXCSR; the low six bits are sticky exception flags. */
#define MXCSR_FLUSH 0x8040u
#define MXCSR_MODES 0xFFC0u

/* Regions of the arenas of dispatch: rows, and counts. */
enum { RECV_X, RECV_IDX, RECV_WEIGHTS, RECV_SCALES, ROW_WEIGHT = RECV_IDX, ROW_SOURCE };
enum { EXPERT_COUNT, EXPERT_START, SOURCE_COUNT };

bool trial_expect(trial_t *trial, const char *what, moxie_status_t status)
{
    char text[480];
    snprintf(text, sizeof(text), "%s of %s", what, trial->what);
    return world_expect(trial->self, text, status, MOXIE_OK);
}

static unsigned read_control(void)
{
#if defined(__SSE__)
    return _mm_getcsr() & MXCSR_MODES;
#else
    return 0;
#endif
}

trial_fenv_t trial_fenv_enter(const trial_t *trial)
{
    trial_fenv_t saved = {fegetround(), read_control()};
    if (trial->scenario.odd_fenv) {
        fesetround(FE_UPWARD);
#if defined(__SSE__)
        _mm_setcsr(_mm_getcsr() | MXCSR_FLUSH);
#endif
    }
    return saved;
}

bool trial_fenv_leave(trial_t *trial, trial_fenv_t saved)
{
    const int rounding = fegetround();
    const unsigned control = read_control();
    const int expected_rounding = trial->scenario.odd_fenv ? FE_UPWARD : saved.rounding;
#if defined(__SSE__)
    const bool flush_kept = !trial->scenario.odd_fenv || (control & MXCSR_FLUSH) == MXCSR_FLUSH;
    _mm_setcsr((_mm_getcsr() & ~MXCSR_MODES) | saved.control);
#else
    const bool flush_kept = control == saved.control;
#endif
    fesetround(saved.rounding);
    if (rounding == expected_rounding && flush_kept) {
        return true;
    }
    world_fail(trial->self, "%s: the caller's floating-point modes were changed", trial->what);
    return false;
}

static bool is_expert_major(const trial_t *trial)
{
    return trial->scenario.layout == MOXIE_LAYOUT_EXPERT_MAJOR;
}

/* Rows arrive in memory of the route, and only there. */
static bool has_slots(const trial_t *trial)
{
    return trial->scenario.mode == MOXIE_MODE_LOW_LATENCY && !is_expert_major(trial);
}

static uint64_t salt(const trial_t *trial)
{
    if (trial->scenario.aligned) {
        return ARENA_ALIGNED;
    }
    return payload_hash(trial->scenario.seed, 78, (uint64_t)trial->self->rank, 0) >> 1;
}

/* Whether `rank` leaves an optional output out. */
static bool leaves_out(const trial_t *trial, int32_t rank, uint64_t output)
{
    return trial->scenario.null_outputs &&
           payload_hash(trial->scenario.seed, 79, (uint64_t)rank, output) % 3 == 0;
}

static moxie_dtype_t recv_dtype(const scenario_t *scenario)
{
    return scenario->quantised ? MOXIE_DTYPE_FP8_E4M3 : scenario->x_dtype;
}

void trial_plan_dispatch(const trial_t *trial, arena_t *arena)
{
    const scenario_t *scenario = &trial->scenario;
    *arena = (arena_t){.region_count = 0};
    arena_add(arena, salt(trial), "recv_x", moxie_dtype_bytes(recv_dtype(scenario)),
              scenario->hidden, trial->row_capacity);
    if (is_expert_major(trial)) {
        arena_add(arena, salt(trial), "row_weight", sizeof(float), 1, trial->row_capacity);
        arena_add(arena, salt(trial), "row_source", sizeof(int32_t), 3, trial->row_capacity);
    } else {
        arena_add(arena, salt(trial), "recv_topk_idx", sizeof(int32_t), scenario->topk,
                  trial->row_capacity);
        arena_add(arena, salt(trial), "recv_topk_weights", sizeof(float), scenario->topk,
                  trial->row_capacity);
    }
    if (scenario_has_scales(scenario)) {
        const bool by_row = scenario->scale_layout == MOXIE_SCALES_ROW_MAJOR;
        const int64_t words = moxie_scale_words(scenario->scale_type, scenario->hidden);
        const bool has_blocks =
            scenario->mode == MOXIE_MODE_LOW_LATENCY && trial->recv_row_count > 0;
        const int64_t column_rows =
            has_blocks ? trial->world.rank_count * scenario->token_count_max : trial->row_capacity;
        const int64_t columns = has_blocks ? words * (trial->recv_row_count / column_rows) : words;
        arena_add(arena, salt(trial), "recv_scales", sizeof(uint32_t), by_row ? words : column_rows,
                  by_row ? trial->row_capacity : columns);
    }
    arena_finish(arena);
}

void trial_plan_d_y(const trial_t *trial, arena_t *arena)
{
    *arena = (arena_t){.region_count = 0};
    arena_add(arena, salt(trial), "d_y", moxie_dtype_bytes(trial->scenario.y_dtype),
              trial->scenario.hidden, trial->row_capacity);
    arena_finish(arena);
}

void trial_plan_y(const trial_t *trial, arena_t *arena)
{
    *arena = (arena_t){.region_count = 0};
    arena_add(arena, salt(trial), "y", moxie_dtype_bytes(trial->scenario.y_dtype),
              trial->scenario.hidden, trial->recv_row_count);
    arena_finish(arena);
}

void trial_plan_d_recv(const trial_t *trial, arena_t *arena)
{
    *arena = (arena_t){.region_count = 0};
    arena_add(arena, salt(trial), "d_recv_x", moxie_dtype_bytes(trial->scenario.y_dtype),
              trial->scenario.hidden, trial->recv_row_count);
    arena_add(arena, salt(trial), "d_recv_weights", sizeof(float),
              is_expert_major(trial) ? 1 : trial->scenario.topk, trial->recv_row_count);
    arena_finish(arena);
}

/* One more of each than there can be. */
static void plan_counts(const trial_t *trial, arena_t *arena)
{
    const int64_t count =
        moxie_placement_local_count(trial->world.placement, trial->self->rank) + 2;
    *arena = (arena_t){.region_count = 0};
    arena_add(arena, salt(trial), "expert_count", sizeof(int64_t), 1, count);
    arena_add(arena, salt(trial), "expert_start", sizeof(int64_t), 1, count);
    arena_add(arena, salt(trial), "source_count", sizeof(int64_t), 1, trial->world.rank_count + 1);
    arena_finish(arena);
}

/* Rows and weight gradients at home. */
static void plan_home(const trial_t *trial, const char *name, moxie_dtype_t dtype,
                      const char *weights_name, arena_t *arena)
{
    *arena = (arena_t){.region_count = 0};
    arena_add(arena, salt(trial), name, moxie_dtype_bytes(dtype), trial->scenario.hidden,
              trial->token_count);
    if (weights_name != NULL) {
        arena_add(arena, salt(trial), weights_name, sizeof(float), trial->scenario.topk,
                  trial->token_count);
    }
    arena_finish(arena);
}

static payload_t payload_of(const trial_t *trial, enum payload_stream stream, moxie_dtype_t dtype,
                            uint64_t round)
{
    return (payload_t){.seed = payload_hash(trial->scenario.seed, 80, round, 0),
                       .stream = stream,
                       .dtype = dtype,
                       .column_count = trial->scenario.hidden,
                       .special = trial->scenario.special};
}

static payload_t weight_payload(const trial_t *trial, uint64_t round)
{
    payload_t payload = payload_of(trial, PAYLOAD_D_RECV_WEIGHTS, MOXIE_DTYPE_FP32, round);
    payload.column_count = is_expert_major(trial) ? 1 : trial->scenario.topk;
    return payload;
}

/* Whose row this is, for a row that lies in the wrong place. */
static void name_row(const trial_t *trial, const payload_t *payload, const void *row, char *text,
                     size_t bytes)
{
    payload_reader_t reader;
    payload_reader_open(&reader, payload);
    snprintf(text, bytes, "; no rank sent this row");
    for (int32_t rank = 0; rank < trial->world.rank_count; rank++) {
        for (int64_t token = 0; token < trial->world.routing[rank].token_count; token++) {
            if (memcmp(reader.reader.row(&reader, rank, token), row, payload_row_bytes(payload)) ==
                0) {
                snprintf(text, bytes, "; this is token %" PRId64 " of rank %d", token, rank);
            }
        }
    }
    payload_reader_close(&reader);
}

/* `sent` is what the first region's rows are copies of, or NULL. */
static bool compare(trial_t *trial, const char *call, const arena_t *arena, void *got,
                    void *expected, const payload_t *sent)
{
    arena_difference_t difference;
    if (!arena_differs(arena, got, expected, &difference)) {
        return true;
    }
    if (difference.region == NULL) {
        world_fail(trial->self, "%s of %s: wrote outside of its buffers, at byte %zu", call,
                   trial->what, difference.offset);
        return false;
    }
    char owner[80] = "";
    if (sent != NULL && difference.region == &arena->regions[0]) {
        name_row(trial, sent,
                 (const char *)got + difference.region->offset +
                     (size_t)difference.row * payload_row_bytes(sent),
                 owner, sizeof(owner));
    }
    world_fail(trial->self,
               "%s of %s: %s row %" PRId64 " column %" PRId64 " is 0x%" PRIx64 ", not 0x%" PRIx64
               "%s",
               call, trial->what, difference.region->name, difference.row, difference.column,
               difference.got, difference.expected, owner);
    return false;
}

static void point_dispatch(const trial_t *trial, const arena_t *arena, void *base,
                           const arena_t *counts_arena, void *counts, moxie_dispatch_out_t *out)
{
    const int32_t rank = trial->self->rank;
    *out = (moxie_dispatch_out_t)MOXIE_DISPATCH_OUT_INIT;
    out->row_capacity = trial->row_capacity;
    out->recv_x = arena_at(arena, RECV_X, base);
    if (scenario_has_scales(&trial->scenario)) {
        out->recv_scales = arena_at(arena, RECV_SCALES, base);
    }
    if (!leaves_out(trial, rank, 1)) {
        out->expert_count = arena_at(counts_arena, EXPERT_COUNT, counts);
    }
    if (is_expert_major(trial)) {
        if (!leaves_out(trial, rank, 2)) {
            out->row_weight = arena_at(arena, ROW_WEIGHT, base);
        }
        if (!leaves_out(trial, rank, 3)) {
            out->row_source = arena_at(arena, ROW_SOURCE, base);
        }
        if (!leaves_out(trial, rank, 4)) {
            out->expert_start = arena_at(counts_arena, EXPERT_START, counts);
        }
        return;
    }
    if (!leaves_out(trial, rank, 2)) {
        out->recv_topk_idx = arena_at(arena, RECV_IDX, base);
    }
    if (!leaves_out(trial, rank, 3)) {
        out->recv_topk_weights = arena_at(arena, RECV_WEIGHTS, base);
    }
    if (has_slots(trial)) { /* needed: it says which of them are rows */
        out->source_count = arena_at(counts_arena, SOURCE_COUNT, counts);
    }
}

/* Points at the route's slots instead of at buffers of the test. */
static bool point_slots(trial_t *trial, moxie_dispatch_out_t *out)
{
    moxie_dispatch_out_t slots = MOXIE_DISPATCH_OUT_INIT;
    if (!trial_expect(trial, "route_slots", moxie_route_slots(trial->route, &slots))) {
        return false;
    }
    out->row_capacity = slots.row_capacity;
    out->recv_x = slots.recv_x;
    out->recv_scales = out->recv_scales == NULL ? NULL : slots.recv_scales;
    out->recv_topk_idx = out->recv_topk_idx == NULL ? NULL : slots.recv_topk_idx;
    out->recv_topk_weights = out->recv_topk_weights == NULL ? NULL : slots.recv_topk_weights;
    return true;
}

/* Copies `count` rows from `first` on out of slots; what lies in the others is nobody's business.
 */
static void fetch_slots(const piece_t *outputs, size_t region, const void *slots, int64_t first,
                        int64_t count)
{
    const arena_region_t *rows = &outputs->arena->regions[region];
    const size_t row_bytes = rows->element_bytes * (size_t)rows->row_elements;
    if (slots != NULL && count > 0) {
        device_download(outputs->device,
                        (char *)piece_host(outputs, region) + (size_t)first * row_bytes,
                        (const char *)slots + (size_t)first * row_bytes, (size_t)count * row_bytes);
    }
}

/* The same of scales that lie column by column. */
static void fetch_columns(const piece_t *outputs, const void *slots, int64_t first, int64_t count)
{
    const arena_region_t *columns = &outputs->arena->regions[RECV_SCALES];
    for (int64_t word = 0; word < columns->row_count && count > 0; word++) {
        const size_t offset = (size_t)(word * columns->row_elements + first) * sizeof(uint32_t);
        device_download(outputs->device, (char *)piece_host(outputs, RECV_SCALES) + offset,
                        (const char *)slots + offset, (size_t)count * sizeof(uint32_t));
    }
}

/* Brings the rows of all sources from the slots to where other layouts have them. */
static void fetch_rows(const trial_t *trial, const piece_t *outputs, const piece_t *counts)
{
    moxie_dispatch_out_t wanted, slots = MOXIE_DISPATCH_OUT_INIT;
    const int64_t *source_count = piece_host(counts, SOURCE_COUNT);
    point_dispatch(trial, outputs->arena, outputs->host, counts->arena, counts->host, &wanted);
    (void)moxie_route_slots(trial->route, &slots);
    arena_open(outputs->arena, outputs->host);
    for (int32_t source = 0; source < trial->world.rank_count; source++) {
        const int64_t first = source * trial->scenario.token_count_max;
        const int64_t count = source_count[source];
        fetch_slots(outputs, RECV_X, slots.recv_x, first, count);
        fetch_slots(outputs, RECV_IDX, wanted.recv_topk_idx == NULL ? NULL : slots.recv_topk_idx,
                    first, count);
        fetch_slots(outputs, RECV_WEIGHTS,
                    wanted.recv_topk_weights == NULL ? NULL : slots.recv_topk_weights, first,
                    count);
        if (!scenario_has_scales(&trial->scenario)) {
            continue;
        }
        if (trial->scenario.scale_layout == MOXIE_SCALES_ROW_MAJOR) {
            fetch_slots(outputs, RECV_SCALES, slots.recv_scales, first, count);
        } else {
            fetch_columns(outputs, slots.recv_scales, first, count);
        }
    }
}

/* The rows of x and, where they are fp8, their scales. */
typedef struct home_rows {
    payload_t x;
    payload_t scales; /* column_count 0: none */
} home_rows_t;

static home_rows_t home_rows(const trial_t *trial, uint64_t round)
{
    const scenario_t *scenario = &trial->scenario;
    home_rows_t rows = {.x = payload_of(trial, PAYLOAD_X, scenario->x_dtype, round),
                        .scales = payload_of(trial, PAYLOAD_X_SCALES, MOXIE_DTYPE_FP32, round)};
    rows.scales.column_count = scenario->x_dtype == MOXIE_DTYPE_FP8_E4M3
                                   ? moxie_scale_words(scenario->scale_type, scenario->hidden)
                                   : 0;
    return rows;
}

static moxie_dispatch_in_t dispatch_in(const scenario_t *scenario)
{
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    in.dtype = scenario->x_dtype;
    in.wire_dtype = scenario->quantised ? MOXIE_DTYPE_FP8_E4M3 : 0;
    in.scale_type = scenario->scale_type;
    in.scale_layout = scenario->scale_layout;
    return in;
}

static moxie_status_t run_reference(trial_t *trial, const home_rows_t *rows,
                                    const moxie_dispatch_out_t *out)
{
    payload_reader_t x, scales;
    payload_reader_open(&x, &rows->x);
    payload_reader_open(&scales, &rows->scales);
    const moxie_dispatch_in_t in = dispatch_in(&trial->scenario);
    const moxie_status_t status =
        scenario_has_scales(&trial->scenario)
            ? moxie_reference_dispatch_fp8(&trial->world.world, trial->self->rank, &x.reader,
                                           &scales.reader, &in, out)
            : moxie_reference_dispatch(&trial->world.world, trial->self->rank, &x.reader, out);
    payload_reader_close(&x);
    payload_reader_close(&scales);
    return status;
}

/* Runs the reference into a second piece of memory and compares. */
static bool check_dispatch(trial_t *trial, const piece_t *outputs, const piece_t *counts,
                           const home_rows_t *rows)
{
    void *expected = arena_allocate(outputs->arena);
    void *expected_counts = arena_allocate(counts->arena);
    moxie_dispatch_out_t out;
    point_dispatch(trial, outputs->arena, expected, counts->arena, expected_counts, &out);
    const bool good =
        trial_expect(trial, "reference_dispatch", run_reference(trial, rows, &out)) &&
        compare(trial, "dispatch", outputs->arena, outputs->host, expected,
                trial->scenario.quantised ? NULL : &rows->x) &&
        compare(trial, "dispatch", counts->arena, counts->host, expected_counts, NULL);
    free(expected);
    free(expected_counts);
    return good;
}

static void plan_home_rows(const trial_t *trial, const home_rows_t *rows, arena_t *arena)
{
    *arena = (arena_t){.region_count = 0};
    arena_add(arena, salt(trial), "x", moxie_dtype_bytes(rows->x.dtype), rows->x.column_count,
              trial->token_count);
    if (rows->scales.column_count > 0) {
        arena_add(arena, salt(trial), "x_scales", sizeof(uint32_t), rows->scales.column_count,
                  trial->token_count);
    }
    arena_finish(arena);
}

static bool brings_routing(const trial_t *trial)
{
    return trial->scenario.brings_routing && !trial->scenario.halves && !trial->has_dispatched;
}

/* In one call or two. */
static moxie_status_t call_dispatch(trial_t *trial, const moxie_dispatch_in_t *in,
                                    const moxie_dispatch_out_t *out)
{
    moxie_stream_t stream = device_stream(trial->self->device);
    if (brings_routing(trial)) {
        return trial_call_dispatch_routing(trial, in, out);
    }
    if (!trial->scenario.halves) {
        return moxie_dispatch(trial->route, in, out, stream);
    }
    const moxie_status_t status = moxie_dispatch_send(trial->route, in, stream);
    if (trial->between != NULL) {
        trial->between(trial);
    }
    return status != MOXIE_OK ? status : moxie_dispatch_receive(trial->route, out, stream);
}

static moxie_status_t call_combine(trial_t *trial, const moxie_combine_in_t *in,
                                   const moxie_combine_out_t *out)
{
    moxie_stream_t stream = device_stream(trial->self->device);
    if (!trial->scenario.halves) {
        return moxie_combine(trial->route, in, out, stream);
    }
    const moxie_status_t status = moxie_combine_send(trial->route, in, stream);
    if (trial->between != NULL) {
        trial->between(trial);
    }
    return status != MOXIE_OK ? status : moxie_combine_receive(trial->route, out, stream);
}

bool trial_dispatch(trial_t *trial, uint64_t round)
{
    device_t *device = trial->self->device;
    const home_rows_t rows = home_rows(trial, round);
    const bool has_x = trial->token_count > 0 || !trial->scenario.null_outputs;
    arena_t arena, home, counts_arena;
    trial_plan_dispatch(trial, &arena);
    plan_counts(trial, &counts_arena);
    plan_home_rows(trial, &rows, &home);
    piece_t outputs = piece_in_window(device, &arena, trial->memory.outputs);
    piece_t counts = piece_at_home(device, &counts_arena);
    piece_t x = piece_at_home(device, &home);
    moxie_dispatch_in_t in = dispatch_in(&trial->scenario);
    payload_fill_rows(&rows.x, trial->self->rank, trial->token_count, piece_host(&x, 0));
    in.x = has_x ? arena_at(&home, 0, x.given) : NULL;
    if (rows.scales.column_count > 0) {
        payload_fill_rows(&rows.scales, trial->self->rank, trial->token_count, piece_host(&x, 1));
        in.x_scales = has_x ? arena_at(&home, 1, x.given) : NULL;
    }
    piece_upload(&x);

    moxie_dispatch_out_t out;
    point_dispatch(trial, &arena, outputs.given, &counts_arena, counts.given, &out);
    bool good = !has_slots(trial) || point_slots(trial, &out);
    const trial_fenv_t fenv = trial_fenv_enter(trial);
    moxie_status_t status = call_dispatch(trial, &in, &out);
    good = trial_fenv_leave(trial, fenv) && good;
    piece_scramble(&x); /* peers must have read what they need */
    status = device_settle(device, trial->route, status);
    piece_download(&counts);
    if (!has_slots(trial)) {
        piece_download(&outputs);
    } else if (status == MOXIE_OK) {
        fetch_rows(trial, &outputs, &counts);
    }
    good = good && trial_expect(trial, "dispatch", status) &&
           check_dispatch(trial, &outputs, &counts, &rows);
    if (good && (trial->scenario.mode == MOXIE_MODE_LOW_LATENCY || brings_routing(trial))) {
        good = trial_check_rows(trial) &&
               trial_expect(trial, "layout_check", moxie_layout_check(trial->route));
    }
    trial->has_dispatched = trial->has_dispatched || good;
    piece_free(&outputs);
    piece_free(&counts);
    piece_free(&x);
    return good;
}

/* What the peers read in one call; the copy shows later whether the call changed it. */
typedef struct inputs {
    piece_t piece;
    void *copy;
} inputs_t;

/* Fills the window of inputs. */
static inputs_t fill_inputs(const trial_t *trial, const arena_t *arena, const payload_t *rows,
                            const payload_t *weights)
{
    const piece_t piece = piece_in_window(trial->self->device, arena, trial->memory.inputs);
    payload_fill_rows(rows, trial->self->rank, trial->recv_row_count, piece_host(&piece, 0));
    if (weights != NULL) {
        payload_fill_rows(weights, trial->self->rank, trial->recv_row_count, piece_host(&piece, 1));
    }
    piece_upload(&piece);
    return (inputs_t){piece, arena_copy(arena, piece.host)};
}

/* Right after the call: what peers have still to read would be scrambled. */
static bool inputs_kept(trial_t *trial, const char *call, inputs_t *inputs)
{
    piece_download(&inputs->piece);
    const bool kept =
        compare(trial, call, inputs->piece.arena, inputs->piece.host, inputs->copy, NULL);
    piece_scramble(&inputs->piece);
    piece_free(&inputs->piece);
    free(inputs->copy);
    return kept;
}

bool trial_combine(trial_t *trial, uint64_t round)
{
    const scenario_t *scenario = &trial->scenario;
    device_t *device = trial->self->device;
    const payload_t payload = payload_of(trial, PAYLOAD_Y, scenario->y_dtype, round);
    arena_t arena, home;
    trial_plan_y(trial, &arena);
    plan_home(trial, "out", scenario->out_dtype, NULL, &home);
    piece_t result = piece_at_home(device, &home);
    void *expected = arena_allocate(&home);
    inputs_t inputs = fill_inputs(trial, &arena, &payload, NULL);

    moxie_combine_in_t in = MOXIE_COMBINE_IN_INIT;
    in.y = arena_at(&arena, 0, inputs.piece.given);
    in.dtype = scenario->y_dtype;
    in.wire_dtype = scenario->wire_dtype;
    in.unweighted = scenario->unweighted;
    moxie_combine_out_t out = MOXIE_COMBINE_OUT_INIT;
    out.out = arena_at(&home, 0, result.given);
    out.dtype = scenario->out_dtype;
    const trial_fenv_t fenv = trial_fenv_enter(trial);
    moxie_status_t status = call_combine(trial, &in, &out);
    bool good = trial_fenv_leave(trial, fenv);
    good = inputs_kept(trial, "combine", &inputs) && good;
    status = device_settle(device, trial->route, status);
    piece_download(&result);

    payload_reader_t reader;
    payload_reader_open(&reader, &payload);
    out.out = arena_at(&home, 0, expected);
    good = good && trial_expect(trial, "combine", status) &&
           trial_expect(trial, "reference_combine",
                        moxie_reference_combine(&trial->world.world, trial->self->rank,
                                                &reader.reader, &in, &out)) &&
           compare(trial, "combine", &home, result.host, expected, NULL);
    payload_reader_close(&reader);
    piece_free(&result);
    free(expected);
    return good;
}

/* Whether any rank asks for the gradients of its weights: then all ranks give what they need. */
static bool anyone_asks(const trial_t *trial)
{
    for (int32_t rank = 0; rank < trial->world.rank_count; rank++) {
        if (!leaves_out(trial, rank, 5)) {
            return true;
        }
    }
    return false;
}

/* The call, or with readers the reference, of the backward of dispatch into `result`. */
static moxie_status_t run_dispatch_backward(trial_t *trial, const piece_t *inputs,
                                            const arena_t *home, void *result,
                                            const payload_reader_t *rows,
                                            const payload_reader_t *weights)
{
    const scenario_t *scenario = &trial->scenario;
    moxie_dispatch_backward_in_t in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    in.d_recv_x = arena_at(inputs->arena, 0, inputs->given);
    in.dtype = scenario->y_dtype;
    in.wire_dtype = scenario->wire_dtype;
    if (anyone_asks(trial)) {
        in.d_recv_weights = arena_at(inputs->arena, 1, inputs->given);
    }
    moxie_dispatch_backward_out_t out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    out.d_x = arena_at(home, 0, result);
    out.dtype = scenario->out_dtype;
    if (!leaves_out(trial, trial->self->rank, 5)) {
        out.d_topk_weights = arena_at(home, 1, result);
    }
    if (rows == NULL) {
        return moxie_dispatch_backward(trial->route, &in, &out, device_stream(trial->self->device));
    }
    return moxie_reference_dispatch_backward(&trial->world.world, trial->self->rank, &rows->reader,
                                             &weights->reader, &in, &out);
}

bool trial_dispatch_backward(trial_t *trial, uint64_t round)
{
    const scenario_t *scenario = &trial->scenario;
    device_t *device = trial->self->device;
    const payload_t rows = payload_of(trial, PAYLOAD_D_RECV_X, scenario->y_dtype, round);
    const payload_t weights = weight_payload(trial, round);
    arena_t arena, home;
    trial_plan_d_recv(trial, &arena);
    plan_home(trial, "d_x", scenario->out_dtype, "d_topk_weights", &home);
    piece_t result = piece_at_home(device, &home);
    void *expected = arena_allocate(&home);
    inputs_t inputs = fill_inputs(trial, &arena, &rows, &weights);
    const piece_t read = inputs.piece;
    const trial_fenv_t fenv = trial_fenv_enter(trial);
    moxie_status_t status = run_dispatch_backward(trial, &read, &home, result.given, NULL, NULL);
    bool good = trial_fenv_leave(trial, fenv);
    good = inputs_kept(trial, "dispatch_backward", &inputs) && good;
    status = device_settle(device, trial->route, status);
    piece_download(&result);

    payload_reader_t row_reader, weight_reader;
    payload_reader_open(&row_reader, &rows);
    payload_reader_open(&weight_reader, &weights);
    good = good && trial_expect(trial, "dispatch_backward", status) &&
           trial_expect(
               trial, "reference_dispatch_backward",
               run_dispatch_backward(trial, &read, &home, expected, &row_reader, &weight_reader)) &&
           compare(trial, "dispatch_backward", &home, result.host, expected, NULL);
    payload_reader_close(&row_reader);
    payload_reader_close(&weight_reader);
    piece_free(&result);
    free(expected);
    return good;
}

/* Memory of one run of the backward of combine: what the peers write, and what is written here. */
typedef struct backward_memory {
    const arena_t *d_y_arena;
    void *d_y;
    const arena_t *home_arena; /* d_out and d_topk_weights */
    void *home;
} backward_memory_t;

static moxie_status_t run_combine_backward(trial_t *trial, const void *y_rows,
                                           const backward_memory_t *memory,
                                           const payload_reader_t *d_out, const payload_reader_t *y)
{
    const bool has_weights = is_expert_major(trial) && !trial->scenario.unweighted;
    moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    in.d_out = arena_at(memory->home_arena, 0, memory->home);
    in.dtype = trial->scenario.y_dtype;
    in.unweighted = trial->scenario.unweighted;
    if (has_weights && anyone_asks(trial)) {
        in.y = y_rows;
    }
    moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    out.row_capacity = trial->row_capacity;
    out.d_y = arena_at(memory->d_y_arena, 0, memory->d_y);
    if (has_weights && !leaves_out(trial, trial->self->rank, 5)) {
        out.d_topk_weights = arena_at(memory->home_arena, 1, memory->home);
    }
    if (d_out == NULL) {
        return moxie_combine_backward(trial->route, &in, &out, device_stream(trial->self->device));
    }
    return moxie_reference_combine_backward(&trial->world.world, trial->self->rank, &d_out->reader,
                                            &y->reader, &in, &out);
}

static bool check_combine_backward(trial_t *trial, const void *y_rows, const piece_t *d_y,
                                   const piece_t *home, const payload_t *d_out, const payload_t *y)
{
    const backward_memory_t expected = {d_y->arena, arena_allocate(d_y->arena), home->arena,
                                        arena_allocate(home->arena)};
    payload_fill_rows(d_out, trial->self->rank, trial->token_count,
                      arena_at(home->arena, 0, expected.home));
    payload_reader_t d_out_reader, y_reader;
    payload_reader_open(&d_out_reader, d_out);
    payload_reader_open(&y_reader, y);
    const bool good =
        trial_expect(trial, "reference_combine_backward",
                     run_combine_backward(trial, y_rows, &expected, &d_out_reader, &y_reader)) &&
        compare(trial, "combine_backward", d_y->arena, d_y->host, expected.d_y, d_out) &&
        compare(trial, "combine_backward", home->arena, home->host, expected.home, NULL);
    payload_reader_close(&d_out_reader);
    payload_reader_close(&y_reader);
    free(expected.d_y);
    free(expected.home);
    return good;
}

bool trial_combine_backward(trial_t *trial, uint64_t round)
{
    const scenario_t *scenario = &trial->scenario;
    device_t *device = trial->self->device;
    const payload_t d_out = payload_of(trial, PAYLOAD_D_OUT, scenario->y_dtype, round);
    const payload_t y = payload_of(trial, PAYLOAD_Y, scenario->y_dtype, round);
    arena_t y_arena, d_y_arena, home_arena;
    trial_plan_y(trial, &y_arena);
    trial_plan_d_y(trial, &d_y_arena);
    plan_home(trial, "d_out", scenario->y_dtype, "d_topk_weights", &home_arena);
    piece_t d_y = piece_in_window(device, &d_y_arena, trial->memory.outputs);
    piece_t home = piece_at_home(device, &home_arena);
    payload_fill_rows(&d_out, trial->self->rank, trial->token_count, piece_host(&home, 0));
    piece_upload(&home);
    inputs_t inputs = fill_inputs(trial, &y_arena, &y, NULL);
    const void *y_rows = arena_at(&y_arena, 0, inputs.piece.given);
    const backward_memory_t memory = {&d_y_arena, d_y.given, &home_arena, home.given};
    const trial_fenv_t fenv = trial_fenv_enter(trial);
    moxie_status_t status = run_combine_backward(trial, y_rows, &memory, NULL, NULL);
    bool good = trial_fenv_leave(trial, fenv);
    good = inputs_kept(trial, "combine_backward", &inputs) && good;
    status = device_settle(device, trial->route, status);
    piece_download(&d_y);
    piece_download(&home);
    good = good && trial_expect(trial, "combine_backward", status) &&
           check_combine_backward(trial, y_rows, &d_y, &home, &d_out, &y);
    piece_free(&d_y);
    piece_free(&home);
    return good;
}
