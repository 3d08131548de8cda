/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the CUDA driver for its GPUs and how they reach each other. */
#include "cli/gpus.h"

#include <stdio.h>
#include <string.h>

#ifdef MOXIE_CUDA

#include "driver/cuda.h"

/* What the kernel's module says of itself, "580.82.07"; "" when it is not there. */
static void read_driver_version(char *out, size_t size)
{
    char line[256] = "";
    out[0] = '\0';
    FILE *file = fopen("/proc/driver/nvidia/version", "re");
    if (file == NULL)
        return;
    if (fgets(line, sizeof(line), file) == NULL)
        line[0] = '\0';
    (void)fclose(file);
    for (const char *word = line; *word != '\0'; word++) {
        size_t length = strspn(word, "0123456789.");
        if (word > line && word[-1] == ' ' && length > 2 && memchr(word, '.', length) != NULL) {
            (void)snprintf(out, size, "%.*s", (int)length, word);
            return;
        }
    }
}

/* 0 where the driver does not know. */
static int attribute(CUdevice device, CUdevice_attribute which)
{
    int value = 0;
    return cuda()->cuDeviceGetAttribute(&value, which, device) == CUDA_SUCCESS ? value : 0;
}

static int pair_attribute(CUdevice from, CUdevice to, CUdevice_P2PAttribute which)
{
    int value = 0;
    return cuda()->cuDeviceGetP2PAttribute(&value, which, from, to) == CUDA_SUCCESS ? value : 0;
}

static json_t *handles_json(CUdevice device)
{
    json_t *handles = json_array();
    if (attribute(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED))
        json_array_append_new(handles, json_string("posix_fd"));
    if (attribute(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED))
        json_array_append_new(handles, json_string("fabric"));
    return handles;
}

static json_t *device_json(CUdevice device, int ordinal)
{
    char name[128] = "";
    char bus[32] = "";
    char capability[16];
    size_t memory_bytes = 0;
    (void)cuda()->cuDeviceGetName(name, sizeof(name), device);
    (void)cuda()->cuDeviceGetPCIBusId(bus, sizeof(bus), device);
    (void)cuda()->cuDeviceTotalMem(&memory_bytes, device);
    (void)snprintf(capability, sizeof(capability), "%d.%d",
                   attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                   attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
    return json_pack("{s:i,s:s,s:I,s:i,s:s,s:s,s:b,s:o,s:b,s:b}", "ordinal", ordinal, "name", name,
                     "memory_bytes", (json_int_t)memory_bytes, "sms",
                     attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
                     "compute_capability", capability, "pci_bus_id", bus, "virtual_memory",
                     attribute(device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED),
                     "handle_types", handles_json(device), "multicast_supported",
                     attribute(device, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED), "multicast_used",
                     0);
}

/* The driver does not name the wire. Atomics of one GPU on the memory of another are native on
 * NVLink and not on PCIe. */
static json_t *link_json(CUdevice from, int from_ordinal, CUdevice to, int to_ordinal)
{
    int has_access = pair_attribute(from, to, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED);
    int has_atomics = pair_attribute(from, to, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED);
    const char *wire = has_atomics ? "nvlink" : "pcie";
    return json_pack("{s:i,s:i,s:b,s:s,s:b,s:i}", "from", from_ordinal, "to", to_ordinal,
                     "peer_access", has_access, "wire", has_access ? wire : "none",
                     "native_atomics", has_atomics, "performance_rank",
                     pair_attribute(from, to, CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK));
}

static void add_devices(json_t *devices, json_t *links)
{
    int count = 0;
    (void)cuda()->cuDeviceGetCount(&count);
    for (int from = 0; from < count; from++) {
        CUdevice device;
        if (cuda()->cuDeviceGet(&device, from) != CUDA_SUCCESS)
            continue;
        json_array_append_new(devices, device_json(device, from));
        for (int to = 0; to < count; to++) {
            CUdevice peer;
            if (to != from && cuda()->cuDeviceGet(&peer, to) == CUDA_SUCCESS)
                json_array_append_new(links, link_json(device, from, peer, to));
        }
    }
}

json_t *gpus_json(void)
{
    char driver[64] = "";
    char api[16] = "";
    json_t *devices = json_array();
    json_t *links = json_array();
    if (cuda() != NULL) {
        int version = 0;
        (void)cuda()->cuDriverGetVersion(&version);
        (void)snprintf(api, sizeof(api), "%d.%d", version / 1000, version % 1000 / 10);
        add_devices(devices, links);
    }
    read_driver_version(driver, sizeof(driver));
    return json_pack("{s:s,s:s,s:s,s:o,s:o}", "missing", cuda_missing(), "driver", driver, "cuda",
                     api, "devices", devices, "links", links);
}

#else

json_t *gpus_json(void)
{
    return json_pack("{s:s,s:s,s:s,s:[],s:[]}", "missing",
                     "this build has no CUDA in it and does not look for GPUs", "driver", "",
                     "cuda", "", "devices", "links");
}

#endif

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static long long integer_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_device(const json_t *device)
{
    const json_t *handles = json_object_get(device, "handle_types");
    (void)printf("  GPU %-12lld %s, %.1f GB, %lld SMs, compute capability %s, PCI %s\n",
                 integer_at(device, "ordinal"), text_at(device, "name"),
                 (double)integer_at(device, "memory_bytes") / 1e9, integer_at(device, "sms"),
                 text_at(device, "compute_capability"), text_at(device, "pci_bus_id"));
    (void)printf("  %-16s memory can be shared as:", "");
    for (size_t i = 0; i < json_array_size(handles); i++)
        (void)printf(" %s", json_string_value(json_array_get(handles, i)));
    (void)printf("%s; multicast is %s, and not used\n", json_array_size(handles) > 0 ? "" : " -",
                 json_is_true(json_object_get(device, "multicast_supported")) ? "there"
                                                                              : "not there");
}

static void print_link(const json_t *link)
{
    if (!json_is_true(json_object_get(link, "peer_access"))) {
        (void)printf("  %lld to %-11lld no peer access\n", integer_at(link, "from"),
                     integer_at(link, "to"));
        return;
    }
    (void)printf("  %lld to %-11lld %s, %s atomics, performance rank %lld (0 is the best)\n",
                 integer_at(link, "from"), integer_at(link, "to"),
                 strcmp(text_at(link, "wire"), "nvlink") == 0 ? "NVLink" : "PCIe",
                 json_is_true(json_object_get(link, "native_atomics")) ? "native" : "no native",
                 integer_at(link, "performance_rank"));
}

void gpus_print(const json_t *gpus)
{
    const json_t *devices = json_object_get(gpus, "devices");
    const json_t *links = json_object_get(gpus, "links");
    (void)printf("\nGPUs\n");
    if (json_array_size(devices) == 0) {
        (void)printf("  %-16s %s\n", "none", text_at(gpus, "missing"));
        return;
    }
    const char *driver = text_at(gpus, "driver");
    (void)printf("  %-16s %s, CUDA %s\n", "driver", driver[0] != '\0' ? driver : "version unknown",
                 text_at(gpus, "cuda"));
    for (size_t i = 0; i < json_array_size(devices); i++)
        print_device(json_array_get(devices, i));
    if (json_array_size(links) > 0)
        (void)printf("\nlinks between GPUs\n");
    for (size_t i = 0; i < json_array_size(links); i++)
        print_link(json_array_get(links, i));
}
