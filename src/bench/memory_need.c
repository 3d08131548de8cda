/* SPDX-License-Identifier: Apache-2.0 */
/* Adds up what all ranks will take: the library's quotes, inputs, outputs, verification. */
#include "bench/memory_need.h"

#include "bench/baseline.h"
#include "bench/buffers.h"
#include "bench/timing.h"
#include "bench/verify.h"

#include <stdio.h>

/* A set of inputs is not used again before this much other input was: more than a core's caches. */
#define ROTATION_BYTES UINT64_C(60000000)

/* What a process takes beside: code, stacks, the C library, the JSON document. */
#define PROCESS_BYTES (UINT64_C(8) << 20)

/* Sums that stop at the largest number instead of starting again at 0. */
static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

const char *memory_text(uint64_t bytes, char text[32])
{
    if (bytes >= UINT64_C(100000000))
        (void)snprintf(text, 32, "%.1f GB", (double)bytes / 1e9);
    else
        (void)snprintf(text, 32, "%.1f MB", (double)bytes / 1e6);
    return text;
}

static bool refuse(uint64_t need, uint64_t available, failure_t *failure)
{
    char need_text[32];
    char available_text[32];
    return failure_set(failure, EXIT_USAGE,
                       "this run needs %s of memory for all ranks together, %s are available: "
                       "take fewer --tokens, --ranks or a smaller --hidden",
                       memory_text(need, need_text), memory_text(available, available_text));
}

bool memory_check_inputs(const plan_t *plan, failure_t *failure)
{
    uint64_t available = moxie_memory_available();
    uint64_t tokens = times((uint64_t)plan->token_count_max, (uint64_t)plan->rank_count);
    uint64_t rows = times(times(tokens, (uint64_t)plan_row_bytes(plan)), 3);
    uint64_t slots = times(times(tokens, (uint64_t)plan->topk), sizeof(int32_t) + sizeof(float));
    uint64_t need = plus(rows, slots);
    return available == 0 || need <= available || refuse(need, available, failure);
}

static int32_t set_count(uint64_t set_bytes)
{
    if (set_bytes == 0)
        return 2;
    uint64_t count = ROTATION_BYTES / set_bytes + 1;
    if (count < 2)
        return 2;
    return count < BUFFER_SET_COUNT_MAX ? (int32_t)count : BUFFER_SET_COUNT_MAX;
}

static bool add_rank(const plan_t *plan, int32_t rank, uint64_t *need, failure_t *failure)
{
    moxie_group_options_t group = plan_group_options(plan, rank, "/");
    moxie_route_options_t route = plan_route_options(plan);
    buffer_layout_t layout = buffers_measure(plan, rank);
    moxie_memory_bytes_t of_group = MOXIE_MEMORY_BYTES_INIT;
    moxie_memory_bytes_t of_window = MOXIE_MEMORY_BYTES_INIT;
    moxie_route_quote_t of_route = MOXIE_ROUTE_QUOTE_INIT;
    if (moxie_group_memory_quote(&group, &of_group) != MOXIE_OK ||
        moxie_window_memory_quote(&group, layout.window_bytes, &of_window) != MOXIE_OK ||
        moxie_route_memory_quote(&group, &route, &of_route) != MOXIE_OK)
        return failure_from_library(failure, rank, "memory quote");
    *need = plus(*need, plus(of_group.host_bytes, of_group.window_bytes));
    *need = plus(*need, plus(of_window.host_bytes, of_window.window_bytes));
    *need = plus(*need, plus(of_route.memory.host_bytes, of_route.memory.window_bytes));
    *need = plus(*need, plus(layout.private_bytes, verify_bytes(plan, rank)));
    *need = plus(*need, plus(baseline_bytes(plan, rank), PROCESS_BYTES));
    return true;
}

static bool add_all(plan_t *plan, failure_t *failure)
{
    int64_t token_count_sum = plan->routing.token_start[plan->rank_count];
    uint64_t rank_count = (uint64_t)plan->rank_count;
    uint64_t samples = times((uint64_t)plan->options->iterations, rank_count * rank_count);
    /* Ranks that this process starts share its routings, those of a launcher have each their own.
     */
    plan->need_bytes = plus(times(samples, SIDE_COUNT * SLOT_COUNT * sizeof(sample_t)),
                            times(routing_set_bytes(plan->rank_count, plan->topk, token_count_sum),
                                  plan->launcher.name == NULL ? 1 : rank_count));
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        if (!add_rank(plan, rank, &plan->need_bytes, failure))
            return false;
    return true;
}

bool memory_check_plan(plan_t *plan, failure_t *failure)
{
    uint64_t available = moxie_memory_available();
    int64_t row_count_max = 0;
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        if (plan_row_capacity(plan, rank) > row_count_max)
            row_count_max = plan_row_capacity(plan, rank);
    uint64_t row_bytes = (uint64_t)plan_row_bytes(plan);
    plan->home_set_count = set_count(times((uint64_t)plan->token_count_max, row_bytes));
    plan->expert_set_count = set_count(times((uint64_t)row_count_max, row_bytes));
    if (!add_all(plan, failure))
        return false;
    if (available == 0 || plan->need_bytes <= available)
        return true;
    plan->home_set_count = 2; /* rotate less before giving up */
    plan->expert_set_count = 2;
    if (!add_all(plan, failure))
        return false;
    return plan->need_bytes <= available || refuse(plan->need_bytes, available, failure);
}
