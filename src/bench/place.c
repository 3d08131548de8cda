/* SPDX-License-Identifier: Apache-2.0 */
/* Probes the backends, in a process of their own where this one is going to fork the ranks. */
#include "bench/place.h"

#include "bench/aside.h"
#include "moxie/backend.h"

#ifdef MOXIE_CUDA
#include "driver/cuda.h"
#endif

#include <stdio.h>
#include <string.h>

/* Ranks on GPUs when nobody says how many. */
enum { GPU_RANK_COUNT_DEFAULT = 8 };

/* What a probe looks for and finds. */
typedef struct probe {
    const char *wanted; /* the backend's name; NULL: any */
    bool is_found;
    char reason[sizeof(((moxie_backend_info_t *)0)->reason)]; /* why not */
    place_t place;
} probe_t;

static void count_gpus(place_t *place)
{
#ifdef MOXIE_CUDA
    int count = 0;
    CUdevice gpu;
    size_t bytes = 0;
    if (cuda() != NULL && cuda()->cuDeviceGetCount(&count) == CUDA_SUCCESS && count > 0 &&
        cuda()->cuDeviceGet(&gpu, 0) == CUDA_SUCCESS &&
        cuda()->cuDeviceTotalMem(&bytes, gpu) == CUDA_SUCCESS) {
        place->gpu_count = count;
        place->gpu_bytes = bytes;
    }
#else
    (void)place;
#endif
}

static void find(const void *unused, void *out)
{
    probe_t *probe = out;
    (void)unused;
    /* The later in the library's list, the better. */
    for (int32_t i = moxie_backend_count() - 1; i >= 0 && !probe->is_found; i--) {
        moxie_backend_info_t info = MOXIE_BACKEND_INFO_INIT;
        if (moxie_backend_probe(i, &info) != MOXIE_OK ||
            (probe->wanted != NULL && strcmp(info.name, probe->wanted) != 0)) {
            continue;
        }
        probe->is_found = info.available != 0;
        memcpy(probe->reason, info.reason, sizeof(probe->reason));
        memcpy(probe->place.backend, info.name, sizeof(info.name));
        probe->place.capabilities = info.capabilities;
        probe->place.is_cuda = strcmp(info.name, "cuda") == 0;
    }
    if (probe->is_found && probe->place.is_cuda) {
        count_gpus(&probe->place);
    }
}

/* The first option that only GPUs have; OPTION_COUNT: none is given. */
static option_id_t gpu_option(const options_t *options)
{
    if (options->launch == LAUNCH_GRAPH) {
        return OPTION_LAUNCH;
    }
    if (options->baseline == BASELINE_NCCL) {
        return OPTION_BASELINE;
    }
    return option_is_given(options, OPTION_SMS) ? OPTION_SMS : OPTION_COUNT;
}

/* The same of the CPU. */
static option_id_t cpu_option(const options_t *options)
{
    bool is_mpi = options->baseline == BASELINE_MPI || options->baseline == BASELINE_MPI_DEDUP;
    return is_mpi ? OPTION_BASELINE : OPTION_COUNT;
}

/* The option with its word, as a person gives it: "--launch graph". */
static const char *as_given(const plan_t *plan, option_id_t id, char text[OPTION_WHERE_BYTES])
{
    char word[OPTION_WHERE_BYTES] = "";
    if (option_row(id)->type == OPTION_TYPE_CHOICE) {
        (void)option_word(plan->options, id, word);
    }
    (void)snprintf(text, OPTION_WHERE_BYTES, "%.440s%s%.64s", plan->where[id],
                   word[0] == '\0' ? "" : " ", word);
    return text;
}

static bool contradicts(const plan_t *plan, option_id_t id, const char *needed, failure_t *failure)
{
    char given[OPTION_WHERE_BYTES];
    char backend[OPTION_WHERE_BYTES];
    return failure_set(failure, EXIT_USAGE, "%s needs backend %s and contradicts %s",
                       as_given(plan, id, given), needed, as_given(plan, OPTION_BACKEND, backend));
}

bool place_is_aside(const plan_t *plan)
{
#ifdef MOXIE_CUDA
    return plan->options->backend != BACKEND_SHM && plan->launcher.name == NULL &&
           cuda_is_installed();
#else
    (void)plan;
    return false;
#endif
}

bool place_choose(plan_t *plan, failure_t *failure)
{
    const options_t *options = plan->options;
    option_id_t on_gpu = gpu_option(options);
    option_id_t on_cpu = cpu_option(options);
    probe_t probe = {.wanted = NULL, .reason = "it is not built"};
    if (options->backend == BACKEND_SHM && on_gpu != OPTION_COUNT) {
        return contradicts(plan, on_gpu, "cuda", failure);
    }
    if (options->backend == BACKEND_CUDA && on_cpu != OPTION_COUNT) {
        return contradicts(plan, on_cpu, "shm", failure);
    }
    if (options->backend == BACKEND_CUDA || on_gpu != OPTION_COUNT) {
        probe.wanted = "cuda";
    } else if (options->backend == BACKEND_SHM || on_cpu != OPTION_COUNT) {
        probe.wanted = "shm";
    }
    if (!place_is_aside(plan)) {
        find(NULL, &probe);
    } else if (!aside_run(find, NULL, &probe, sizeof(probe))) {
        return failure_set(failure, EXIT_FAILED, "the backends could not be probed");
    }
    plan->place = probe.place;
    if (probe.is_found) {
        return true;
    }
    if (options->backend == BACKEND_AUTO && on_gpu != OPTION_COUNT) {
        char given[OPTION_WHERE_BYTES];
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "%s needs backend cuda, which is not available here: %s",
                           as_given(plan, on_gpu, given), probe.reason);
    }
    return failure_set(failure, EXIT_UNAVAILABLE, "backend %s is not available here: %s",
                       probe.wanted == NULL ? "auto" : probe.wanted, probe.reason);
}

int32_t place_rank_count(const plan_t *plan)
{
    if (!plan->place.is_cuda || option_is_given(plan->options, OPTION_RANKS)) {
        return (int32_t)plan->options->ranks;
    }
    return plan->place.gpu_count < GPU_RANK_COUNT_DEFAULT ? plan->place.gpu_count
                                                          : GPU_RANK_COUNT_DEFAULT;
}

bool place_check_ranks(plan_t *plan, failure_t *failure)
{
    int32_t gpu_count = plan->place.gpu_count;
    if (!plan->place.is_cuda || plan->launcher.name != NULL || plan->rank_count <= gpu_count) {
        return true;
    }
    plan->place.has_threads = gpu_count == 1;
    return plan->place.has_threads ||
           failure_set(failure, EXIT_USAGE,
                       "%s: %d ranks are more than the %d GPUs here; only one GPU alone can be "
                       "shared (CUDA_VISIBLE_DEVICES=0)",
                       plan->where[OPTION_RANKS], plan->rank_count, gpu_count);
}
