/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the suite over every backend that works here. Argument: processes or threads; without one
 * the environment variable MOXIE_TEST_RANKS decides. MOXIE_TEST_BACKEND takes one backend only, and
 * MOXIE_TEST_FILTER the tests whose name is like it ("test_fp8", "*routes*"). */
#include "conformance/conformance.h"

#include "support/backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORLD_DEADLINE_S 100

static found_backend_t backend;
static world_mode_t mode;

static world_options_t world_options(int32_t rank_count)
{
    return (world_options_t){.rank_count = rank_count,
                             .mode = mode,
                             .backend = backend.info.name,
                             .deadline_s = WORLD_DEADLINE_S};
}

void conformance_run(int32_t rank_count, world_fn fn, void *arg)
{
    char lack[MOXIE_ERROR_MESSAGE_BYTES];
    if (backends_lack(&backend, mode, rank_count, lack, sizeof(lack))[0] != '\0') {
        printf("[  PASSED OVER ] %s\n", lack);
        skip();
    }
    const world_options_t options = world_options(rank_count);
    world_run(&options, fn, arg);
}

void conformance_require(uint32_t capabilities)
{
    const uint32_t lacking = capabilities & ~backend.info.capabilities;
    if (lacking != 0) {
        printf("[  PASSED OVER ] backend %s lacks the capabilities 0x%x\n", backend.info.name,
               lacking);
        skip();
    }
}

void conformance_require_not(uint32_t capabilities)
{
    if ((backend.info.capabilities & capabilities) != 0) {
        skip();
    }
}

static void play_list(world_rank_t *self)
{
    const scenario_list_t *list = self->arg;
    moxie_group_t *group = world_group(self, "play");
    for (size_t i = 0; group != NULL && i < list->count && !self->failed; i++) {
        trial_play(self, group, &list->scenarios[i]);
    }
    moxie_group_destroy(group);
}

void conformance_play(int32_t rank_count, const scenario_t *scenarios, size_t count)
{
    scenario_t *both = calloc(2 * count, sizeof(*both));
    assert_non_null(both);
    for (size_t i = 0; i < count; i++) {
        both[2 * i] = both[2 * i + 1] = scenarios[i];
        both[2 * i].layout = MOXIE_LAYOUT_RANK_MAJOR;
        both[2 * i + 1].layout = MOXIE_LAYOUT_EXPERT_MAJOR;
    }
    scenario_list_t list = {both, 2 * count};
    conformance_run(rank_count, play_list, &list);
    free(both);
}

static int run_suite(void)
{
    int failed = 0;
    failed += _cmocka_run_group_tests("shapes", shape_tests, shape_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("values", value_tests, value_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("fp8", fp8_tests, fp8_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("low latency", low_latency_tests, low_latency_test_count,
                                      NULL, NULL);
    failed += _cmocka_run_group_tests("refused low latency", low_latency_refusal_tests,
                                      low_latency_refusal_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("routes", route_tests, route_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("refusals", refusal_tests, refusal_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("refused calls", call_refusal_tests, call_refusal_test_count,
                                      NULL, NULL);
    failed += _cmocka_run_group_tests("windows", window_tests, window_test_count, NULL, NULL);
    return failed;
}

int main(int argc, char **argv)
{
    device_prepare_process();
    mode = world_mode_from_environment();
    if (argc > 1) {
        mode = strcmp(argv[1], "threads") == 0 ? WORLD_THREADS : WORLD_PROCESSES;
    }
    const char *wanted = backends_wanted(NULL);
    if (getenv("MOXIE_TEST_FILTER") != NULL) {
        cmocka_set_test_filter(getenv("MOXIE_TEST_FILTER"));
    }
    int failed = 0;
    int played = 0;
    for (int32_t i = 0; backends_look(i, &backend); i++) {
        if (wanted != NULL && strcmp(wanted, backend.info.name) != 0) {
            continue;
        }
        if (backend.missing[0] != '\0') {
            printf("backend %s: every test SKIPPED: %s\n", backend.info.name, backend.missing);
            continue;
        }
        printf("backend %s, ranks as %s: %s\n", backend.info.name,
               mode == WORLD_THREADS ? "threads" : "processes", backend.info.detail);
        failed += run_suite();
        played++;
    }
    if (played == 0) {
        return EXIT_SKIPPED;
    }
    return failed == 0 ? 0 : 1;
}
