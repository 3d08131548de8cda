/* SPDX-License-Identifier: Apache-2.0 */
/* The reference on worlds so small that every expected value was worked out by hand. */
#include "support/check.h"

#include "moxie/reference.h"

#include <math.h>
#include <string.h>

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof((array)[0])))

/* Rows by (rank, row), all of one type, in tables of the test. */
typedef struct table {
    const void *rows[4]; /* by rank */
    size_t row_bytes;
} table_t;

static const void *table_row(void *ctx, int32_t rank, int64_t row)
{
    const table_t *table = ctx;
    return (const char *)table->rows[rank] + (size_t)row * table->row_bytes;
}

static moxie_row_reader_t reader_of(table_t *table, moxie_dtype_t dtype)
{
    return (moxie_row_reader_t){.row = table_row, .ctx = table, .dtype = dtype};
}

/*
 * The small world: rank 0 holds experts 0 and 1, rank 1 holds expert 2.
 *
 *   rank 0, token 0: experts 0, 2    weights 0.5, 0.25
 *   rank 0, token 1: experts 1, 0    weights 2, 1
 *   rank 1, token 0: experts -, 2    weights 9, 3
 */
static const int32_t small_idx0[] = {0, 2, 1, 0};
static const int64_t small_idx1[] = {-1, 2};
static const float small_weights0[] = {0.5f, 0.25f, 2.0f, 1.0f};
static const float small_weights1[] = {9.0f, 3.0f};

static const moxie_routing_t small_routing[] = {
    {.size = sizeof(moxie_routing_t),
     .token_count = 2,
     .topk_idx = small_idx0,
     .index_type = MOXIE_INDEX_INT32,
     .topk_weights = small_weights0},
    {.size = sizeof(moxie_routing_t),
     .token_count = 1,
     .topk_idx = small_idx1,
     .index_type = MOXIE_INDEX_INT64,
     .topk_weights = small_weights1},
};

/* y of the small world in expert_major with blocks of 2; row 3 of rank 0 is padding. */
static const float small_y0[] = {1, 2, 3, 4, 5, 6, 777, 777};
static const float small_y1[] = {8, 16, 1, -1};

static int make_small_placement(void **state)
{
    moxie_placement_t *placement = NULL;
    if (moxie_placement_create_block(3, 2, &placement) != MOXIE_OK) {
        return -1;
    }
    *state = placement;
    return 0;
}

static int free_placement(void **state)
{
    moxie_placement_destroy(*state);
    return 0;
}

static moxie_world_t small_world(const moxie_placement_t *placement, moxie_layout_t layout)
{
    moxie_world_t world = MOXIE_WORLD_INIT;
    world.placement = placement;
    world.routing = small_routing;
    world.hidden = 2;
    world.alignment = layout == MOXIE_LAYOUT_EXPERT_MAJOR ? 2 : 1;
    world.layout = layout;
    world.topk = 2;
    return world;
}

static void check_rows(const moxie_world_t *world, int32_t rank, int64_t expected)
{
    int64_t row_count = -1;
    assert_ok(moxie_reference_recv_rows(world, rank, &row_count));
    assert_int_equal(row_count, expected);
}

static void check_bits(const void *got, const void *expected, size_t bytes)
{
    assert_memory_equal(got, expected, bytes);
}

/* x with a signalling NaN in it: dispatch copies bits. */
static const uint16_t small_x0[] = {0x3F80, 0x7F81, 0x4000, 0x0001};
static const uint16_t small_x1[] = {0xFF81, 0x8000};

static void test_dispatch_rank_major(void **state)
{
    const moxie_world_t world = small_world(*state, MOXIE_LAYOUT_RANK_MAJOR);
    table_t table = {{small_x0, small_x1}, 4};
    const moxie_row_reader_t x = reader_of(&table, MOXIE_DTYPE_BF16);
    uint16_t recv_x[6];
    int32_t idx[6];
    float weights[6];
    int64_t counts[3];
    memset(recv_x, 0xAB, sizeof(recv_x));
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = 3;
    out.recv_x = recv_x;
    out.recv_topk_idx = idx;
    out.recv_topk_weights = weights;
    out.expert_count = counts;

    check_rows(&world, 0, 2);
    assert_ok(moxie_reference_dispatch(&world, 0, &x, &out));
    const uint16_t rows0[] = {0x3F80, 0x7F81, 0x4000, 0x0001, 0xABAB, 0xABAB};
    const int32_t idx0[] = {0, -1, 1, 0};
    const float weights0[] = {0.5f, 0.0f, 2.0f, 1.0f};
    check_bits(recv_x, rows0, sizeof(rows0));
    check_bits(idx, idx0, sizeof(idx0));
    check_bits(weights, weights0, sizeof(weights0));
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);

    check_rows(&world, 1, 2);
    assert_ok(moxie_reference_dispatch(&world, 1, &x, &out));
    const uint16_t rows1[] = {0x3F80, 0x7F81, 0xFF81, 0x8000};
    const int32_t idx1[] = {-1, 0, -1, 0};
    const float weights1[] = {0.0f, 0.25f, 0.0f, 3.0f};
    check_bits(recv_x, rows1, sizeof(rows1));
    check_bits(idx, idx1, sizeof(idx1));
    check_bits(weights, weights1, sizeof(weights1));
    assert_int_equal(counts[0], 2);
}

static void test_dispatch_expert_major(void **state)
{
    const moxie_world_t world = small_world(*state, MOXIE_LAYOUT_EXPERT_MAJOR);
    table_t table = {{small_x0, small_x1}, 4};
    const moxie_row_reader_t x = reader_of(&table, MOXIE_DTYPE_BF16);
    uint16_t recv_x[10];
    float weights[5];
    moxie_row_source_t sources[5];
    int64_t counts[3];
    int64_t starts[4];
    memset(recv_x, 0xAB, sizeof(recv_x));
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = 5;
    out.recv_x = recv_x;
    out.row_weight = weights;
    out.row_source = sources;
    out.expert_count = counts;
    out.expert_start = starts;

    check_rows(&world, 0, 4);
    assert_ok(moxie_reference_dispatch(&world, 0, &x, &out));
    const uint16_t rows0[] = {0x3F80, 0x7F81, 0x4000, 0x0001, 0x4000, 0x0001, 0, 0, 0xABAB, 0xABAB};
    const float weights0[] = {0.5f, 1.0f, 2.0f, 0.0f};
    const moxie_row_source_t sources0[] = {{0, 0, 0}, {0, 1, 1}, {0, 1, 0}, {-1, -1, -1}};
    check_bits(recv_x, rows0, sizeof(rows0));
    check_bits(weights, weights0, sizeof(weights0));
    check_bits(sources, sources0, sizeof(sources0));
    const int64_t counts0[] = {2, 1};
    const int64_t starts0[] = {0, 2, 4};
    check_bits(counts, counts0, sizeof(counts0));
    check_bits(starts, starts0, sizeof(starts0));

    check_rows(&world, 1, 2);
    assert_ok(moxie_reference_dispatch(&world, 1, &x, &out));
    const uint16_t rows1[] = {0x3F80, 0x7F81, 0xFF81, 0x8000};
    const moxie_row_source_t sources1[] = {{0, 0, 1}, {1, 0, 1}};
    check_bits(recv_x, rows1, sizeof(rows1));
    check_bits(sources, sources1, sizeof(sources1));
    assert_int_equal(starts[1], 2);
}

static void check_combine(const moxie_world_t *world, int32_t unweighted, const float *rank0,
                          const float *rank1)
{
    table_t table = {{small_y0, small_y1}, 2 * sizeof(float)};
    const moxie_row_reader_t y = reader_of(&table, MOXIE_DTYPE_FP32);
    moxie_combine_in_t in = MOXIE_COMBINE_IN_INIT;
    in.dtype = MOXIE_DTYPE_FP32;
    in.unweighted = unweighted;
    float result[4];
    moxie_combine_out_t out = MOXIE_COMBINE_OUT_INIT;
    out.out = result;
    out.dtype = MOXIE_DTYPE_FP32;
    assert_ok(moxie_reference_combine(world, 0, &y, &in, &out));
    check_bits(result, rank0, 4 * sizeof(float));
    assert_ok(moxie_reference_combine(world, 1, &y, &in, &out));
    check_bits(result, rank1, 2 * sizeof(float));
}

static void test_combine(void **state)
{
    const moxie_world_t rank_major = small_world(*state, MOXIE_LAYOUT_RANK_MAJOR);
    const moxie_world_t expert_major = small_world(*state, MOXIE_LAYOUT_EXPERT_MAJOR);
    check_combine(&rank_major, 0, (const float[]){9, 18, 3, 4}, (const float[]){1, -1});
    check_combine(&expert_major, 0, (const float[]){2.5f, 5, 13, 16}, (const float[]){3, -3});
    check_combine(&expert_major, 1, (const float[]){9, 18, 8, 10}, (const float[]){1, -1});
}

/* Without weights every weight is 1. */
static void test_no_weights_are_ones(void **state)
{
    moxie_world_t world = small_world(*state, MOXIE_LAYOUT_EXPERT_MAJOR);
    moxie_routing_t routing[] = {small_routing[0], small_routing[1]};
    routing[0].topk_weights = NULL;
    routing[1].topk_weights = NULL;
    world.routing = routing;
    check_combine(&world, 0, (const float[]){9, 18, 8, 10}, (const float[]){1, -1});
    float weights[4];
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = 4;
    out.row_weight = weights;
    assert_ok(moxie_reference_dispatch(&world, 0, NULL, &out));
    check_bits(weights, (const float[]){1, 1, 1, 0}, sizeof(weights));
}

static void check_dispatch_backward(const moxie_world_t *world, table_t *gradients,
                                    const float *d_x0, const float *d_weights0,
                                    const float *d_weights1)
{
    table_t table = {{small_y0, small_y1}, 2 * sizeof(float)};
    const moxie_row_reader_t rows = reader_of(&table, MOXIE_DTYPE_FP32);
    const moxie_row_reader_t weights = reader_of(gradients, MOXIE_DTYPE_FP32);
    moxie_dispatch_backward_in_t in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    in.dtype = MOXIE_DTYPE_FP32;
    float d_x[4];
    float d_weights[4];
    moxie_dispatch_backward_out_t out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    out.d_x = d_x;
    out.dtype = MOXIE_DTYPE_FP32;
    out.d_topk_weights = d_weights;
    assert_ok(moxie_reference_dispatch_backward(world, 0, &rows, &weights, &in, &out));
    check_bits(d_x, d_x0, 4 * sizeof(float));
    check_bits(d_weights, d_weights0, 4 * sizeof(float));
    assert_ok(moxie_reference_dispatch_backward(world, 1, &rows, &weights, &in, &out));
    check_bits(d_x, (const float[]){1, -1}, 2 * sizeof(float));
    check_bits(d_weights, d_weights1, 2 * sizeof(float));
}

static void test_dispatch_backward(void **state)
{
    const moxie_world_t rank_major = small_world(*state, MOXIE_LAYOUT_RANK_MAJOR);
    const float by_slot0[] = {1, 99, 2, 3};
    const float by_slot1[] = {99, 4, 99, 5};
    table_t by_slot = {{by_slot0, by_slot1}, 2 * sizeof(float)};
    check_dispatch_backward(&rank_major, &by_slot, (const float[]){9, 18, 3, 4},
                            (const float[]){1, 4, 2, 3}, (const float[]){0, 5});

    const moxie_world_t expert_major = small_world(*state, MOXIE_LAYOUT_EXPERT_MAJOR);
    const float by_row0[] = {1, 2, 3, 99};
    const float by_row1[] = {4, 5};
    table_t by_row = {{by_row0, by_row1}, sizeof(float)};
    check_dispatch_backward(&expert_major, &by_row, (const float[]){9, 18, 8, 10},
                            (const float[]){1, 4, 3, 2}, (const float[]){0, 5});
}

static const float small_d_out0[] = {1, 2, 4, 8};
static const float small_d_out1[] = {16, 32};

static void test_combine_backward_expert_major(void **state)
{
    const moxie_world_t world = small_world(*state, MOXIE_LAYOUT_EXPERT_MAJOR);
    table_t gradients = {{small_d_out0, small_d_out1}, 2 * sizeof(float)};
    table_t outputs = {{small_y0, small_y1}, 2 * sizeof(float)};
    const moxie_row_reader_t d_out = reader_of(&gradients, MOXIE_DTYPE_FP32);
    const moxie_row_reader_t y = reader_of(&outputs, MOXIE_DTYPE_FP32);
    moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    in.dtype = MOXIE_DTYPE_FP32;
    float d_y[8];
    float d_weights[4];
    moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    out.row_capacity = 4;
    out.d_y = d_y;
    out.d_topk_weights = d_weights;
    assert_ok(moxie_reference_combine_backward(&world, 0, &d_out, &y, &in, &out));
    check_bits(d_y, (const float[]){0.5f, 1, 4, 8, 8, 16, 0, 0}, sizeof(d_y));
    check_bits(d_weights, (const float[]){5, 40, 68, 44}, sizeof(d_weights));
    assert_ok(moxie_reference_combine_backward(&world, 1, &d_out, &y, &in, &out));
    check_bits(d_y, (const float[]){0.25f, 0.5f, 48, 96}, 4 * sizeof(float));
    check_bits(d_weights, (const float[]){0, -16}, 2 * sizeof(float));

    in.unweighted = 1;
    out.d_topk_weights = NULL;
    assert_ok(moxie_reference_combine_backward(&world, 0, &d_out, NULL, &in, &out));
    check_bits(d_y, (const float[]){1, 2, 4, 8, 4, 8, 0, 0}, sizeof(d_y));
}

static void test_combine_backward_rank_major(void **state)
{
    const moxie_world_t world = small_world(*state, MOXIE_LAYOUT_RANK_MAJOR);
    table_t gradients = {{small_d_out0, small_d_out1}, 2 * sizeof(float)};
    const moxie_row_reader_t d_out = reader_of(&gradients, MOXIE_DTYPE_FP32);
    moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    in.dtype = MOXIE_DTYPE_FP32;
    float d_y[4];
    moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    out.row_capacity = 2;
    out.d_y = d_y;
    assert_ok(moxie_reference_combine_backward(&world, 1, &d_out, NULL, &in, &out));
    check_bits(d_y, (const float[]){1, 2, 16, 32}, sizeof(d_y));
}

/* One token of rank 0 with one expert on each of `ranks` ranks, or all of them on rank 0, and one
 * column: the sum of `terms` in fp32 by the rules of combine. */
static float sum_of(const float *terms, int32_t count, int32_t ranks, const int32_t *idx,
                    const float *weights, moxie_dtype_t wire_dtype)
{
    moxie_placement_t *placement = NULL;
    assert_ok(moxie_placement_create_block(count, ranks, &placement));
    moxie_routing_t routing[4] = {MOXIE_ROUTING_INIT, MOXIE_ROUTING_INIT, MOXIE_ROUTING_INIT,
                                  MOXIE_ROUTING_INIT};
    routing[0].token_count = 1;
    routing[0].topk_idx = idx;
    routing[0].topk_weights = weights;
    moxie_world_t world = MOXIE_WORLD_INIT;
    world.placement = placement;
    world.routing = routing;
    world.hidden = 1;
    world.layout = MOXIE_LAYOUT_EXPERT_MAJOR;
    world.topk = count;
    table_t table = {{terms}, sizeof(float)};
    for (int32_t rank = 1; rank < ranks; rank++) {
        table.rows[rank] = terms + rank;
    }
    const moxie_row_reader_t y = reader_of(&table, MOXIE_DTYPE_FP32);
    moxie_combine_in_t in = MOXIE_COMBINE_IN_INIT;
    in.dtype = MOXIE_DTYPE_FP32;
    in.wire_dtype = wire_dtype;
    float result = -1.0f;
    moxie_combine_out_t out = MOXIE_COMBINE_OUT_INIT;
    out.out = &result;
    out.dtype = MOXIE_DTYPE_FP32;
    assert_ok(moxie_reference_combine(&world, 0, &y, &in, &out));
    moxie_placement_destroy(placement);
    return result;
}

static void test_sums_have_an_order(void **state)
{
    (void)state;
    const float big = 16777216.0f; /* 2^24: adding 1 to it rounds back to it */
    const int32_t ascending[] = {0, 1, 2};
    const int32_t descending[] = {2, 1, 0};
    const float big_first[] = {big, 1, 1};
    const float big_last[] = {1, 1, big};
    /* Over ranks: ascending rank, whatever the slots' order. */
    assert_true(sum_of(big_first, 3, 3, ascending, NULL, MOXIE_DTYPE_FP32) == big);
    assert_true(sum_of(big_first, 3, 3, descending, NULL, MOXIE_DTYPE_FP32) == big);
    assert_true(sum_of(big_last, 3, 3, ascending, NULL, MOXIE_DTYPE_FP32) == big + 2);
    /* Within a rank: ascending slot, whatever the experts' order. */
    assert_true(sum_of(big_first, 3, 1, ascending, NULL, MOXIE_DTYPE_FP32) == big);
    assert_true(sum_of(big_first, 3, 1, descending, NULL, MOXIE_DTYPE_FP32) == big + 2);
}

static void test_partials_are_rounded_to_the_wire(void **state)
{
    (void)state;
    const int32_t idx[] = {0, 1, 2};
    const float terms[] = {1.00390625f, 1.00390625f, 1.00390625f}; /* 1 + 2^-8: half way, to 1 */
    assert_true(sum_of(terms, 3, 3, idx, NULL, MOXIE_DTYPE_BF16) == 3.0f);
    assert_true(sum_of(terms, 3, 3, idx, NULL, MOXIE_DTYPE_FP32) == 3.01171875f);
    /* On one rank their sum is rounded, once. */
    assert_true(sum_of(terms, 3, 1, idx, NULL, MOXIE_DTYPE_BF16) == 3.015625f);
    assert_true(sum_of(terms, 3, 1, idx, NULL, MOXIE_DTYPE_FP32) == 3.01171875f);
}

static void test_products_are_not_rounded(void **state)
{
    (void)state;
    /* (1 + 2^-12)^2 - 1 = 2^-11 + 2^-24; a rounded product would lose the last term. */
    const float terms[] = {1.0f, 1.000244140625f};
    const float weights[] = {-1.0f, 1.000244140625f};
    const int32_t idx[] = {0, 1};
    const float sum = sum_of(terms, 2, 1, idx, weights, MOXIE_DTYPE_FP32);
    assert_true(sum == ldexpf(1.0f, -11) + ldexpf(1.0f, -24));
}

static void test_zeros_and_nans(void **state)
{
    (void)state;
    const int32_t idx[] = {0};
    const int32_t unused[] = {-1};
    const float minus_zero = -0.0f;
    const float nan = -NAN;
    float sum = sum_of(&minus_zero, 1, 1, idx, NULL, MOXIE_DTYPE_BF16);
    check_bits(&sum, &(uint32_t){0x00000000}, 4);
    sum = sum_of(&minus_zero, 1, 1, unused, NULL, MOXIE_DTYPE_BF16);
    check_bits(&sum, &(uint32_t){0x00000000}, 4);
    sum = sum_of(&nan, 1, 1, idx, NULL, MOXIE_DTYPE_BF16);
    check_bits(&sum, &(uint32_t){0x7FFFFFFF}, 4);
    sum = sum_of(&nan, 1, 1, idx, NULL, MOXIE_DTYPE_FP32);
    check_bits(&sum, &(uint32_t){0x7FFFFFFF}, 4);
}

/* d_topk_weights of one token, one expert, from `hidden` products d_out · 1. */
static float dot_of(const float *d_out, const float *y, int64_t hidden)
{
    moxie_placement_t *placement = NULL;
    assert_ok(moxie_placement_create_block(1, 1, &placement));
    const int32_t idx = 0;
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = 1;
    routing.topk_idx = &idx;
    moxie_world_t world = MOXIE_WORLD_INIT;
    world.placement = placement;
    world.routing = &routing;
    world.hidden = hidden;
    world.layout = MOXIE_LAYOUT_EXPERT_MAJOR;
    world.topk = 1;
    table_t gradients = {{d_out}, 0};
    table_t outputs = {{y}, 0};
    const moxie_row_reader_t d_out_rows = reader_of(&gradients, MOXIE_DTYPE_FP32);
    const moxie_row_reader_t y_rows = reader_of(&outputs, MOXIE_DTYPE_FP32);
    moxie_combine_backward_in_t in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    in.dtype = MOXIE_DTYPE_FP32;
    float result = -1.0f;
    moxie_combine_backward_out_t out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    out.d_topk_weights = &result;
    assert_ok(moxie_reference_combine_backward(&world, 0, &d_out_rows, &y_rows, &in, &out));
    moxie_placement_destroy(placement);
    return result;
}

static void test_dot_products_have_an_order(void **state)
{
    (void)state;
    static float d_out[520];
    static float y[520];
    const float big = 16777216.0f;
    for (int64_t i = 0; i < COUNT(y); i++) {
        y[i] = 1.0f;
    }
    d_out[0] = big;
    d_out[256] = d_out[512] = 1.0f; /* the same partial, one after the other */
    assert_true(dot_of(d_out, y, 520) == big);
    d_out[256] = d_out[512] = 0.0f;
    d_out[1] = d_out[129] = 1.0f; /* halved at 128: 1 + 1 first */
    assert_true(dot_of(d_out, y, 520) == big + 2);
    d_out[129] = 0.0f;
    d_out[65] = 1.0f; /* halved at 64 */
    assert_true(dot_of(d_out, y, 520) == big + 2);
    d_out[1] = d_out[65] = 0.0f;
    d_out[128] = d_out[64] = 1.0f; /* each meets partial 0 alone */
    assert_true(dot_of(d_out, y, 520) == big);
    assert_true(dot_of(d_out + 1, y, 3) == 0.0f);
}

static void check_refused(const moxie_world_t *world, int32_t peer, int64_t token, int32_t slot,
                          int64_t observed)
{
    assert_status(moxie_reference_check(world), MOXIE_ERR_ROUTING);
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    assert_int_equal(error.peer, peer);
    assert_int_equal(error.token, token);
    assert_int_equal(error.slot, slot);
    assert_int_equal(error.observed, observed);
    int64_t row_count = -7;
    assert_status(moxie_reference_recv_rows(world, 0, &row_count), MOXIE_ERR_ROUTING);
    assert_int_equal(row_count, -7);
}

static void test_wrong_ids_are_refused_in_order(void **state)
{
    moxie_world_t world = small_world(*state, MOXIE_LAYOUT_RANK_MAJOR);
    assert_ok(moxie_reference_check(&world));
    int32_t idx0[] = {0, 2, 1, 0};
    int64_t idx1[] = {-1, 2};
    moxie_routing_t routing[] = {small_routing[0], small_routing[1]};
    routing[0].topk_idx = idx0;
    routing[1].topk_idx = idx1;
    world.routing = routing;
    idx1[1] = (int64_t)1 << 32; /* would be expert 0 if cut to 32 bits */
    check_refused(&world, 1, 0, 1, (int64_t)1 << 32);
    idx1[0] = -2;
    check_refused(&world, 1, 0, 0, -2);
    idx0[3] = 1; /* the second of two equal ones, on the lower rank */
    check_refused(&world, 0, 1, 1, 1);
    idx0[1] = 3;
    check_refused(&world, 0, 0, 1, 3);
    idx0[0] = 3;
    check_refused(&world, 0, 0, 0, 3);
}

static void test_small_buffers_are_refused(void **state)
{
    const moxie_world_t world = small_world(*state, MOXIE_LAYOUT_EXPERT_MAJOR);
    float weights[4] = {7, 7, 7, 7};
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    out.row_capacity = 3;
    out.row_weight = weights;
    assert_status(moxie_reference_dispatch(&world, 0, NULL, &out), MOXIE_ERR_CAPACITY);
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    assert_int_equal(error.peer, 0);
    assert_int_equal(error.expected, 4);
    assert_int_equal(error.observed, 3);
    check_bits(weights, (const float[]){7, 7, 7, 7}, sizeof(weights));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dispatch_rank_major),
        cmocka_unit_test(test_dispatch_expert_major),
        cmocka_unit_test(test_combine),
        cmocka_unit_test(test_no_weights_are_ones),
        cmocka_unit_test(test_dispatch_backward),
        cmocka_unit_test(test_combine_backward_expert_major),
        cmocka_unit_test(test_combine_backward_rank_major),
        cmocka_unit_test(test_sums_have_an_order),
        cmocka_unit_test(test_partials_are_rounded_to_the_wire),
        cmocka_unit_test(test_products_are_not_rounded),
        cmocka_unit_test(test_zeros_and_nans),
        cmocka_unit_test(test_dot_products_have_an_order),
        cmocka_unit_test(test_wrong_ids_are_refused_in_order),
        cmocka_unit_test(test_small_buffers_are_refused),
    };
    return cmocka_run_group_tests(tests, make_small_placement, free_placement);
}
