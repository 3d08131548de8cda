/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's memory, by the primary context that the library uses too. */
#include "driver/cuda.h"

#include "support/device_ops.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct gpu {
    CUdevice device;
    CUstream stream;
} gpu_t;

static void must(CUresult result, const char *what)
{
    if (result != CUDA_SUCCESS) {
        char text[160];
        fprintf(stderr, "%s: %s\n", what, cuda_text(result, text, sizeof(text)));
        abort();
    }
}

static CUdeviceptr address(const void *memory)
{
    return (CUdeviceptr)(uintptr_t)memory;
}

static int32_t gpu_count(void)
{
    int count = 0;
    return cuda() != NULL && cuda()->cuDeviceGetCount(&count) == CUDA_SUCCESS ? count : 0;
}

static void *gpu_open(int32_t ordinal, moxie_stream_t *stream)
{
    gpu_t *gpu = calloc(1, sizeof(*gpu));
    if (gpu == NULL || cuda() == NULL) {
        fprintf(stderr, "no GPU: %s\n", cuda_missing());
        abort();
    }
    CUcontext context;
    must(cuda()->cuDeviceGet(&gpu->device, ordinal), "cuDeviceGet");
    must(cuda()->cuDevicePrimaryCtxRetain(&context, gpu->device), "cuDevicePrimaryCtxRetain");
    must(cuda()->cuCtxPushCurrent(context), "cuCtxPushCurrent");
    must(cuda()->cuStreamCreateWithPriority(&gpu->stream, CU_STREAM_NON_BLOCKING, 0),
         "cuStreamCreateWithPriority");
    *stream = gpu->stream;
    return gpu;
}

static void gpu_close(void *ctx)
{
    gpu_t *gpu = ctx;
    CUcontext context;
    must(cuda()->cuStreamDestroy(gpu->stream), "cuStreamDestroy");
    must(cuda()->cuCtxPopCurrent(&context), "cuCtxPopCurrent");
    must(cuda()->cuDevicePrimaryCtxRelease(gpu->device), "cuDevicePrimaryCtxRelease");
    free(gpu);
}

static void *gpu_create(size_t bytes)
{
    CUdeviceptr memory;
    must(cuda()->cuMemAlloc(&memory, bytes), "cuMemAlloc");
    return (void *)(uintptr_t)memory;
}

static void gpu_destroy(void *memory)
{
    must(cuda()->cuMemFree(address(memory)), "cuMemFree");
}

static void *gpu_pin(size_t bytes)
{
    void *memory;
    must(cuda()->cuMemHostAlloc(&memory, bytes, 0), "cuMemHostAlloc");
    return memory;
}

static void gpu_unpin(void *memory)
{
    must(cuda()->cuMemFreeHost(memory), "cuMemFreeHost");
}

static device_mark_t gpu_mark_create(void)
{
    CUevent event;
    must(cuda()->cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
    return event;
}

static void gpu_mark(void *ctx, device_mark_t mark)
{
    const gpu_t *gpu = ctx;
    must(cuda()->cuEventRecord(mark, gpu->stream), "cuEventRecord");
}

static void gpu_wait(device_mark_t mark)
{
    must(cuda()->cuEventSynchronize(mark), "cuEventSynchronize");
}

static void gpu_mark_destroy(device_mark_t mark)
{
    must(cuda()->cuEventDestroy(mark), "cuEventDestroy");
}

static void gpu_synchronise(void *ctx)
{
    const gpu_t *gpu = ctx;
    must(cuda()->cuStreamSynchronize(gpu->stream), "cuStreamSynchronize");
}

/* The driver knows from the addresses which way a copy goes. */
static void gpu_copy(void *ctx, void *to, const void *from, size_t bytes)
{
    const gpu_t *gpu = ctx;
    must(cuda()->cuMemcpyAsync(address(to), address(from), bytes, gpu->stream), "cuMemcpyAsync");
}

static void gpu_fill(void *ctx, void *to, unsigned char byte, size_t bytes)
{
    const gpu_t *gpu = ctx;
    must(cuda()->cuMemsetD8Async(address(to), byte, bytes, gpu->stream), "cuMemsetD8Async");
}

const device_ops_t device_cuda = {
    .count = gpu_count,
    .open = gpu_open,
    .close = gpu_close,
    .create = gpu_create,
    .destroy = gpu_destroy,
    .pin = gpu_pin,
    .unpin = gpu_unpin,
    .copy = gpu_copy,
    .fill = gpu_fill,
    .synchronise = gpu_synchronise,
    .mark_create = gpu_mark_create,
    .mark = gpu_mark,
    .wait = gpu_wait,
    .mark_destroy = gpu_mark_destroy,
};
