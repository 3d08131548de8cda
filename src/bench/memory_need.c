/* SPDX-License-Identifier: Apache-2.0 */
/* Adds up what all ranks will take: the library's quotes, inputs, outputs, verification. */
#include "bench/memory_need.h"

#include "bench/aside.h"
#include "bench/baseline.h"
#include "bench/buffers.h"
#include "bench/place.h"
#include "bench/timing.h"
#include "bench/verify.h"

#include <stdio.h>

/* A set of inputs is not used again before this much other input was: more than a core's caches. */
#define ROTATION_BYTES UINT64_C(60000000)

/* What a process takes beside: code, stacks, the C library, the JSON document. */
#define PROCESS_BYTES (UINT64_C(8) << 20)

/* What CUDA takes of its own, on the host and on the GPU, and the pinned memory for copies. */
#define GPU_PROCESS_BYTES (UINT64_C(768) << 20)

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

const char *memory_limit_text(char text[MEMORY_LIMIT_TEXT_BYTES])
{
    char path[MEMORY_LIMIT_TEXT_BYTES - 64];
    char bytes_text[32];
    uint64_t bytes = moxie_memory_limit(path, sizeof(path));
    text[0] = '\0';
    if (path[0] != '\0')
        (void)snprintf(text, MEMORY_LIMIT_TEXT_BYTES, " of the %s that %s allows",
                       memory_text(bytes, bytes_text), path);
    return text;
}

static bool refuse(uint64_t need, failure_t *failure)
{
    char need_text[32];
    char available_text[32];
    char limit_text[MEMORY_LIMIT_TEXT_BYTES];
    return failure_set(failure, EXIT_USAGE,
                       "this run needs %s of memory for all ranks together, %s are available%s: "
                       "take fewer --tokens, --ranks or a smaller --hidden",
                       memory_text(need, need_text),
                       memory_text(moxie_memory_available(), available_text),
                       memory_limit_text(limit_text));
}

bool memory_check_inputs(const plan_t *plan, failure_t *failure)
{
    uint64_t available = moxie_memory_available();
    uint64_t tokens = times((uint64_t)plan->token_count_max, (uint64_t)plan->rank_count);
    uint64_t rows = times(times(tokens, (uint64_t)plan_row_bytes(plan)), 3);
    uint64_t slots = times(times(tokens, (uint64_t)plan->topk), sizeof(int32_t) + sizeof(float));
    uint64_t need = plus(rows, slots);
    return available == 0 || need <= available || refuse(need, failure);
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

/* What a plan takes. */
typedef struct need {
    uint64_t host_bytes; /* all ranks together */
    uint64_t gpu_bytes;  /* of the GPU that takes most */
    bool is_known;
    failure_t failure;
} need_t;

/* A rank's part on the host, and what it takes on its GPU. */
static bool add_rank(const plan_t *plan, int32_t rank, uint64_t *host, uint64_t *gpu,
                     failure_t *failure)
{
    moxie_group_options_t group = plan_group_options(plan, rank, "/");
    moxie_route_options_t route = plan_route_options(plan, rank);
    buffer_layout_t layout = buffers_measure(plan, rank);
    moxie_memory_bytes_t of_group = MOXIE_MEMORY_BYTES_INIT;
    moxie_memory_bytes_t of_window = MOXIE_MEMORY_BYTES_INIT;
    moxie_route_quote_t of_route = MOXIE_ROUTE_QUOTE_INIT;
    if (moxie_group_memory_quote(&group, &of_group) != MOXIE_OK ||
        moxie_window_memory_quote(&group, layout.window_bytes, &of_window) != MOXIE_OK ||
        moxie_route_memory_quote(&group, &route, &of_route) != MOXIE_OK)
        return failure_from_library(failure, rank, "memory quote");
    *host = plus(*host, plus(of_group.host_bytes, of_window.host_bytes));
    *host = plus(*host, plus(of_route.memory.host_bytes, verify_bytes(plan, rank)));
    *host = plus(*host, PROCESS_BYTES);
    if (plan->place.is_cuda) {
        *gpu = plus(plus(of_group.device_bytes, of_window.device_bytes),
                    plus(of_route.memory.device_bytes, layout.private_bytes));
        *gpu = plus(*gpu, plus(baseline_bytes(plan, rank), GPU_PROCESS_BYTES));
        *host = plus(*host, GPU_PROCESS_BYTES);
        return true;
    }
    *host = plus(*host, plus(of_group.window_bytes, of_window.window_bytes));
    *host = plus(*host, plus(of_route.memory.window_bytes, layout.private_bytes));
    *host = plus(*host, baseline_bytes(plan, rank));
    return true;
}

static void add_all(const void *in, void *out)
{
    const plan_t *plan = in;
    need_t *need = out;
    int64_t token_count_sum = plan->routing.token_start[plan->rank_count];
    uint64_t rank_count = (uint64_t)plan->rank_count;
    uint64_t samples = times((uint64_t)plan->options->iterations, rank_count * rank_count);
    /* Ranks that this process starts share its routings, those of a launcher have each their own.
     */
    need->host_bytes = plus(times(samples, SIDE_COUNT * SLOT_COUNT * sizeof(sample_t)),
                            times(routing_set_bytes(plan->rank_count, plan->topk, token_count_sum),
                                  plan->launcher.name == NULL ? 1 : rank_count));
    need->gpu_bytes = 0;
    need->is_known = true;
    for (int32_t rank = 0; rank < plan->rank_count && need->is_known; rank++) {
        uint64_t gpu_bytes = 0;
        need->is_known = add_rank(plan, rank, &need->host_bytes, &gpu_bytes, &need->failure);
        if (plan->place.has_threads)
            need->gpu_bytes = plus(need->gpu_bytes, gpu_bytes);
        else if (gpu_bytes > need->gpu_bytes)
            need->gpu_bytes = gpu_bytes;
    }
}

/* The library looks at the GPUs to answer for them. */
static bool measure_need(plan_t *plan, need_t *need, failure_t *failure)
{
    *need = (need_t){.is_known = false};
    if (!plan->place.is_cuda || !place_is_aside(plan))
        add_all(plan, need);
    else if (!aside_run(add_all, plan, need, sizeof(*need)))
        return failure_set(failure, EXIT_FAILED, "the memory of this run could not be summed up");
    if (!need->is_known)
        *failure = need->failure;
    plan->need_bytes = need->host_bytes;
    return need->is_known;
}

static bool fits(const plan_t *plan, const need_t *need)
{
    uint64_t available = moxie_memory_available();
    return (available == 0 || need->host_bytes <= available) &&
           (!plan->place.is_cuda || need->gpu_bytes <= plan->place.gpu_bytes);
}

static bool refuse_plan(const plan_t *plan, const need_t *need, failure_t *failure)
{
    char need_text[32];
    char available_text[32];
    if (!plan->place.is_cuda || need->gpu_bytes <= plan->place.gpu_bytes)
        return refuse(need->host_bytes, failure);
    return failure_set(failure, EXIT_USAGE,
                       "this run needs %s of memory on a GPU, which has %s: take fewer --tokens or "
                       "a smaller --hidden",
                       memory_text(need->gpu_bytes, need_text),
                       memory_text(plan->place.gpu_bytes, available_text));
}

bool memory_check_plan(plan_t *plan, failure_t *failure)
{
    need_t need;
    int64_t row_count_max = 0;
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        if (plan_row_capacity(plan, rank) > row_count_max)
            row_count_max = plan_row_capacity(plan, rank);
    uint64_t row_bytes = (uint64_t)plan_row_bytes(plan);
    plan->home_set_count =
        set_count(times((uint64_t)plan->token_count_max, (uint64_t)plan_home_row_bytes(plan)));
    plan->expert_set_count = set_count(times((uint64_t)row_count_max, row_bytes));
    if (!measure_need(plan, &need, failure))
        return false;
    if (fits(plan, &need))
        return true;
    plan->home_set_count = 2; /* rotate less before giving up */
    plan->expert_set_count = 2;
    return measure_need(plan, &need, failure) &&
           (fits(plan, &need) || refuse_plan(plan, &need, failure));
}
