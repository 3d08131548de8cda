/* SPDX-License-Identifier: Apache-2.0 */
/* One wrong bit in any output, and the run says NOT VERIFIED and where: see corrupt.c. */
#include "support/check.h"

#include "cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL "bench --ranks 2 --tokens 20 --hidden 70 --experts 6 --topk 2 --iterations 2 "

static char preload[1024];

static program_t run_corrupted(const char *output, const char *arguments)
{
    assert_int_equal(setenv("LD_PRELOAD", preload, 1) | setenv("CORRUPT", output, 1), 0);
    program_t program = program_run(arguments);
    assert_int_equal(unsetenv("LD_PRELOAD") | unsetenv("CORRUPT"), 0);
    return program;
}

static void test_every_output(void **state)
{
    (void)state;
    static const struct {
        const char *output;
        const char *arguments;
        const char *part;
    } cases[] = {
        {"recv_x", SMALL "--json", "recv_x row 0 (source rank 0, token"},
        {"recv_topk_idx", SMALL "--json", "recv_topk_idx row 0 (source rank 0, token"},
        {"recv_topk_weights", SMALL "--json", "recv_topk_weights row 0 (source rank"},
        {"expert_count", SMALL "--json", "expert_count of row 0"},
        {"out", SMALL "--json", "out row 0 (source rank 0, token 0), column 0: expected 0x"},
        {"recv_x", SMALL "--json --layout expert_major", "recv_x row 0 (source rank"},
        {"row_weight", SMALL "--json --layout expert_major", "row_weight row 0 (source rank"},
        {"row_source", SMALL "--json --layout expert_major", "row_source row 0 (source rank"},
        {"expert_start", SMALL "--json --layout expert_major", "expert_start of row 0"},
        {"recv_x", SMALL "--json --dtype fp8", "recv_x row 0 (source rank 0, token"},
        {"recv_scales", SMALL "--json --dtype fp8", "recv_scales row 0 (source rank 0, token"},
        {"recv_scales", SMALL "--json --dtype fp8 --quantize fused --layout expert_major",
         "recv_scales row 0 (source rank"},
        {"recv_x", SMALL "--json --mode low_latency", "recv_x row 0 (source rank 0, token"},
        {"recv_topk_idx", SMALL "--json --mode low_latency", "recv_topk_idx row 0 (source rank 0"},
        {"row_weight", SMALL "--json --mode low_latency --layout expert_major",
         "row_weight row 0 (source rank"},
        {"out", SMALL "--json --mode low_latency", "out row 0 (source rank 0, token 0), column 0"},
        {"d_x", SMALL "--json --direction backward", "dispatch backward: d_x row 0"},
        {"travelled d_topk_weights", SMALL "--json --direction backward", "d_topk_weights of row"},
        {"d_y", SMALL "--json --direction backward", "combine backward: d_y row 0"},
        {"computed d_topk_weights", SMALL "--json --direction backward --layout expert_major",
         "combine backward: d_topk_weights of row 0"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        program_t program = run_corrupted(cases[i].output, cases[i].arguments);
        if (program.exit_code != 1 || strstr(program.err, cases[i].part) == NULL)
            fail_msg("%s: exit code %d, '%s' is not in: %s", cases[i].output, program.exit_code,
                     cases[i].part, program.err);
        json_t *record = program_json(&program);
        assert_true(json_is_false(json_object_get(record, "verified")));
        json_decref(record);
        program_release(&program);
    }
}

static void test_table_says_so(void **state)
{
    (void)state;
    program_t program = run_corrupted("out", SMALL);
    assert_int_equal(program.exit_code, 1);
    assert_non_null(strstr(program.out, "NOT VERIFIED"));
    program_release(&program);
    program = run_corrupted("nothing", SMALL);
    assert_int_equal(program.exit_code, 0);
    assert_null(strstr(program.out, "NOT VERIFIED"));
    program_release(&program);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_output),
        cmocka_unit_test(test_table_says_so),
    };
    if (argc != 3)
        return 2;
    (void)snprintf(preload, sizeof(preload), "%s", argv[2]);
    program_setup(argv[1]);
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
