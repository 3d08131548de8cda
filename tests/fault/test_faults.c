/* SPDX-License-Identifier: Apache-2.0 */
/* Every phase of every call, killed, stopped, and never called at all; or random ones of these.
 *
 *   test_faults                    all
 *   test_faults COUNT [SEED]       COUNT random ones; without a seed one is made and printed */
#include "fault/fault_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { CASE_COUNT_MAX = 400 };

/* The hub, and another one. */
static size_t add_both(fault_case_t *cases, size_t count, fault_step_t step, const char *phase,
                       fault_action_t action)
{
    for (int32_t rank = 0; rank < 3; rank += 2) {
        cases[count++] = (fault_case_t){.step = step,
                                        .phase = phase,
                                        .action = action,
                                        .rank = rank,
                                        .rank_count = 3,
                                        .round = 2};
    }
    return count;
}

static size_t list_all(fault_case_t *cases)
{
    size_t count = 0;
    for (fault_step_t step = STEP_CREATE; step < STEP_COUNT; step++) {
        for (const char *const *phase = fault_phases(step); *phase != NULL; phase++) {
            count = add_both(cases, count, step, *phase, ACTION_KILL);
            count = add_both(cases, count, step, *phase, ACTION_STOP);
        }
        count = add_both(cases, count, step, "", ACTION_ABSENT);
        count = add_both(cases, count, step, "", ACTION_ABSENT_THREAD);
    }
    return count;
}

static fault_case_t choose(unsigned *seed)
{
    fault_case_t chosen = {.step = (fault_step_t)(rand_r(seed) % STEP_COUNT),
                           .phase = "",
                           .action = (fault_action_t)(rand_r(seed) % ACTION_COUNT),
                           .rank_count = 2 + rand_r(seed) % (FAULT_RANK_COUNT_MAX - 1),
                           .round = 2 + rand_r(seed) % 20};
    chosen.rank = rand_r(seed) % chosen.rank_count;
    if (chosen.action < ACTION_ABSENT) {
        const char *const *phases = fault_phases(chosen.step);
        int count = 0;
        while (phases[count] != NULL) {
            count++;
        }
        chosen.phase = phases[rand_r(seed) % count];
    }
    return chosen;
}

static int run_random(size_t count, unsigned seed)
{
    fault_case_t *cases = calloc(count, sizeof(*cases));
    if (cases == NULL) {
        return 1;
    }
    (void)printf("seed %u\n", seed);
    for (size_t i = 0; i < count; i++) {
        cases[i] = choose(&seed);
    }
    const int failed_count = fault_run(cases, count);
    free(cases);
    return failed_count;
}

int main(int argc, char **argv)
{
    static fault_case_t cases[CASE_COUNT_MAX];
    if (argc > 1) {
        const unsigned seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10)
                                       : (unsigned)time(NULL) ^ (unsigned)getpid();
        return run_random(strtoul(argv[1], NULL, 10), seed) != 0;
    }
    return fault_run(cases, list_all(cases)) != 0;
}
