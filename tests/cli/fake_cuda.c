/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libcuda.so.1 for machines without a GPU: enough of the driver API to be opened and asked for
 * devices, and nothing that computes. FAKE_CUDA says what it is: a number of GPUs, or "old", which
 * lacks an entry point. Two GPUs of three are joined by NVLink, the third is on PCIe.
 */
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *fake(void)
{
    const char *text = getenv("FAKE_CUDA");
    return text != NULL ? text : "0";
}

static CUresult fake_init(unsigned flags)
{
    (void)flags;
    return strcmp(fake(), "0") == 0 ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

static CUresult fake_device_count(int *count)
{
    *count = atoi(fake());
    return CUDA_SUCCESS;
}

static CUresult fake_driver_version(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS;
}

static CUresult fake_device(CUdevice *device, int ordinal)
{
    *device = ordinal;
    return CUDA_SUCCESS;
}

static CUresult fake_name(char *name, int bytes, CUdevice device)
{
    (void)snprintf(name, (size_t)bytes, "Fake GPU %d", device);
    return CUDA_SUCCESS;
}

static CUresult fake_bus(char *bus, int bytes, CUdevice device)
{
    (void)snprintf(bus, (size_t)bytes, "0000:%02x:00.0", device + 1);
    return CUDA_SUCCESS;
}

static CUresult fake_memory(size_t *bytes, CUdevice device)
{
    (void)device;
    *bytes = (size_t)1 << 37;
    return CUDA_SUCCESS;
}

static CUresult fake_attribute(int *value, CUdevice_attribute which, CUdevice device)
{
    (void)device;
    switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = 9;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *value = 132;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
        *value = 1;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = 0;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static CUresult fake_pair(int *value, CUdevice_P2PAttribute which, CUdevice from, CUdevice to)
{
    *value = which == CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED ||
             (which == CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED && from + to == 1);
    return CUDA_SUCCESS;
}

/* Any other entry point. What it is called with does not matter on any machine that Moxie runs on.
 */
static CUresult fake_refusal(void)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

typedef void (*entry_t)(void);

static entry_t find(const char *name)
{
    static const struct {
        const char *name;
        entry_t entry;
    } entries[] = {
        {"cuInit", (entry_t)fake_init},
        {"cuDeviceGetCount", (entry_t)fake_device_count},
        {"cuDriverGetVersion", (entry_t)fake_driver_version},
        {"cuDeviceGet", (entry_t)fake_device},
        {"cuDeviceGetName", (entry_t)fake_name},
        {"cuDeviceGetPCIBusId", (entry_t)fake_bus},
        {"cuDeviceTotalMem", (entry_t)fake_memory},
        {"cuDeviceGetAttribute", (entry_t)fake_attribute},
        {"cuDeviceGetP2PAttribute", (entry_t)fake_pair},
    };
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
        if (strcmp(name, entries[i].name) == 0)
            return entries[i].entry;
    return (entry_t)fake_refusal;
}

__attribute__((visibility("default"))) CUresult cuGetProcAddress(
    const char *name, void **entry, int version, cuuint64_t flags,
    CUdriverProcAddressQueryResult *found)
{
    (void)version;
    (void)flags;
    (void)found;
    if (strcmp(fake(), "old") == 0 && strcmp(name, "cuMemCreate") == 0)
        return CUDA_ERROR_NOT_FOUND;
    const entry_t function = find(name);
    memcpy(entry, &function, sizeof(function));
    return CUDA_SUCCESS;
}
