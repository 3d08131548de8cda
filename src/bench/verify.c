/* SPDX-License-Identifier: Apache-2.0 */
/* Compares outputs with the reference. Columns do not influence each other, so rows are compared a
 * block of columns at a time: memory stays bounded however large the shape is. Inputs of other
 * ranks are made again, row by row, as the reference asks for them. */
#include "bench/verify.h"

#include "bench/baseline.h"
#include "moxie/reference.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the expected rows may take. */
#define EXPECTED_BYTES_MAX (INT64_C(64) << 20)

/* Blocks begin where groups of columns do that share a scale. */
enum { COLUMN_BLOCK_UNIT = MOXIE_SCALE_COLUMNS };

/* One comparison of one rank. */
typedef struct check {
    const session_t *session;
    side_t side;
    slot_t slot;
    int64_t turn;
    moxie_world_t world;
    moxie_routing_t *routing; /* [rank_count] */
    char *expected;           /* rows of a block of columns, then numbers of each row */
    int64_t block_rows; /* of what was received: in low latency rows lie in blocks of slots, */
    int64_t *block_row_count; /* [blocks] of which the first so many are used */
    int32_t block_count;
    char *mismatch;
} check_t;

/* Rows as a call wrote them, of which a range of columns is compared. */
typedef struct written {
    const char *what;
    const void *rows;
    size_t row_bytes;
    size_t element_bytes;
    const void *wanted; /* [rows][width] */
    int64_t column;
    int64_t width;
    bool is_received;
} written_t;

/* Makes a row's block of columns again. */
typedef struct row_maker {
    const session_t *session;
    payload_t payload;
    int64_t column;
    int64_t width;
    void *row;
} row_maker_t;

static int64_t rows_max(const plan_t *plan, int32_t rank)
{
    int64_t recv = plan->recv_row_count[rank];
    int64_t tokens = routing_token_count(&plan->routing, rank);
    return recv > tokens ? recv : tokens;
}

static int64_t block_width(const plan_t *plan, int32_t rank)
{
    int64_t rows = rows_max(plan, rank);
    int64_t element_bytes = (int64_t)moxie_dtype_bytes(MOXIE_DTYPE_BF16);
    int64_t width = EXPECTED_BYTES_MAX / (element_bytes * (rows > 0 ? rows : 1));
    width -= width % COLUMN_BLOCK_UNIT;
    if (width < COLUMN_BLOCK_UNIT)
        width = COLUMN_BLOCK_UNIT;
    return width < plan->hidden ? width : plan->hidden;
}

static uint64_t expected_bytes(const plan_t *plan, int32_t rank)
{
    uint64_t rows = (uint64_t)rows_max(plan, rank) + 1;
    uint64_t block = rows * ((uint64_t)block_width(plan, rank) * sizeof(uint16_t) +
                             (uint64_t)plan_scale_count(plan) * sizeof(float) + sizeof(float));
    uint64_t slots = rows * (uint64_t)plan->topk * sizeof(float);
    uint64_t sources = rows * sizeof(moxie_row_source_t);
    uint64_t experts = ((uint64_t)plan->expert_count + 1) * sizeof(int64_t);
    uint64_t largest = block > slots ? block : slots;
    largest = largest > sources ? largest : sources;
    return largest > experts ? largest : experts;
}

/* Blocks of slots, by source or by local expert; at least one. */
static uint64_t block_count_max(const plan_t *plan, int32_t rank)
{
    int32_t local_experts = moxie_placement_local_count(plan->placement, rank);
    return (uint64_t)(local_experts > plan->rank_count ? local_experts : plan->rank_count);
}

uint64_t verify_bytes(const plan_t *plan, int32_t rank)
{
    /* The reference itself takes a few rows of fp32 and counters; one row is made again here. */
    return expected_bytes(plan, rank) + (uint64_t)plan->hidden * 4 * sizeof(float) +
           ((uint64_t)plan->expert_count * 2 + block_count_max(plan, rank)) * sizeof(int64_t);
}

static const void *make_bf16(void *ctx, int32_t rank, int64_t row)
{
    const row_maker_t *maker = ctx;
    payload_row_bf16(&maker->payload, rank, row, maker->column, maker->width, maker->row);
    link_alive(maker->session->link);
    return maker->row;
}

static const void *make_fp8(void *ctx, int32_t rank, int64_t row)
{
    const row_maker_t *maker = ctx;
    payload_row_fp8(&maker->payload, rank, row, maker->column, maker->width, maker->row);
    link_alive(maker->session->link);
    return maker->row;
}

/* Scales of the columns: those of the whole row are made. */
static const void *make_scales(void *ctx, int32_t rank, int64_t row)
{
    const row_maker_t *maker = ctx;
    int64_t first = maker->column / MOXIE_SCALE_COLUMNS;
    payload_row_fp32(&maker->payload, rank, row, plan_scale_count(maker->session->plan),
                     maker->row);
    return (const float *)maker->row + first;
}

static const void *make_fp32(void *ctx, int32_t rank, int64_t row)
{
    const row_maker_t *maker = ctx;
    payload_row_fp32(&maker->payload, rank, row, maker->width, maker->row);
    return maker->row;
}

static bool is_clean(const check_t *check)
{
    return check->mismatch[0] == '\0';
}

/* Which token a row of the expert_major or rank_major layout came from; {-1, -1, -1}: unknown. */
static moxie_row_source_t source_of_row(const check_t *check, int64_t row)
{
    const plan_t *plan = check->session->plan;
    moxie_row_source_t source = {-1, -1, -1};
    if (plan->layout == MOXIE_LAYOUT_EXPERT_MAJOR) {
        moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
        out.row_capacity = check->session->buffers.row_capacity;
        out.row_source = (void *)check->expected;
        moxie_world_t world = check->world;
        if (moxie_reference_dispatch(&world, check->session->rank, NULL, &out) == MOXIE_OK)
            source = out.row_source[row];
        return source;
    }
    int32_t first = 0;
    if (plan->is_low_latency) {
        first = (int32_t)(row / plan->token_count_max);
        row %= plan->token_count_max;
    }
    for (int32_t rank = first; rank < plan->rank_count; rank++) {
        for (int64_t token = 0; token < routing_token_count(&plan->routing, rank); token++) {
            const int32_t *ids =
                plan->routing.topk_idx + (plan->routing.token_start[rank] + token) * plan->topk;
            bool is_here = false;
            for (int32_t slot = 0; slot < plan->topk; slot++)
                is_here |= moxie_placement_rank(plan->placement, ids[slot]) == check->session->rank;
            if (is_here && row-- == 0)
                return (moxie_row_source_t){rank, (int32_t)token, 0};
        }
    }
    return source;
}

static void report_element(const check_t *check, const written_t *written, int64_t row,
                           const char *wanted, const char *got)
{
    moxie_row_source_t source = {check->session->rank, (int32_t)row, 0};
    uint32_t wanted_bits = 0;
    uint32_t got_bits = 0;
    size_t at = 0;
    while (memcmp(wanted + at, got + at, written->element_bytes) == 0)
        at += written->element_bytes;
    memcpy(&wanted_bits, wanted + at, written->element_bytes);
    memcpy(&got_bits, got + at, written->element_bytes);
    if (written->is_received)
        source = source_of_row(check, row);
    (void)snprintf(check->mismatch, VERIFY_TEXT_BYTES,
                   "rank %d, %s%s: %s row %" PRId64 " (source rank %d, token %d), column %" PRId64
                   ": expected 0x%0*x, got 0x%0*x",
                   check->session->rank, check->side == SIDE_BASELINE ? "baseline " : "",
                   session_slot_name(check->session, check->slot), written->what, row, source.rank,
                   source.token, written->column + (int64_t)(at / written->element_bytes),
                   (int)written->element_bytes * 2, wanted_bits, (int)written->element_bytes * 2,
                   got_bits);
}

/* A block of columns of rows, as many rows at a time as the device hands over. */
static void compare_rows(const check_t *check, const written_t *written, int64_t row, int64_t end)
{
    device_t *device = check->session->device;
    size_t width_bytes = (size_t)written->width * written->element_bytes;
    size_t column_offset = (size_t)written->column * written->element_bytes;
    const char *piece = NULL;
    size_t pitch = 0;
    int64_t piece_start = 0;
    for (int64_t piece_end = row; row < end && is_clean(check); row++) {
        if (row == piece_end) {
            const char *from =
                (const char *)written->rows + (size_t)row * written->row_bytes + column_offset;
            piece_start = row;
            piece_end = row + device_piece_rows(device, width_bytes, end - row);
            piece = device->ops->read_rows(device, from, written->row_bytes, width_bytes,
                                           piece_end - row, &pitch);
            if (piece == NULL)
                return; /* the device keeps why */
        }
        const char *wanted = (const char *)written->wanted + (size_t)row * width_bytes;
        const char *got = piece + (size_t)(row - piece_start) * pitch;
        if (memcmp(wanted, got, width_bytes) != 0)
            report_element(check, written, row, wanted, got);
    }
}

/* All of what was received: the rows in use of each block. */
static void compare_received(const check_t *check, const written_t *written)
{
    for (int32_t block = 0; block < check->block_count && is_clean(check); block++) {
        int64_t first = block * check->block_rows;
        compare_rows(check, written, first, first + check->block_row_count[block]);
    }
}

/* The numbers from `first` on; the next one to look at, or `count` when there is nothing more. */
static int64_t compare_piece(const check_t *check, const char *what, const char *actual,
                             int64_t first, int64_t count, size_t element_bytes,
                             int64_t count_per_row)
{
    device_t *device = check->session->device;
    int64_t piece_count = device_piece_rows(device, element_bytes, count - first);
    size_t bytes = (size_t)piece_count * element_bytes;
    size_t offset = (size_t)first * element_bytes;
    size_t pitch = 0;
    const char *wanted = check->expected + offset;
    const char *got = device->ops->read_rows(device, actual + offset, bytes, bytes, 1, &pitch);
    if (got == NULL)
        return count; /* the device keeps why */
    if (memcmp(wanted, got, bytes) == 0)
        return first + piece_count;
    size_t at = 0;
    while (memcmp(wanted + at, got + at, element_bytes) == 0)
        at += element_bytes;
    int64_t i = first + (int64_t)(at / element_bytes);
    uint64_t wanted_bits = 0;
    uint64_t got_bits = 0;
    memcpy(&wanted_bits, wanted + at, element_bytes);
    memcpy(&got_bits, got + at, element_bytes);
    (void)snprintf(check->mismatch, VERIFY_TEXT_BYTES,
                   "rank %d, %s%s: %s of row %" PRId64 ", place %" PRId64
                   ": expected bits 0x%" PRIx64 ", got 0x%" PRIx64,
                   check->session->rank, check->side == SIDE_BASELINE ? "baseline " : "",
                   session_slot_name(check->session, check->slot), what, i / count_per_row,
                   i % count_per_row, wanted_bits, got_bits);
    return count;
}

/* Numbers beside the rows: ids, weights, sources, counts; each of 4 or 8 bytes. */
static void compare_numbers(const check_t *check, const char *what, const void *actual,
                            int64_t count, size_t element_bytes, int64_t count_per_row)
{
    for (int64_t next = 0; next < count && is_clean(check);)
        next = compare_piece(check, what, actual, next, count, element_bytes, count_per_row);
}

/* One array of what dispatch delivers beside the rows; `out` names it by its one pointer. */
static bool check_array(const check_t *check, const char *what, moxie_dispatch_out_t *out,
                        const void *actual, int64_t count, size_t element_bytes)
{
    out->row_capacity = check->session->buffers.row_capacity;
    if (moxie_reference_dispatch(&check->world, check->session->rank, NULL, out) != MOXIE_OK)
        return false;
    compare_numbers(check, what, actual, count, element_bytes, 1);
    return true;
}

/* The same of an array with some numbers for each row. */
static bool check_row_array(const check_t *check, const char *what, moxie_dispatch_out_t *out,
                            const void *actual, int64_t count_per_row)
{
    const written_t written = {.what = what,
                               .rows = actual,
                               .row_bytes = (size_t)count_per_row * sizeof(int32_t),
                               .element_bytes = sizeof(int32_t),
                               .wanted = check->expected,
                               .width = count_per_row,
                               .is_received = true};
    out->row_capacity = check->session->buffers.row_capacity;
    if (moxie_reference_dispatch(&check->world, check->session->rank, NULL, out) != MOXIE_OK)
        return false;
    compare_received(check, &written);
    return true;
}

static bool check_rank_major_arrays(const check_t *check, const moxie_dispatch_out_t *actual)
{
    int64_t topk = check->session->plan->topk;
    moxie_dispatch_out_t ids = MOXIE_DISPATCH_OUT_INIT;
    moxie_dispatch_out_t weights = MOXIE_DISPATCH_OUT_INIT;
    ids.recv_topk_idx = (void *)check->expected;
    weights.recv_topk_weights = (void *)check->expected;
    return check_row_array(check, "recv_topk_idx", &ids, actual->recv_topk_idx, topk) &&
           check_row_array(check, "recv_topk_weights", &weights, actual->recv_topk_weights, topk);
}

static bool check_expert_major_arrays(const check_t *check, const moxie_dispatch_out_t *actual)
{
    int64_t local_experts =
        moxie_placement_local_count(check->world.placement, check->session->rank);
    moxie_dispatch_out_t weights = MOXIE_DISPATCH_OUT_INIT;
    moxie_dispatch_out_t sources = MOXIE_DISPATCH_OUT_INIT;
    moxie_dispatch_out_t starts = MOXIE_DISPATCH_OUT_INIT;
    weights.row_weight = (void *)check->expected;
    sources.row_source = (void *)check->expected;
    starts.expert_start = (void *)check->expected;
    if (!check_array(check, "expert_start", &starts, actual->expert_start, local_experts + 1,
                     sizeof(int64_t)))
        return false;
    return (check->side == SIDE_BASELINE && check->session->baseline.table->is_bare) ||
           (check_row_array(check, "row_weight", &weights, actual->row_weight, 1) &&
            check_row_array(check, "row_source", &sources, actual->row_source, 3));
}

static bool check_arrays(const check_t *check)
{
    moxie_dispatch_out_t actual = session_dispatch_out(check->session);
    moxie_dispatch_out_t counts = MOXIE_DISPATCH_OUT_INIT;
    counts.expert_count = (void *)check->expected;
    int64_t local_experts =
        moxie_placement_local_count(check->world.placement, check->session->rank);
    if (!check_array(check, "expert_count", &counts, actual.expert_count, local_experts,
                     sizeof(int64_t)))
        return false;
    return check->world.layout == MOXIE_LAYOUT_RANK_MAJOR
               ? check_rank_major_arrays(check, &actual)
               : check_expert_major_arrays(check, &actual);
}

static row_maker_t home_maker(const check_t *check, void *row)
{
    int32_t set = session_home_set(check->session, check->turn);
    return (row_maker_t){check->session, session_home_payload(check->session, set), 0,
                         check->session->plan->hidden, row};
}

static row_maker_t expert_maker(const check_t *check, void *row)
{
    int32_t set = session_expert_set(check->session, check->turn);
    return (row_maker_t){check->session, session_expert_payload(check->session, set), 0,
                         check->session->plan->hidden, row};
}

/* Rows that the experts' side received: of dispatch, or d_y of the backward of combine. */
static moxie_status_t reference_received(const check_t *check, const moxie_row_reader_t *home)
{
    int32_t rank = check->session->rank;
    if (check->session->plan->is_backward) {
        moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
        moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
        out.row_capacity = check->session->buffers.row_capacity;
        out.d_y = check->expected;
        return moxie_reference_combine_backward(&check->world, rank, home, NULL, &in, &out);
    }
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = check->session->buffers.row_capacity;
    out.recv_x = check->expected;
    return moxie_reference_dispatch(&check->world, rank, home, &out);
}

/* Rows that came home: out of combine, or d_x of the backward of dispatch. */
static moxie_status_t reference_home(const check_t *check, const moxie_row_reader_t *expert)
{
    int32_t rank = check->session->rank;
    if (check->session->plan->is_backward) {
        moxie_dispatch_backward_in_t in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
        moxie_dispatch_backward_out_t out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
        out.d_x = check->expected;
        return moxie_reference_dispatch_backward(&check->world, rank, expert, NULL, &in, &out);
    }
    moxie_combine_in_t in = MOXIE_COMBINE_IN_INIT;
    moxie_combine_out_t out = MOXIE_COMBINE_OUT_INIT;
    out.out = check->expected;
    return moxie_reference_combine(&check->world, rank, expert, &in, &out);
}

/* All rows of the call, a block of columns at a time. */
static moxie_status_t check_rows(check_t *check, bool is_received, void *row)
{
    const plan_t *plan = check->session->plan;
    const buffers_t *buffers = &check->session->buffers;
    int32_t rank = check->session->rank;
    int64_t width_max = block_width(plan, rank);
    row_maker_t maker = is_received ? home_maker(check, row) : expert_maker(check, row);
    moxie_row_reader_t reader = {make_bf16, &maker, MOXIE_DTYPE_BF16};
    written_t written = {.rows = is_received ? session_dispatch_out(check->session).recv_x
                                             : buffers_out(buffers),
                         .row_bytes = (size_t)plan_row_bytes(plan),
                         .element_bytes = sizeof(uint16_t),
                         .wanted = check->expected,
                         .is_received = is_received};
    written.what =
        plan->is_backward ? (is_received ? "d_y" : "d_x") : (is_received ? "recv_x" : "out");
    moxie_status_t status = MOXIE_OK;
    for (int64_t column = 0; column < plan->hidden && status == MOXIE_OK && is_clean(check);
         column += width_max) {
        maker.column = written.column = column;
        written.width = plan->hidden - column < width_max ? plan->hidden - column : width_max;
        check->world.hidden = maker.width = written.width;
        status = is_received ? reference_received(check, &reader) : reference_home(check, &reader);
        if (status == MOXIE_OK && is_received)
            compare_received(check, &written);
        else if (status == MOXIE_OK)
            compare_rows(check, &written, 0, routing_token_count(&plan->routing, rank));
    }
    check->world.hidden = plan->hidden;
    return status;
}

/* Rows that arrive as fp8, and their scales. */
static moxie_status_t check_fp8_rows(check_t *check, void *row)
{
    const plan_t *plan = check->session->plan;
    int32_t rank = check->session->rank;
    int64_t width_max = block_width(plan, rank);
    int32_t set = session_home_set(check->session, check->turn);
    float *scale_row = calloc((size_t)plan_scale_count(plan), sizeof(*scale_row));
    if (scale_row == NULL)
        return MOXIE_ERR_MEMORY;
    row_maker_t maker = home_maker(check, row);
    row_maker_t scale_maker = {.session = check->session,
                               .payload = session_scales_payload(check->session, set),
                               .row = scale_row};
    moxie_row_reader_t reader = {plan->is_quantized ? make_bf16 : make_fp8, &maker,
                                 plan->is_quantized ? MOXIE_DTYPE_BF16 : MOXIE_DTYPE_FP8_E4M3};
    moxie_row_reader_t scale_reader = {make_scales, &scale_maker, MOXIE_DTYPE_FP32};
    moxie_dispatch_in_t in = session_dispatch_in(check->session);
    moxie_dispatch_out_t actual = session_dispatch_out(check->session);
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    written_t rows = {"recv_x", actual.recv_x, (size_t)plan_recv_row_bytes(plan), 1, NULL, 0,
                      0,        true};
    written_t scales = {"recv_scales",
                        actual.recv_scales,
                        (size_t)plan_scale_count(plan) * sizeof(float),
                        sizeof(float),
                        NULL,
                        0,
                        0,
                        true};
    moxie_status_t status = MOXIE_OK;
    out.row_capacity = check->session->buffers.row_capacity;
    for (int64_t column = 0; column < plan->hidden && status == MOXIE_OK && is_clean(check);
         column += width_max) {
        maker.column = scale_maker.column = rows.column = column;
        rows.width = plan->hidden - column < width_max ? plan->hidden - column : width_max;
        check->world.hidden = maker.width = rows.width;
        scales.column = column / MOXIE_SCALE_COLUMNS;
        scales.width = moxie_scale_words(MOXIE_SCALE_FP32, rows.width);
        size_t rows_bytes = (size_t)(rows_max(plan, rank) * rows.width);
        rows.wanted = out.recv_x = check->expected;
        scales.wanted = out.recv_scales =
            check->expected + (rows_bytes + sizeof(float) - 1) / sizeof(float) * sizeof(float);
        status =
            moxie_reference_dispatch_fp8(&check->world, rank, &reader, &scale_reader, &in, &out);
        if (status == MOXIE_OK)
            compare_received(check, &rows);
        if (status == MOXIE_OK && is_clean(check))
            compare_received(check, &scales);
    }
    check->world.hidden = plan->hidden;
    free(scale_row);
    return status;
}

/* d_topk_weights of the backward of dispatch: gradients travel home unchanged. */
static moxie_status_t check_travelled_weights(check_t *check, void *row)
{
    const plan_t *plan = check->session->plan;
    const session_t *session = check->session;
    int64_t width = plan->layout == MOXIE_LAYOUT_RANK_MAJOR ? plan->topk : 1;
    row_maker_t weights = {session, session_weights_payload(session), 0, width, row};
    float weight_row[MOXIE_TOPK_MAX];
    weights.row = weight_row;
    row_maker_t rows = expert_maker(check, row);
    rows.width = 1; /* the rows themselves do not matter here: one column is enough */
    moxie_row_reader_t row_reader = {make_bf16, &rows, MOXIE_DTYPE_BF16};
    moxie_row_reader_t weight_reader = {make_fp32, &weights, MOXIE_DTYPE_FP32};
    int64_t tokens = routing_token_count(&plan->routing, session->rank);
    uint16_t *d_x = malloc((size_t)(tokens + 1) * sizeof(*d_x));
    if (d_x == NULL)
        return MOXIE_ERR_MEMORY;
    moxie_dispatch_backward_in_t in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    moxie_dispatch_backward_out_t out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    out.d_x = d_x;
    out.d_topk_weights = (void *)check->expected;
    check->world.hidden = 1;
    moxie_status_t status = moxie_reference_dispatch_backward(
        &check->world, session->rank, &row_reader, &weight_reader, &in, &out);
    check->world.hidden = plan->hidden;
    free(d_x);
    if (status == MOXIE_OK)
        compare_numbers(check, "d_topk_weights", buffers_d_topk_weights(&session->buffers),
                        tokens * plan->topk, sizeof(float), plan->topk);
    return status;
}

/* d_topk_weights of the weighted combine: dot products over whole rows. */
static moxie_status_t check_weight_products(check_t *check, void *home_row, void *expert_row)
{
    const session_t *session = check->session;
    row_maker_t home = home_maker(check, home_row);
    row_maker_t expert = expert_maker(check, expert_row);
    moxie_row_reader_t home_reader = {make_bf16, &home, MOXIE_DTYPE_BF16};
    moxie_row_reader_t expert_reader = {make_bf16, &expert, MOXIE_DTYPE_BF16};
    moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    out.row_capacity = session->buffers.row_capacity;
    out.d_topk_weights = (void *)check->expected;
    moxie_status_t status = moxie_reference_combine_backward(
        &check->world, session->rank, &home_reader, &expert_reader, &in, &out);
    if (status == MOXIE_OK)
        compare_numbers(check, "d_topk_weights", buffers_d_topk_weights(&session->buffers),
                        routing_token_count(&session->plan->routing, session->rank) *
                            session->plan->topk,
                        sizeof(float), session->plan->topk);
    return status;
}

static moxie_status_t check_all(check_t *check, uint16_t *scratch)
{
    const plan_t *plan = check->session->plan;
    /* The experts' side receives in dispatch and in the backward of combine. */
    bool is_received = (check->slot == SLOT_DISPATCH) != plan->is_backward;
    moxie_status_t status = plan->has_fp8 && is_received ? check_fp8_rows(check, scratch)
                                                         : check_rows(check, is_received, scratch);
    if (status != MOXIE_OK)
        return status;
    if (!plan->is_backward && is_received && !check_arrays(check))
        return MOXIE_ERR_INTERNAL;
    if (plan->is_backward && !is_received)
        return check_travelled_weights(check, scratch);
    if (plan->is_backward && plan->layout == MOXIE_LAYOUT_EXPERT_MAJOR)
        return check_weight_products(check, scratch, scratch + plan->hidden);
    return MOXIE_OK;
}

/* Makes the call of one side; its outputs are poisoned before. */
static bool call_side(const session_t *session, side_t side, slot_t slot, int64_t turn,
                      failure_t *failure)
{
    uint64_t travel_ns = 0;
    buffers_poison(&session->buffers);
    if (side == SIDE_BASELINE) {
        return baseline_call(session, slot, turn, &travel_ns, failure);
    }
    return (session_call(session, slot, turn) == MOXIE_OK && session_status(session) == MOXIE_OK) ||
           failure_from_library(failure, session->rank, session_slot_name(session, slot));
}

/* Which of the received rows there are. In low latency a block has slots that are not used. */
static bool count_blocks(check_t *check)
{
    const plan_t *plan = check->session->plan;
    int32_t rank = check->session->rank;
    check->block_row_count = calloc(block_count_max(plan, rank), sizeof(int64_t));
    if (check->block_row_count == NULL)
        return false;
    if (!plan->is_low_latency) {
        check->block_rows = check->block_row_count[0] = plan->recv_row_count[rank];
        check->block_count = 1;
        return true;
    }
    if (plan->layout == MOXIE_LAYOUT_RANK_MAJOR) {
        check->block_rows = plan->token_count_max;
        check->block_count = plan->rank_count;
        for (int32_t source = 0; source < plan->rank_count; source++)
            check->block_row_count[source] =
                plan->rows_to_peer[(int64_t)source * plan->rank_count + rank];
        return true;
    }
    moxie_dispatch_out_t counts = MOXIE_DISPATCH_OUT_INIT;
    counts.row_capacity = plan->recv_row_count[rank];
    counts.expert_count = check->block_row_count;
    check->block_rows = plan->token_count_max * plan->rank_count;
    check->block_count = moxie_placement_local_count(plan->placement, rank);
    return moxie_reference_dispatch(&check->world, rank, NULL, &counts) == MOXIE_OK;
}

bool verify_slot(const session_t *session, side_t side, slot_t slot, int64_t turn,
                 char mismatch[VERIFY_TEXT_BYTES], failure_t *failure)
{
    const plan_t *plan = session->plan;
    if (!call_side(session, side, slot, turn, failure)) {
        return false;
    }
    link_work(session->link);
    check_t check = {
        .session = session, .side = side, .slot = slot, .turn = turn, .mismatch = mismatch};
    check.world = (moxie_world_t)MOXIE_WORLD_INIT;
    check.world.placement = plan->placement;
    check.world.hidden = plan->hidden;
    check.world.layout = plan->layout;
    check.world.topk = plan->topk;
    check.world.mode = plan->is_low_latency ? MOXIE_MODE_LOW_LATENCY : MOXIE_MODE_STANDARD;
    check.world.token_count_max = plan->token_count_max;
    check.routing = calloc((size_t)plan->rank_count, sizeof(*check.routing));
    check.expected = malloc(expected_bytes(plan, session->rank));
    uint16_t *scratch = malloc((size_t)plan->hidden * 2 * sizeof(*scratch));
    bool is_ready = check.routing != NULL && check.expected != NULL && scratch != NULL;
    for (int32_t rank = 0; is_ready && rank < plan->rank_count; rank++)
        check.routing[rank] = routing_of_rank(&plan->routing, rank);
    check.world.routing = check.routing;
    is_ready = is_ready && count_blocks(&check);
    bool is_done = is_ready;
    if (!is_ready)
        failure_set(failure, EXIT_USAGE, "rank %d: not enough memory to verify", session->rank);
    if (is_ready && is_clean(&check) && check_all(&check, scratch) != MOXIE_OK)
        is_done = failure_from_library(failure, session->rank, "reference");
    is_done = is_done && device_check(session->device, failure);
    free(check.routing);
    free(check.expected);
    free(check.block_row_count);
    free(scratch);
    return is_done;
}

void verify_extent(const session_t *session, char mismatch[VERIFY_TEXT_BYTES])
{
    const plan_t *plan = session->plan;
    int32_t rank = session->rank;
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    /* In low latency what comes is known when it has come. */
    if (mismatch[0] == '\0' && moxie_route_extent(session->route, &extent) == MOXIE_OK &&
        extent.recv_row_count == plan->recv_row_count[rank] &&
        (plan->is_low_latency ||
         (extent.logical_row_count == plan_dispatch_rows(plan, rank, true) &&
          extent.wire_row_count == plan_dispatch_rows(plan, rank, false))))
        return;
    if (mismatch[0] == '\0')
        (void)snprintf(mismatch, VERIFY_TEXT_BYTES,
                       "rank %d: the route receives %" PRId64 " rows, the routing sends %" PRId64,
                       rank, extent.recv_row_count, plan->recv_row_count[rank]);
}
