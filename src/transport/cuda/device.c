/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a GPU, and the errors of the driver. */
#include "transport/cuda/device.h"

#include "core/error.h"

#include <inttypes.h>
#include <string.h>

moxie_status_t cuda_check(CUresult result, const char *what)
{
    if (result == CUDA_SUCCESS) {
        return MOXIE_OK;
    }
    char text[160];
    return error_set(result == CUDA_ERROR_OUT_OF_MEMORY ? MOXIE_ERR_MEMORY : MOXIE_ERR_SYSTEM,
                     "%s: %s", what, cuda_text(result, text, sizeof(text)));
}

/* The caller's GPU, or one by rank. */
static moxie_status_t choose(int32_t wanted, int32_t rank, int32_t *ordinal)
{
    int count = 0;
    const moxie_status_t status = cuda_check(cuda()->cuDeviceGetCount(&count), "counting the GPUs");
    if (status != MOXIE_OK) {
        return status;
    }
    if (wanted >= count) {
        return error_set(MOXIE_ERR_ARGUMENT, "group option device is %d and there are %d GPUs",
                         wanted, count);
    }
    CUcontext current = NULL;
    CUdevice device = 0;
    if (wanted < 0 && cuda()->cuCtxGetCurrent(&current) == CUDA_SUCCESS && current != NULL &&
        cuda()->cuCtxGetDevice(&device) == CUDA_SUCCESS) {
        *ordinal = device; /* the driver's handles of devices are their ordinals */
    } else {
        *ordinal = wanted >= 0 ? wanted : rank % count;
    }
    return MOXIE_OK;
}

moxie_status_t cuda_device_open(int32_t ordinal, int32_t rank, cuda_device_t *out)
{
    memset(out, 0, sizeof(*out));
    moxie_status_t status = choose(ordinal, rank, &out->ordinal);
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuDeviceGet(&out->device, out->ordinal), "opening a GPU");
    }
    int sm_count = 0;
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuDeviceGetAttribute(
                                &sm_count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, out->device),
                            "asking a GPU");
        out->sm_count = sm_count;
    }
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuDevicePrimaryCtxRetain(&out->context, out->device),
                            "the GPU's primary context");
    }
    return status;
}

void cuda_device_close(cuda_device_t *device)
{
    if (device->context != NULL) {
        cuda()->cuDevicePrimaryCtxRelease(device->device);
        device->context = NULL;
    }
}

/* How deep a thread may be in calls that enter. */
#define DEPTH_MAX 4

/* The capture modes that the calling thread had before. */
static _Thread_local CUstreamCaptureMode modes[DEPTH_MAX];
static _Thread_local int depth;

moxie_status_t cuda_device_enter(const cuda_device_t *device)
{
    const moxie_status_t status =
        cuda_check(cuda()->cuCtxPushCurrent(device->context), "entering the GPU's context");
    if (status == MOXIE_OK) {
        modes[depth] = CU_STREAM_CAPTURE_MODE_RELAXED;
        cuda()->cuThreadExchangeStreamCaptureMode(&modes[depth]);
        depth++;
    }
    return status;
}

void cuda_device_leave(void)
{
    CUcontext popped;
    depth--;
    cuda()->cuThreadExchangeStreamCaptureMode(&modes[depth]);
    cuda()->cuCtxPopCurrent(&popped);
}

moxie_status_t cuda_pinned_allocate(memory_account_t *account, uint64_t bytes, void **out)
{
    const moxie_status_t status = cuda_check(
        cuda()->cuMemHostAlloc(out, bytes, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP),
        "pinned memory");
    if (status == MOXIE_OK) {
        memset(*out, 0, bytes);
        account->host_bytes += memory_charge(bytes);
    }
    return status;
}

void cuda_pinned_release(memory_account_t *account, void *memory, uint64_t bytes)
{
    if (memory != NULL) {
        cuda()->cuMemFreeHost(memory);
        account->host_bytes -= memory_charge(bytes);
    }
}
