/* SPDX-License-Identifier: Apache-2.0 */
/* What `moxie info` says of a driver and its GPUs. The driver is tests/cli/fake_cuda.c. */
#include "support/check.h"

#include "cli/program.h"

#include <stdlib.h>
#include <string.h>

/* `moxie info` on a machine with the driver that `fake` describes. */
static program_t info(const char *fake, const char *arguments)
{
    (void)setenv("FAKE_CUDA", fake, 1);
    program_t program = program_run(arguments);
    assert_int_equal(program.exit_code, 0);
    return program;
}

static void check_says(const char *fake, const char *part)
{
    program_t program = info(fake, "info");
    if (strstr(program.out, part) == NULL)
        fail_msg("'%s' is not in:\n%s", part, program.out);
    program_release(&program);
}

static void test_missing(void **state)
{
    (void)state;
    check_says("0", "none             there is an NVIDIA driver but no GPU");
    check_says("0", "cuda             does not work here: there is an NVIDIA driver but no GPU");
    check_says("old", "this NVIDIA driver has no cuMemCreate");
}

static void test_devices(void **state)
{
    (void)state;
    check_says("1", "GPU 0            Fake GPU 0, 137.4 GB, 132 SMs, compute capability 9.0, PCI "
                    "0000:01:00.0");
    check_says("1", "memory can be shared as: posix_fd; multicast is not there, and not used");
    check_says("1", "CUDA 13.0");
}

static void test_links(void **state)
{
    (void)state;
    check_says("3", "0 to 1           NVLink, native atomics, performance rank 0");
    check_says("3", "2 to 0           PCIe, no native atomics, performance rank 0");
}

static void test_json(void **state)
{
    (void)state;
    program_t program = info("3", "info --json");
    json_t *document = program_json(&program);
    const json_t *gpus = json_object_get(document, "gpus");
    const json_t *devices = json_object_get(gpus, "devices");
    const json_t *links = json_object_get(gpus, "links");
    assert_string_equal(json_string_value(json_object_get(gpus, "missing")), "");
    assert_int_equal(json_array_size(devices), 3);
    assert_int_equal(json_array_size(links), 6);
    const json_t *second = json_array_get(devices, 1);
    assert_int_equal(json_integer_value(json_object_get(second, "ordinal")), 1);
    assert_true(json_is_false(json_object_get(second, "multicast_used")));
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(second, "handle_types"), 0)), "posix_fd");
    json_decref(document);
    program_release(&program);
}

/* Arguments: the program, and the driver. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_json),
    };
    if (argc != 3)
        return 2;
    (void)setenv("LD_LIBRARY_PATH", argv[2], 1);
    program_setup(argv[1]);
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
