/* SPDX-License-Identifier: Apache-2.0 */
/* Placements: blocks, any map, and maps that are none. */
#include "support/check.h"

#include "moxie/placement.h"

#include <string.h>

/* rank_of_expert and local_of_expert that a placement must have. */
static void check_map(const moxie_placement_t *placement, int32_t expert_count, int32_t rank_count,
                      const int32_t *ranks, const int32_t *locals)
{
    assert_int_equal(moxie_placement_expert_count(placement), expert_count);
    assert_int_equal(moxie_placement_rank_count(placement), rank_count);
    int32_t total = 0;
    for (int32_t rank = 0; rank < rank_count; rank++) {
        total += moxie_placement_local_count(placement, rank);
    }
    assert_int_equal(total, expert_count);
    for (int32_t expert = 0; expert < expert_count; expert++) {
        assert_int_equal(moxie_placement_rank(placement, expert), ranks[expert]);
        assert_int_equal(moxie_placement_local(placement, expert), locals[expert]);
        assert_int_equal(moxie_placement_expert(placement, ranks[expert], locals[expert]), expert);
    }
}

static void test_uneven_blocks(void **state)
{
    (void)state;
    moxie_placement_t *placement = NULL;
    assert_ok(moxie_placement_create_block(7, 3, &placement));
    const int32_t ranks[] = {0, 0, 0, 1, 1, 2, 2};
    const int32_t locals[] = {0, 1, 2, 0, 1, 0, 1};
    check_map(placement, 7, 3, ranks, locals);
    moxie_placement_destroy(placement);
}

static void test_fewer_experts_than_ranks(void **state)
{
    (void)state;
    moxie_placement_t *placement = NULL;
    assert_ok(moxie_placement_create_block(2, 4, &placement));
    const int32_t ranks[] = {0, 1};
    const int32_t locals[] = {0, 0};
    check_map(placement, 2, 4, ranks, locals);
    assert_int_equal(moxie_placement_local_count(placement, 3), 0);
    moxie_placement_destroy(placement);
}

static void test_blocks_of_many_shapes_are_even(void **state)
{
    (void)state;
    for (int32_t ranks = 1; ranks <= 9; ranks++) {
        for (int32_t experts = 1; experts <= 33; experts++) {
            moxie_placement_t *placement = NULL;
            assert_ok(moxie_placement_create_block(experts, ranks, &placement));
            int32_t expert = 0;
            for (int32_t rank = 0; rank < ranks; rank++) {
                const int32_t count = experts / ranks + (rank < experts % ranks ? 1 : 0);
                assert_int_equal(moxie_placement_local_count(placement, rank), count);
                for (int32_t local = 0; local < count; local++, expert++) {
                    assert_int_equal(moxie_placement_rank(placement, expert), rank);
                    assert_int_equal(moxie_placement_local(placement, expert), local);
                }
            }
            moxie_placement_destroy(placement);
        }
    }
}

static void test_any_map(void **state)
{
    (void)state;
    const int32_t ranks[] = {2, 0, 2, 0, 2};
    const int32_t ascending[] = {0, 0, 1, 1, 2};
    moxie_placement_t *placement = NULL;
    assert_ok(moxie_placement_create_map(5, 3, ranks, NULL, &placement));
    check_map(placement, 5, 3, ranks, ascending);
    assert_int_equal(moxie_placement_local_count(placement, 1), 0);
    moxie_placement_destroy(placement);

    const int32_t permuted[] = {1, 1, 2, 0, 0};
    placement = NULL;
    assert_ok(moxie_placement_create_map(5, 3, ranks, permuted, &placement));
    check_map(placement, 5, 3, ranks, permuted);
    moxie_placement_destroy(placement);
}

static void test_out_of_range_is_minus_one(void **state)
{
    (void)state;
    moxie_placement_t *placement = NULL;
    assert_ok(moxie_placement_create_block(4, 2, &placement));
    const int32_t outside[] = {-1, 4, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(moxie_placement_rank(placement, outside[i]), -1);
        assert_int_equal(moxie_placement_local(placement, outside[i]), -1);
        assert_int_equal(moxie_placement_local_count(placement, outside[i]), -1);
        assert_int_equal(moxie_placement_expert(placement, outside[i], 0), -1);
        assert_int_equal(moxie_placement_expert(placement, 0, outside[i]), -1);
    }
    assert_int_equal(moxie_placement_expert(placement, 1, 2), -1);
    moxie_placement_destroy(placement);
    moxie_placement_destroy(NULL);
}

/* Every refused map names the expert, and the caller's pointer stays as it was. */
static void refuse_map(int32_t experts, int32_t ranks, const int32_t *rank_of,
                       const int32_t *local_of, const char *in_message)
{
    moxie_placement_t *const untouched = (moxie_placement_t *)&ranks;
    moxie_placement_t *placement = untouched;
    assert_status(moxie_placement_create_map(experts, ranks, rank_of, local_of, &placement),
                  MOXIE_ERR_ARGUMENT);
    assert_ptr_equal(placement, untouched);
    moxie_error_t error = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&error);
    if (strstr(error.message, in_message) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, in_message);
    }
}

static void test_wrong_maps_are_refused(void **state)
{
    (void)state;
    const int32_t good[] = {0, 1, 0};
    const int32_t too_high[] = {0, 2, 0};
    const int32_t negative[] = {0, 1, -1};
    const int32_t twice[] = {0, 0, 0};
    const int32_t hole[] = {0, 0, 2};
    const int32_t below[] = {0, -1, 1};
    refuse_map(3, 2, too_high, NULL, "expert 1");
    refuse_map(3, 2, negative, NULL, "expert 2");
    refuse_map(3, 2, good, twice, "expert 2");
    refuse_map(3, 2, good, hole, "expert 2");
    refuse_map(3, 2, good, below, "expert 1");
    refuse_map(3, 2, NULL, NULL, "");
    refuse_map(0, 2, good, NULL, "");
    refuse_map(3, 0, good, NULL, "");
    refuse_map(3, -1, good, NULL, "");
    assert_status(moxie_placement_create_map(3, 2, good, NULL, NULL), MOXIE_ERR_ARGUMENT);
    assert_status(moxie_placement_create_block(3, 2, NULL), MOXIE_ERR_ARGUMENT);
    moxie_placement_t *placement = NULL;
    assert_status(moxie_placement_create_block(-3, 2, &placement), MOXIE_ERR_ARGUMENT);
    assert_status(moxie_placement_create_block(3, 0, &placement), MOXIE_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uneven_blocks),
        cmocka_unit_test(test_fewer_experts_than_ranks),
        cmocka_unit_test(test_blocks_of_many_shapes_are_even),
        cmocka_unit_test(test_any_map),
        cmocka_unit_test(test_out_of_range_is_minus_one),
        cmocka_unit_test(test_wrong_maps_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
