/* SPDX-License-Identifier: Apache-2.0 */
/* Opens libcuda.so.1 once a process. */
#include "driver/cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

/* The API version whose entry points are asked for: an older driver than this is refused. */
#define API_VERSION 12040

typedef CUresult (*get_proc_address_t)(const char *, void **, int, cuuint64_t,
                                       CUdriverProcAddressQueryResult *);

static cuda_driver_t driver;
static const cuda_driver_t *opened;
static char missing[160];

#define LIBRARY "libcuda.so.1"

int cuda_is_installed(void)
{
    void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);
    if (library != NULL) {
        dlclose(library);
    }
    return library != NULL;
}

static int take(get_proc_address_t get, const char *name, void **entry)
{
    CUdriverProcAddressQueryResult found;
    if (get(name, entry, API_VERSION, CU_GET_PROC_ADDRESS_DEFAULT, &found) == CUDA_SUCCESS &&
        *entry != NULL) {
        return 1;
    }
    snprintf(missing, sizeof(missing), "this NVIDIA driver has no %s: it is older than CUDA %d.%d",
             name, API_VERSION / 1000, API_VERSION % 1000 / 10);
    return 0;
}

static void open_driver(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(missing, sizeof(missing), "there is no NVIDIA driver here (" LIBRARY ")");
        return;
    }
    get_proc_address_t get;
    *(void **)&get = dlsym(library, "cuGetProcAddress_v2");
    if (get == NULL) {
        snprintf(missing, sizeof(missing), "the NVIDIA driver is older than CUDA 12");
        return;
    }
#define CUDA_TAKE(name)                                                                            \
    if (!take(get, #name, (void **)&driver.name)) {                                                \
        return;                                                                                    \
    }
    CUDA_ENTRY_POINTS(CUDA_TAKE)
#undef CUDA_TAKE
    int count = 0;
    CUresult result = driver.cuInit(0);
    if (result == CUDA_SUCCESS) {
        result = driver.cuDeviceGetCount(&count);
    }
    if (result == CUDA_ERROR_NO_DEVICE || (result == CUDA_SUCCESS && count == 0)) {
        snprintf(missing, sizeof(missing), "there is an NVIDIA driver but no GPU");
    } else if (result != CUDA_SUCCESS) {
        char text[120];
        snprintf(missing, sizeof(missing), "the NVIDIA driver does not start: %s",
                 cuda_text(result, text, sizeof(text)));
    } else {
        opened = &driver;
    }
}

static void open_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_driver);
}

const cuda_driver_t *cuda(void)
{
    open_once();
    return opened;
}

const char *cuda_missing(void)
{
    open_once();
    return missing;
}

const char *cuda_text(CUresult result, char *text, size_t bytes)
{
    const char *name = NULL;
    const char *meaning = NULL;
    if (driver.cuGetErrorName != NULL) {
        driver.cuGetErrorName(result, &name);
        driver.cuGetErrorString(result, &meaning);
    }
    snprintf(text, bytes, "%s: %s", name != NULL ? name : "CUDA error",
             meaning != NULL ? meaning : "unknown");
    return text;
}
