/* SPDX-License-Identifier: Apache-2.0 */
/* An exchange on GPUs, in stream order: dispatch, which brings its routing, and combine are put on
   a stream one after the other, and only then does the CPU wait. 2 ranks as threads, on 2 GPUs or
   on one. The experts return what they get, and a token's weights add up to 1: it comes home as it
   was. */
#include <dlfcn.h>
#include <moxie/moxie.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RANKS = 2, TOKENS = 64, HIDDEN = 256, EXPERTS = 8, TOPK = 2 };
enum { ROWS_MAX = RANKS * TOKENS * TOPK };

typedef struct buffers { /* of a rank, in memory of its GPU */
    float x[TOKENS][HIDDEN], out[TOKENS][HIDDEN];
    float weight[TOKENS][TOPK];
    int32_t expert[TOKENS][TOPK];
    float rows[ROWS_MAX][HIDDEN]; /* received, and given back as the experts' outputs */
} buffers_t;

/* What is needed of CUDA's driver, opened at run time: the program starts without a GPU, too. */
static int (*cuInit)(unsigned);
static int (*cuDevicePrimaryCtxRetain)(void **context, int device);
static int (*cuCtxSetCurrent)(void *context);
static int (*cuStreamCreate)(void **stream, unsigned flags);
static int (*cuMemcpyAsync)(uintptr_t to, uintptr_t from, size_t bytes, void *stream);
static int (*cuStreamSynchronize)(void *stream);

static void open_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    *(void **)&cuInit = dlsym(driver, "cuInit");
    *(void **)&cuDevicePrimaryCtxRetain = dlsym(driver, "cuDevicePrimaryCtxRetain");
    *(void **)&cuCtxSetCurrent = dlsym(driver, "cuCtxSetCurrent");
    *(void **)&cuStreamCreate = dlsym(driver, "cuStreamCreate");
    *(void **)&cuMemcpyAsync = dlsym(driver, "cuMemcpyAsync");
    *(void **)&cuStreamSynchronize = dlsym(driver, "cuStreamSynchronize");
}

static void check(moxie_status_t status)
{
    if (status != MOXIE_OK) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        moxie_last_error(&error);
        fprintf(stderr, "%s: %s\n", moxie_status_name(status), error.message);
        exit(1);
    }
}

static void check_cuda(int result)
{
    if (result != 0) {
        fprintf(stderr, "CUDA error %d\n", result);
        exit(1);
    }
}

static char meeting_point[32];

static void exchange(moxie_route_t *route, buffers_t *gpu, moxie_stream_t stream)
{
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS;
    routing.topk_idx = gpu->expert, routing.topk_weights = gpu->weight[0];

    moxie_dispatch_in_t send = {.size = sizeof(send), .x = gpu->x, .dtype = MOXIE_DTYPE_FP32};
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    receive.row_capacity = ROWS_MAX, receive.recv_x = gpu->rows;
    check(moxie_dispatch_routing(route, &routing, &send, &receive, stream));

    /* Here your experts' kernels go on the same stream, and make y out of recv_x. */

    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    give.y = gpu->rows, give.dtype = give.wire_dtype = MOXIE_DTYPE_FP32;
    moxie_combine_out_t get = {.size = sizeof(get), .out = gpu->out, .dtype = MOXIE_DTYPE_FP32};
    check(moxie_combine(route, &give, &get, stream));
}

static void *run_rank(void *argument)
{
    const int rank = (int)(intptr_t)argument;
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT; /* device: rank % GPUs */
    options.rank = rank, options.rank_count = RANKS, options.rendezvous = meeting_point;
    options.backend = "cuda";
    moxie_group_t *group;
    moxie_window_t *window;
    check(moxie_group_create(&options, &group));
    check(moxie_window_allocate(group, sizeof(buffers_t), &window));
    buffers_t *gpu = moxie_window_base(window); /* addresses only: the CPU cannot read there */
    buffers_t *cpu = calloc(1, sizeof(*cpu));
    if (cpu == NULL)
        exit(1);
    for (int t = 0; t < TOKENS; t++) {
        for (int h = 0; h < HIDDEN; h++)
            cpu->x[t][h] = (float)(1000 * rank + t + h);
        cpu->expert[t][0] = (rank + t) % EXPERTS, cpu->weight[t][0] = 0.75f;
        cpu->expert[t][1] = (rank + t + 3) % EXPERTS, cpu->weight[t][1] = 0.25f;
    }

    void *context, *stream;
    check_cuda(cuDevicePrimaryCtxRetain(&context, moxie_group_device(group)));
    check_cuda(cuCtxSetCurrent(context));
    check_cuda(cuStreamCreate(&stream, 1)); /* CU_STREAM_NON_BLOCKING */
    check_cuda(cuMemcpyAsync((uintptr_t)gpu, (uintptr_t)cpu, sizeof(*cpu), stream));

    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.layout = MOXIE_LAYOUT_EXPERT_MAJOR;
    shape.expert_count = EXPERTS, shape.topk = TOPK;
    shape.hidden = HIDDEN, shape.token_count_max = TOKENS;
    shape.row_capacity = ROWS_MAX; /* so that no call waits for the GPU */
    moxie_route_t *route;
    check(moxie_route_create(group, &shape, &route));
    exchange(route, gpu, stream);
    check_cuda(cuMemcpyAsync((uintptr_t)cpu->out, (uintptr_t)gpu->out, sizeof(cpu->out), stream));
    check_cuda(cuStreamSynchronize(stream)); /* all of it has been done now */
    check(moxie_route_status(route));        /* and this is what became of it */

    const int wrong = memcmp(cpu->out, cpu->x, sizeof(cpu->x)) != 0;
    printf("rank %d on GPU %d: %s\n", rank, moxie_group_device(group), wrong ? "WRONG" : "right");
    check(moxie_group_barrier(group)); /* freeing waits for a GPU that the other may still need */
    moxie_route_destroy(route), moxie_window_free(window), moxie_group_destroy(group);
    free(cpu);
    return (void *)(intptr_t)wrong;
}

static int has_gpu(void)
{
    moxie_backend_info_t info = MOXIE_BACKEND_INFO_INIT;
    for (int32_t i = 0; i < moxie_backend_count(); i++) {
        check(moxie_backend_probe(i, &info));
        if (strcmp(info.name, "cuda") == 0 && info.available)
            return 1;
    }
    fprintf(stderr, "skipped: backend cuda: %s\n",
            strcmp(info.name, "cuda") == 0 ? info.reason : "this library has none");
    return 0;
}

int main(void)
{
    /* Ranks that share a GPU need queues of their own, and no loading while one waits. */
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0), setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    if (!has_gpu())
        return 77;
    open_driver();
    check_cuda(cuInit(0));
    char folder[] = "/tmp/moxie-XXXXXX";
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(meeting_point, sizeof(meeting_point), "%s/group", folder);
    pthread_t threads[RANKS];
    for (int rank = 0; rank < RANKS; rank++)
        if (pthread_create(&threads[rank], NULL, run_rank, (void *)(intptr_t)rank) != 0)
            return 1;
    int failed = 0;
    for (int rank = 0; rank < RANKS; rank++) {
        void *wrong;
        failed += pthread_join(threads[rank], &wrong) != 0 || wrong != NULL;
    }
    rmdir(folder);
    puts(failed ? "WRONG" : "every result is right");
    return failed != 0;
}
