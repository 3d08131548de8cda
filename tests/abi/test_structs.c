/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary interface of 0.1, frozen as literal numbers for 64-bit Linux. A line is only ever
 * added: a field goes to the end of its struct, behind any padding, and a number is never reused.
 */
#include "support/check.h"

#include "moxie/moxie.h"
#include "moxie/reference.h"

#include <stdlib.h>
#include <string.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define OFFSET(type, field, bytes)                                                                 \
    _Static_assert(offsetof(type, field) == (bytes), "offset of " #type "." #field)
#define NUMBER(name, value) _Static_assert((int)(name) == (value), "number of " #name)

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "the numbers below are of LP64");

SIZE(moxie_backend_info_t, 352);
OFFSET(moxie_backend_info_t, size, 0);
OFFSET(moxie_backend_info_t, capabilities, 8);
OFFSET(moxie_backend_info_t, available, 12);
OFFSET(moxie_backend_info_t, name, 16);
OFFSET(moxie_backend_info_t, reason, 32);
OFFSET(moxie_backend_info_t, detail, 192);

SIZE(moxie_row_source_t, 12);
OFFSET(moxie_row_source_t, rank, 0);
OFFSET(moxie_row_source_t, token, 4);
OFFSET(moxie_row_source_t, slot, 8);

SIZE(moxie_dispatch_in_t, 48);
OFFSET(moxie_dispatch_in_t, size, 0);
OFFSET(moxie_dispatch_in_t, x, 8);
OFFSET(moxie_dispatch_in_t, dtype, 16);
OFFSET(moxie_dispatch_in_t, x_scales, 24);
OFFSET(moxie_dispatch_in_t, wire_dtype, 32);
OFFSET(moxie_dispatch_in_t, scale_type, 36);
OFFSET(moxie_dispatch_in_t, scale_layout, 40);
OFFSET(moxie_dispatch_in_t, reserved, 44);

SIZE(moxie_dispatch_out_t, 88);
OFFSET(moxie_dispatch_out_t, size, 0);
OFFSET(moxie_dispatch_out_t, row_capacity, 8);
OFFSET(moxie_dispatch_out_t, recv_x, 16);
OFFSET(moxie_dispatch_out_t, recv_topk_idx, 24);
OFFSET(moxie_dispatch_out_t, recv_topk_weights, 32);
OFFSET(moxie_dispatch_out_t, row_weight, 40);
OFFSET(moxie_dispatch_out_t, row_source, 48);
OFFSET(moxie_dispatch_out_t, expert_count, 56);
OFFSET(moxie_dispatch_out_t, expert_start, 64);
OFFSET(moxie_dispatch_out_t, recv_scales, 72);
OFFSET(moxie_dispatch_out_t, source_count, 80);

SIZE(moxie_combine_in_t, 32);
OFFSET(moxie_combine_in_t, size, 0);
OFFSET(moxie_combine_in_t, y, 8);
OFFSET(moxie_combine_in_t, dtype, 16);
OFFSET(moxie_combine_in_t, wire_dtype, 20);
OFFSET(moxie_combine_in_t, unweighted, 24);
OFFSET(moxie_combine_in_t, reserved, 28);

SIZE(moxie_combine_out_t, 24);
OFFSET(moxie_combine_out_t, size, 0);
OFFSET(moxie_combine_out_t, out, 8);
OFFSET(moxie_combine_out_t, dtype, 16);

SIZE(moxie_dispatch_backward_in_t, 32);
OFFSET(moxie_dispatch_backward_in_t, size, 0);
OFFSET(moxie_dispatch_backward_in_t, d_recv_x, 8);
OFFSET(moxie_dispatch_backward_in_t, dtype, 16);
OFFSET(moxie_dispatch_backward_in_t, wire_dtype, 20);
OFFSET(moxie_dispatch_backward_in_t, d_recv_weights, 24);

SIZE(moxie_dispatch_backward_out_t, 32);
OFFSET(moxie_dispatch_backward_out_t, size, 0);
OFFSET(moxie_dispatch_backward_out_t, d_x, 8);
OFFSET(moxie_dispatch_backward_out_t, dtype, 16);
OFFSET(moxie_dispatch_backward_out_t, d_topk_weights, 24);

SIZE(moxie_combine_backward_in_t, 32);
OFFSET(moxie_combine_backward_in_t, size, 0);
OFFSET(moxie_combine_backward_in_t, d_out, 8);
OFFSET(moxie_combine_backward_in_t, dtype, 16);
OFFSET(moxie_combine_backward_in_t, unweighted, 20);
OFFSET(moxie_combine_backward_in_t, y, 24);

SIZE(moxie_combine_backward_out_t, 32);
OFFSET(moxie_combine_backward_out_t, size, 0);
OFFSET(moxie_combine_backward_out_t, row_capacity, 8);
OFFSET(moxie_combine_backward_out_t, d_y, 16);
OFFSET(moxie_combine_backward_out_t, d_topk_weights, 24);

SIZE(moxie_ceiling_in_t, 64);
OFFSET(moxie_ceiling_in_t, size, 0);
OFFSET(moxie_ceiling_in_t, source, 8);
OFFSET(moxie_ceiling_in_t, source_row_count, 16);
OFFSET(moxie_ceiling_in_t, rows_to_peer, 24);
OFFSET(moxie_ceiling_in_t, row_bytes, 32);
OFFSET(moxie_ceiling_in_t, destination, 40);
OFFSET(moxie_ceiling_in_t, destination_row_count, 48);
OFFSET(moxie_ceiling_in_t, streaming, 56);
OFFSET(moxie_ceiling_in_t, reserved, 60);

SIZE(moxie_knob_setting_t, 16);
OFFSET(moxie_knob_setting_t, name, 0);
OFFSET(moxie_knob_setting_t, value, 8);

SIZE(moxie_group_options_t, 104);
OFFSET(moxie_group_options_t, size, 0);
OFFSET(moxie_group_options_t, rank, 8);
OFFSET(moxie_group_options_t, rank_count, 12);
OFFSET(moxie_group_options_t, backend, 16);
OFFSET(moxie_group_options_t, rendezvous, 24);
OFFSET(moxie_group_options_t, allgather, 32);
OFFSET(moxie_group_options_t, allgather_ctx, 40);
OFFSET(moxie_group_options_t, node_of_rank, 48);
OFFSET(moxie_group_options_t, timeout_us, 56);
OFFSET(moxie_group_options_t, first_timeout_us, 64);
OFFSET(moxie_group_options_t, knobs, 72);
OFFSET(moxie_group_options_t, knob_count, 80);
OFFSET(moxie_group_options_t, device, 88);
OFFSET(moxie_group_options_t, reserved, 92);
OFFSET(moxie_group_options_t, tuning, 96);

SIZE(moxie_group_counters_t, 72);
OFFSET(moxie_group_counters_t, size, 0);
OFFSET(moxie_group_counters_t, op_count, 8);
OFFSET(moxie_group_counters_t, wait_ns, 16);
OFFSET(moxie_group_counters_t, streamed_bytes, 24);
OFFSET(moxie_group_counters_t, copied_bytes, 32);
OFFSET(moxie_group_counters_t, sleep_count, 40);
OFFSET(moxie_group_counters_t, prepare_ns, 48);
OFFSET(moxie_group_counters_t, move_ns, 56);
OFFSET(moxie_group_counters_t, finish_ns, 64);

SIZE(moxie_peer_counters_t, 48);
OFFSET(moxie_peer_counters_t, size, 0);
OFFSET(moxie_peer_counters_t, late_count, 8);
OFFSET(moxie_peer_counters_t, late_ns, 16);
OFFSET(moxie_peer_counters_t, slow_count, 24);
OFFSET(moxie_peer_counters_t, slow_ns, 32);
OFFSET(moxie_peer_counters_t, work_ns, 40);

SIZE(moxie_operation_t, 104);
OFFSET(moxie_operation_t, size, 0);
OFFSET(moxie_operation_t, op, 8);
OFFSET(moxie_operation_t, route_id, 16);
OFFSET(moxie_operation_t, name, 24);
OFFSET(moxie_operation_t, begin_ns, 32);
OFFSET(moxie_operation_t, post_ns, 40);
OFFSET(moxie_operation_t, met_ns, 48);
OFFSET(moxie_operation_t, finish_ns, 56);
OFFSET(moxie_operation_t, leave_ns, 64);
OFFSET(moxie_operation_t, late_ns, 72);
OFFSET(moxie_operation_t, slow_ns, 80);
OFFSET(moxie_operation_t, late_rank, 88);
OFFSET(moxie_operation_t, slow_rank, 92);
OFFSET(moxie_operation_t, status, 96);
OFFSET(moxie_operation_t, reserved, 100);

SIZE(moxie_knob_info_t, 72);
OFFSET(moxie_knob_info_t, size, 0);
OFFSET(moxie_knob_info_t, name, 8);
OFFSET(moxie_knob_info_t, help, 16);
OFFSET(moxie_knob_info_t, from, 24);
OFFSET(moxie_knob_info_t, value, 32);
OFFSET(moxie_knob_info_t, value_default, 40);
OFFSET(moxie_knob_info_t, value_min, 48);
OFFSET(moxie_knob_info_t, value_max, 56);
OFFSET(moxie_knob_info_t, use, 64);

SIZE(moxie_memory_bytes_t, 32);
OFFSET(moxie_memory_bytes_t, size, 0);
OFFSET(moxie_memory_bytes_t, host_bytes, 8);
OFFSET(moxie_memory_bytes_t, window_bytes, 16);
OFFSET(moxie_memory_bytes_t, device_bytes, 24);

SIZE(moxie_route_quote_t, 56);
OFFSET(moxie_route_quote_t, size, 0);
OFFSET(moxie_route_quote_t, memory, 8);
OFFSET(moxie_route_quote_t, state_bytes, 40);
OFFSET(moxie_route_quote_t, row_capacity, 48);

SIZE(moxie_row_reader_t, 24);
OFFSET(moxie_row_reader_t, row, 0);
OFFSET(moxie_row_reader_t, ctx, 8);
OFFSET(moxie_row_reader_t, dtype, 16);

SIZE(moxie_world_t, 64);
OFFSET(moxie_world_t, size, 0);
OFFSET(moxie_world_t, placement, 8);
OFFSET(moxie_world_t, routing, 16);
OFFSET(moxie_world_t, hidden, 24);
OFFSET(moxie_world_t, alignment, 32);
OFFSET(moxie_world_t, layout, 40);
OFFSET(moxie_world_t, topk, 44);
OFFSET(moxie_world_t, token_count_max, 48);
OFFSET(moxie_world_t, mode, 56);
OFFSET(moxie_world_t, reserved, 60);

SIZE(moxie_route_options_t, 88);
OFFSET(moxie_route_options_t, size, 0);
OFFSET(moxie_route_options_t, layout, 8);
OFFSET(moxie_route_options_t, expert_count, 12);
OFFSET(moxie_route_options_t, topk, 16);
OFFSET(moxie_route_options_t, hidden, 24);
OFFSET(moxie_route_options_t, token_count_max, 32);
OFFSET(moxie_route_options_t, alignment, 40);
OFFSET(moxie_route_options_t, row_capacity, 48);
OFFSET(moxie_route_options_t, placement, 56);
OFFSET(moxie_route_options_t, state, 64);
OFFSET(moxie_route_options_t, state_bytes, 72);
OFFSET(moxie_route_options_t, mode, 80);
OFFSET(moxie_route_options_t, reserved, 84);

SIZE(moxie_routing_t, 40);
OFFSET(moxie_routing_t, size, 0);
OFFSET(moxie_routing_t, token_count, 8);
OFFSET(moxie_routing_t, topk_idx, 16);
OFFSET(moxie_routing_t, index_type, 24);
OFFSET(moxie_routing_t, topk_weights, 32);

SIZE(moxie_route_extent_t, 48);
OFFSET(moxie_route_extent_t, size, 0);
OFFSET(moxie_route_extent_t, token_count, 8);
OFFSET(moxie_route_extent_t, recv_row_count, 16);
OFFSET(moxie_route_extent_t, logical_row_count, 24);
OFFSET(moxie_route_extent_t, wire_row_count, 32);
OFFSET(moxie_route_extent_t, local_expert_count, 40);

SIZE(moxie_error_t, 360);
OFFSET(moxie_error_t, size, 0);
OFFSET(moxie_error_t, status, 8);
OFFSET(moxie_error_t, rank, 12);
OFFSET(moxie_error_t, peer, 16);
OFFSET(moxie_error_t, slot, 20);
OFFSET(moxie_error_t, token, 24);
OFFSET(moxie_error_t, expected, 32);
OFFSET(moxie_error_t, observed, 40);
OFFSET(moxie_error_t, system_errno, 48);
OFFSET(moxie_error_t, reserved, 52);
OFFSET(moxie_error_t, op, 56);
OFFSET(moxie_error_t, phase, 80);
OFFSET(moxie_error_t, message, 104);

SIZE(moxie_memory_t, 40);
OFFSET(moxie_memory_t, size, 0);
OFFSET(moxie_memory_t, base, 8);
OFFSET(moxie_memory_t, bytes, 16);
OFFSET(moxie_memory_t, fd, 24);
OFFSET(moxie_memory_t, fd_offset, 32);

NUMBER(MOXIE_OK, 0);
NUMBER(MOXIE_ERR_ARGUMENT, 1);
NUMBER(MOXIE_ERR_ROUTING, 2);
NUMBER(MOXIE_ERR_MISMATCH, 3);
NUMBER(MOXIE_ERR_CAPACITY, 4);
NUMBER(MOXIE_ERR_WINDOW, 5);
NUMBER(MOXIE_ERR_MEMORY, 6);
NUMBER(MOXIE_ERR_TIMEOUT, 7);
NUMBER(MOXIE_ERR_PEER_LOST, 8);
NUMBER(MOXIE_ERR_REVOKED, 9);
NUMBER(MOXIE_ERR_UNSUPPORTED, 10);
NUMBER(MOXIE_ERR_UNAVAILABLE, 11);
NUMBER(MOXIE_ERR_SYSTEM, 12);
NUMBER(MOXIE_ERR_PROTOCOL, 13);
NUMBER(MOXIE_ERR_INTERNAL, 14);

NUMBER(MOXIE_DTYPE_BF16, 1);
NUMBER(MOXIE_DTYPE_FP32, 2);
NUMBER(MOXIE_DTYPE_FP8_E4M3, 3);
NUMBER(MOXIE_SCALE_COLUMNS, 128);
NUMBER(MOXIE_SCALE_FP32, 1);
NUMBER(MOXIE_SCALE_FP32_POW2, 2);
NUMBER(MOXIE_SCALE_UE8M0, 3);
NUMBER(MOXIE_SCALES_ROW_MAJOR, 1);
NUMBER(MOXIE_SCALES_COLUMN_MAJOR, 2);
NUMBER(MOXIE_INDEX_INT32, 1);
NUMBER(MOXIE_INDEX_INT64, 2);
NUMBER(MOXIE_LAYOUT_RANK_MAJOR, 1);
NUMBER(MOXIE_LAYOUT_EXPERT_MAJOR, 2);
NUMBER(MOXIE_MODE_STANDARD, 0);
NUMBER(MOXIE_MODE_LOW_LATENCY, 1);
NUMBER(MOXIE_CAP_STANDARD, 1);
NUMBER(MOXIE_CAP_BACKWARD, 2);
NUMBER(MOXIE_CAP_RANK_MAJOR, 4);
NUMBER(MOXIE_CAP_EXPERT_MAJOR, 8);
NUMBER(MOXIE_CAP_LOW_LATENCY, 16);
NUMBER(MOXIE_CAP_FP8, 32);
NUMBER(MOXIE_CAP_STREAM, 64);
NUMBER(MOXIE_CAP_REGISTER_MEMORY, 128);
NUMBER(MOXIE_KNOB_DISPATCH, 1);
NUMBER(MOXIE_KNOB_COMBINE, 2);
NUMBER(MOXIE_KNOB_UPDATE, 4);
NUMBER(MOXIE_KNOB_EXPERT_MAJOR, 8);
NUMBER(MOXIE_KNOB_SMS, 16);
NUMBER(MOXIE_KNOB_ZERO_CHOOSES, 32);
NUMBER(MOXIE_KNOB_LOW_LATENCY, 64);
NUMBER(MOXIE_KNOB_RANK_MAJOR, 128);
NUMBER(MOXIE_KNOB_STANDARD, 256);
NUMBER(MOXIE_KNOB_ROUTING_EXPERT_MAJOR, 512);
NUMBER(MOXIE_RANK_COUNT_MAX, 512);
NUMBER(MOXIE_TOPK_MAX, 64);
NUMBER(MOXIE_ERROR_MESSAGE_BYTES, 256);

/* A caller compiled against a later 0.x: our struct, and fields that we don't know. */
typedef struct newer_group_options {
    moxie_group_options_t known;
    uint64_t unknown[2];
} newer_group_options_t;

static void quote_is_sane(const moxie_memory_bytes_t *quote)
{
    assert_true(quote->host_bytes > 0);
    assert_int_equal(quote->device_bytes, 0);
}

static void test_a_newer_caller_is_served_when_it_asks_for_nothing_new(void **state)
{
    (void)state;
    newer_group_options_t options = {.known = MOXIE_GROUP_OPTIONS_INIT};
    options.known.size = sizeof(options);
    options.known.rank_count = 1;
    moxie_memory_bytes_t quote = MOXIE_MEMORY_BYTES_INIT;
    assert_ok(moxie_group_memory_quote(&options.known, &quote));
    quote_is_sane(&quote);
}

static void test_a_newer_caller_is_refused_when_it_asks_for_something_new(void **state)
{
    (void)state;
    newer_group_options_t options = {.known = MOXIE_GROUP_OPTIONS_INIT, .unknown = {0, 1}};
    options.known.size = sizeof(options);
    options.known.rank_count = 1;
    moxie_memory_bytes_t quote = MOXIE_MEMORY_BYTES_INIT;
    assert_status(moxie_group_memory_quote(&options.known, &quote), MOXIE_ERR_ARGUMENT);
    assert_int_equal(quote.host_bytes, 0);
}

/* An older caller's struct ends earlier; what lies behind it in its memory is not ours to read. */
static void test_an_older_caller_gets_the_defaults(void **state)
{
    (void)state;
    const size_t older = offsetof(moxie_group_options_t, knobs);
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank_count = 1;
    options.size = older;
    memset((char *)&options + older, 0xA5, sizeof(options) - older);
    moxie_memory_bytes_t quote = MOXIE_MEMORY_BYTES_INIT;
    assert_ok(moxie_group_memory_quote(&options, &quote));
    quote_is_sane(&quote);

    moxie_group_t *group = NULL;
    assert_ok(moxie_group_create(&options, &group));
    moxie_group_destroy(group);
}

/* What we write into an older caller's struct ends where that struct ends. */
static void test_nothing_is_written_behind_an_older_struct(void **state)
{
    (void)state;
    const size_t older = offsetof(moxie_backend_info_t, detail);
    moxie_backend_info_t *info = malloc(sizeof(*info));
    assert_non_null(info);
    memset(info, 0xA5, sizeof(*info));
    info->size = older;
    assert_ok(moxie_backend_probe(0, info));
    assert_int_equal(info->size, older);
    assert_string_equal(info->name, "shm");
    for (size_t i = 0; i < sizeof(info->detail); i++)
        assert_int_equal((unsigned char)info->detail[i], 0xA5);
    free(info);
}

static void test_a_struct_without_a_size_is_refused(void **state)
{
    (void)state;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.size = 0;
    options.rank_count = 1;
    moxie_memory_bytes_t quote = MOXIE_MEMORY_BYTES_INIT;
    moxie_group_t *group = NULL;
    assert_status(moxie_group_memory_quote(&options, &quote), MOXIE_ERR_ARGUMENT);
    assert_status(moxie_group_create(&options, &group), MOXIE_ERR_ARGUMENT);
    assert_null(group);
    quote.size = 0;
    options.size = sizeof(options);
    assert_status(moxie_group_memory_quote(&options, &quote), MOXIE_ERR_ARGUMENT);
    moxie_backend_info_t info = {.size = 0};
    assert_status(moxie_backend_probe(0, &info), MOXIE_ERR_ARGUMENT);
}

static void test_null_is_refused(void **state)
{
    (void)state;
    moxie_memory_bytes_t quote = MOXIE_MEMORY_BYTES_INIT;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank_count = 1;
    assert_status(moxie_group_memory_quote(NULL, &quote), MOXIE_ERR_ARGUMENT);
    assert_status(moxie_group_memory_quote(&options, NULL), MOXIE_ERR_ARGUMENT);
    assert_status(moxie_group_create(&options, NULL), MOXIE_ERR_ARGUMENT);
    assert_status(moxie_backend_probe(0, NULL), MOXIE_ERR_ARGUMENT);
    moxie_group_destroy(NULL);
    moxie_route_destroy(NULL);
    moxie_window_free(NULL);
    moxie_placement_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_newer_caller_is_served_when_it_asks_for_nothing_new),
        cmocka_unit_test(test_a_newer_caller_is_refused_when_it_asks_for_something_new),
        cmocka_unit_test(test_an_older_caller_gets_the_defaults),
        cmocka_unit_test(test_nothing_is_written_behind_an_older_struct),
        cmocka_unit_test(test_a_struct_without_a_size_is_refused),
        cmocka_unit_test(test_null_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
