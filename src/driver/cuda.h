/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA driver API, taken from libcuda.so.1 when it is first asked for: a program that has it
 * compiled in starts on a machine without a GPU. Entry points come from cuGetProcAddress, and are
 * called through the table: cuda()->cuMemAlloc(…).
 */
#ifndef MOXIE_DRIVER_CUDA_H
#define MOXIE_DRIVER_CUDA_H

#include <cuda.h>
#include <stddef.h>

/* X(entry point). The headers' macros name the version of each that is compiled against. */
#define CUDA_ENTRY_POINTS(X)                                                                       \
    X(cuCtxGetCurrent)                                                                             \
    X(cuCtxGetDevice)                                                                              \
    X(cuCtxPopCurrent)                                                                             \
    X(cuCtxPushCurrent)                                                                            \
    X(cuCtxGetStreamPriorityRange)                                                                 \
    X(cuCtxEnablePeerAccess)                                                                       \
    X(cuCtxSynchronize)                                                                            \
    X(cuDeviceCanAccessPeer)                                                                       \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetAttribute)                                                                        \
    X(cuDeviceGetCount)                                                                            \
    X(cuDeviceGetName)                                                                             \
    X(cuDeviceGetP2PAttribute)                                                                     \
    X(cuDeviceGetPCIBusId)                                                                         \
    X(cuDeviceGetUuid)                                                                             \
    X(cuDevicePrimaryCtxRelease)                                                                   \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuDeviceTotalMem)                                                                            \
    X(cuDriverGetVersion)                                                                          \
    X(cuEventCreate)                                                                               \
    X(cuEventDestroy)                                                                              \
    X(cuEventElapsedTime)                                                                          \
    X(cuEventQuery)                                                                                \
    X(cuEventRecord)                                                                               \
    X(cuEventSynchronize)                                                                          \
    X(cuFuncGetAttribute)                                                                          \
    X(cuFuncLoad)                                                                                  \
    X(cuFuncSetAttribute)                                                                          \
    X(cuGetErrorName)                                                                              \
    X(cuGetErrorString)                                                                            \
    X(cuGraphDestroy)                                                                              \
    X(cuGraphExecDestroy)                                                                          \
    X(cuGraphInstantiateWithFlags)                                                                 \
    X(cuGraphLaunch)                                                                               \
    X(cuInit)                                                                                      \
    X(cuIpcCloseMemHandle)                                                                         \
    X(cuIpcGetMemHandle)                                                                           \
    X(cuIpcOpenMemHandle)                                                                          \
    X(cuLaunchKernelEx)                                                                            \
    X(cuLaunchHostFunc)                                                                            \
    X(cuMemAddressFree)                                                                            \
    X(cuMemAddressReserve)                                                                         \
    X(cuMemAlloc)                                                                                  \
    X(cuMemCreate)                                                                                 \
    X(cuMemExportToShareableHandle)                                                                \
    X(cuMemFree)                                                                                   \
    X(cuMemFreeHost)                                                                               \
    X(cuMemGetAddressRange)                                                                        \
    X(cuMemGetAllocationGranularity)                                                               \
    X(cuMemGetInfo)                                                                                \
    X(cuMemHostAlloc)                                                                              \
    X(cuMemHostGetDevicePointer)                                                                   \
    X(cuMemImportFromShareableHandle)                                                              \
    X(cuMemMap)                                                                                    \
    X(cuMemRelease)                                                                                \
    X(cuMemRetainAllocationHandle)                                                                 \
    X(cuMemSetAccess)                                                                              \
    X(cuMemUnmap)                                                                                  \
    X(cuMemcpy)                                                                                    \
    X(cuMemcpy2DAsync)                                                                             \
    X(cuMemcpyAsync)                                                                               \
    X(cuMemcpyDtoH)                                                                                \
    X(cuMemcpyHtoD)                                                                                \
    X(cuMemsetD8)                                                                                  \
    X(cuMemsetD8Async)                                                                             \
    X(cuModuleGetFunction)                                                                         \
    X(cuModuleLoadData)                                                                            \
    X(cuModuleUnload)                                                                              \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessor)                                                 \
    X(cuPointerGetAttribute)                                                                       \
    X(cuStreamBeginCapture)                                                                        \
    X(cuStreamCreateWithPriority)                                                                  \
    X(cuStreamDestroy)                                                                             \
    X(cuStreamEndCapture)                                                                          \
    X(cuStreamIsCapturing)                                                                         \
    X(cuStreamQuery)                                                                               \
    X(cuStreamSynchronize)                                                                         \
    X(cuStreamWaitEvent)                                                                           \
    X(cuThreadExchangeStreamCaptureMode)

typedef struct cuda_driver {
#define CUDA_DECLARE(name) __typeof__(&name) name;
    CUDA_ENTRY_POINTS(CUDA_DECLARE)
#undef CUDA_DECLARE
} cuda_driver_t;

/* The driver, initialised; NULL when there is none or it does not work. Thread-safe. */
const cuda_driver_t *cuda(void);

/* Why cuda() is NULL, in one sentence; "" when it is not. */
const char *cuda_missing(void);

/* Whether there is a driver to open at all. Starts nothing, so that a process which asks may still
 * fork. */
int cuda_is_installed(void);

/* Text of a result: "CUDA_ERROR_OUT_OF_MEMORY: out of memory". */
const char *cuda_text(CUresult result, char *text, size_t bytes);

#endif
