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

enum { COLUMN_BLOCK_UNIT = 64 };

/* One comparison of one rank. */
typedef struct check {
    const session_t *session;
    side_t side;
    slot_t slot;
    int64_t turn;
    moxie_world_t world;
    moxie_routing_t *routing; /* [rank_count] */
    char *expected;           /* rows of a block of columns, then numbers of each row */
    char *mismatch;
} check_t;

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
    uint64_t block = rows * (uint64_t)block_width(plan, rank) * sizeof(uint16_t);
    uint64_t slots = rows * (uint64_t)plan->topk * sizeof(float);
    uint64_t sources = rows * sizeof(moxie_row_source_t);
    uint64_t experts = ((uint64_t)plan->expert_count + 1) * sizeof(int64_t);
    uint64_t largest = block > slots ? block : slots;
    largest = largest > sources ? largest : sources;
    return largest > experts ? largest : experts;
}

uint64_t verify_bytes(const plan_t *plan, int32_t rank)
{
    /* The reference itself takes a few rows of fp32 and counters; one row is made again here. */
    return expected_bytes(plan, rank) + (uint64_t)plan->hidden * 4 * sizeof(float) +
           (uint64_t)plan->expert_count * 2 * sizeof(int64_t);
}

static const void *make_bf16(void *ctx, int32_t rank, int64_t row)
{
    const row_maker_t *maker = ctx;
    payload_row_bf16(&maker->payload, rank, row, maker->column, maker->width, maker->row);
    link_alive(maker->session->link);
    return maker->row;
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
    for (int32_t rank = 0; rank < plan->rank_count; rank++) {
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

static void report_element(const check_t *check, const char *what, bool is_received, int64_t row,
                           int64_t column, uint16_t wanted, uint16_t got)
{
    moxie_row_source_t source = {check->session->rank, (int32_t)row, 0};
    if (is_received)
        source = source_of_row(check, row);
    (void)snprintf(check->mismatch, VERIFY_TEXT_BYTES,
                   "rank %d, %s%s: %s row %" PRId64 " (source rank %d, token %d), column %" PRId64
                   ": expected 0x%04x, got 0x%04x",
                   check->session->rank, check->side == SIDE_BASELINE ? "baseline " : "",
                   session_slot_name(check->session, check->slot), what, row, source.rank,
                   source.token, column, wanted, got);
}

/* A block of columns of bf16 rows, as many rows at a time as the device hands over. */
static void compare_rows(const check_t *check, const char *what, bool is_received,
                         const char *actual, int64_t row_count, int64_t column, int64_t width)
{
    device_t *device = check->session->device;
    const uint16_t *wanted = (const void *)check->expected;
    size_t row_bytes = (size_t)plan_row_bytes(check->session->plan);
    size_t width_bytes = (size_t)width * sizeof(*wanted);
    const char *piece = NULL;
    size_t pitch = 0;
    int64_t first = 0;
    int64_t end = 0;
    for (int64_t row = 0; row < row_count && is_clean(check); row++) {
        if (row == end) {
            const char *from = actual + (size_t)row * row_bytes + (size_t)column * sizeof(*wanted);
            first = row;
            end = row + device_piece_rows(device, width_bytes, row_count - row);
            piece = device->ops->read_rows(device, from, row_bytes, width_bytes, end - row, &pitch);
            if (piece == NULL)
                return; /* the device keeps why */
        }
        const uint16_t *wanted_row = wanted + row * width;
        const uint16_t *got_row = (const void *)(piece + (size_t)(row - first) * pitch);
        if (memcmp(wanted_row, got_row, width_bytes) == 0)
            continue;
        int64_t i = 0;
        while (wanted_row[i] == got_row[i])
            i++;
        report_element(check, what, is_received, row, column + i, wanted_row[i], got_row[i]);
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
                        const void *actual, int64_t count, size_t element_bytes,
                        int64_t count_per_row)
{
    out->row_capacity = check->session->buffers.row_capacity;
    if (moxie_reference_dispatch(&check->world, check->session->rank, NULL, out) != MOXIE_OK)
        return false;
    compare_numbers(check, what, actual, count, element_bytes, count_per_row);
    return true;
}

static bool check_rank_major_arrays(const check_t *check, const moxie_dispatch_out_t *actual,
                                    int64_t rows)
{
    int64_t topk = check->session->plan->topk;
    moxie_dispatch_out_t ids = MOXIE_DISPATCH_OUT_INIT;
    moxie_dispatch_out_t weights = MOXIE_DISPATCH_OUT_INIT;
    ids.recv_topk_idx = (void *)check->expected;
    weights.recv_topk_weights = (void *)check->expected;
    return check_array(check, "recv_topk_idx", &ids, actual->recv_topk_idx, rows * topk,
                       sizeof(int32_t), topk) &&
           check_array(check, "recv_topk_weights", &weights, actual->recv_topk_weights, rows * topk,
                       sizeof(float), topk);
}

static bool check_expert_major_arrays(const check_t *check, const moxie_dispatch_out_t *actual,
                                      int64_t rows)
{
    int64_t local_experts =
        moxie_placement_local_count(check->world.placement, check->session->rank);
    moxie_dispatch_out_t weights = MOXIE_DISPATCH_OUT_INIT;
    moxie_dispatch_out_t sources = MOXIE_DISPATCH_OUT_INIT;
    moxie_dispatch_out_t starts = MOXIE_DISPATCH_OUT_INIT;
    weights.row_weight = (void *)check->expected;
    sources.row_source = (void *)check->expected;
    starts.expert_start = (void *)check->expected;
    if (check->side == SIDE_BASELINE && check->session->baseline.table->is_bare)
        return check_array(check, "expert_start", &starts, actual->expert_start, local_experts + 1,
                           sizeof(int64_t), 1);
    return check_array(check, "row_weight", &weights, actual->row_weight, rows, sizeof(float), 1) &&
           check_array(check, "row_source", &sources, actual->row_source, rows * 3, sizeof(int32_t),
                       3) &&
           check_array(check, "expert_start", &starts, actual->expert_start, local_experts + 1,
                       sizeof(int64_t), 1);
}

static bool check_arrays(const check_t *check, int64_t rows)
{
    moxie_dispatch_out_t actual = buffers_dispatch_out(&check->session->buffers);
    moxie_dispatch_out_t counts = MOXIE_DISPATCH_OUT_INIT;
    counts.expert_count = (void *)check->expected;
    int64_t local_experts =
        moxie_placement_local_count(check->world.placement, check->session->rank);
    if (!check_array(check, "expert_count", &counts, actual.expert_count, local_experts,
                     sizeof(int64_t), 1))
        return false;
    return check->world.layout == MOXIE_LAYOUT_RANK_MAJOR
               ? check_rank_major_arrays(check, &actual, rows)
               : check_expert_major_arrays(check, &actual, rows);
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
    int64_t row_count =
        is_received ? plan->recv_row_count[rank] : routing_token_count(&plan->routing, rank);
    const void *actual = is_received ? buffers_dispatch_out(buffers).recv_x : buffers_out(buffers);
    const char *what =
        plan->is_backward ? (is_received ? "d_y" : "d_x") : (is_received ? "recv_x" : "out");
    row_maker_t maker = is_received ? home_maker(check, row) : expert_maker(check, row);
    moxie_row_reader_t reader = {make_bf16, &maker, MOXIE_DTYPE_BF16};
    moxie_status_t status = MOXIE_OK;
    for (int64_t column = 0; column < plan->hidden && status == MOXIE_OK && is_clean(check);
         column += width_max) {
        maker.column = column;
        maker.width = plan->hidden - column < width_max ? plan->hidden - column : width_max;
        check->world.hidden = maker.width;
        status = is_received ? reference_received(check, &reader) : reference_home(check, &reader);
        if (status == MOXIE_OK)
            compare_rows(check, what, is_received, actual, row_count, column, maker.width);
    }
    check->world.hidden = plan->hidden;
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
    moxie_status_t status = check_rows(check, is_received, scratch);
    if (status != MOXIE_OK)
        return status;
    if (!plan->is_backward && is_received &&
        !check_arrays(check, plan->recv_row_count[check->session->rank]))
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
    check.routing = calloc((size_t)plan->rank_count, sizeof(*check.routing));
    check.expected = malloc(expected_bytes(plan, session->rank));
    uint16_t *scratch = malloc((size_t)plan->hidden * 2 * sizeof(*scratch));
    bool is_ready = check.routing != NULL && check.expected != NULL && scratch != NULL;
    bool is_done = is_ready;
    if (!is_ready)
        failure_set(failure, EXIT_USAGE, "rank %d: not enough memory to verify", session->rank);
    for (int32_t rank = 0; is_ready && rank < plan->rank_count; rank++)
        check.routing[rank] = routing_of_rank(&plan->routing, rank);
    check.world.routing = check.routing;
    if (is_ready && is_clean(&check) && check_all(&check, scratch) != MOXIE_OK)
        is_done = failure_from_library(failure, session->rank, "reference");
    is_done = is_done && device_check(session->device, failure);
    free(check.routing);
    free(check.expected);
    free(scratch);
    return is_done;
}

void verify_extent(const session_t *session, char mismatch[VERIFY_TEXT_BYTES])
{
    const plan_t *plan = session->plan;
    int32_t rank = session->rank;
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    if (mismatch[0] == '\0' && moxie_route_extent(session->route, &extent) == MOXIE_OK &&
        extent.recv_row_count == plan->recv_row_count[rank] &&
        extent.logical_row_count == plan_dispatch_rows(plan, rank, true) &&
        extent.wire_row_count == plan_dispatch_rows(plan, rank, false))
        return;
    if (mismatch[0] == '\0')
        (void)snprintf(mismatch, VERIFY_TEXT_BYTES,
                       "rank %d: the route receives %" PRId64 " rows, the routing sends %" PRId64,
                       rank, extent.recv_row_count, plan->recv_row_count[rank]);
}
