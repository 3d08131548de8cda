/* SPDX-License-Identifier: Apache-2.0 */
/* Names the machine by what a person would call it, from what is there without any library. */
#include "store/machine_key.h"

#ifdef MOXIE_CUDA
#include "driver/cuda.h"
#endif

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { NAME_BYTES = 96 };

/* Blanks separate the words of a stored line. */
static void make_one_word(char *text)
{
    for (; *text != '\0'; text++) {
        if (!isalnum((unsigned char)*text) && strchr("-+.,:@()/", *text) == NULL) {
            *text = '_';
        }
    }
}

/* "model name : …" of /proc/cpuinfo; processors without such a line are named by the kernel. */
static void processor_name(char name[NAME_BYTES])
{
    static const char key[] = "model name";
    struct utsname system;
    char line[256];
    (void)snprintf(name, NAME_BYTES, "%s", uname(&system) == 0 ? system.machine : "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    int is_found = 0;
    while (file != NULL && !is_found && fgets(line, sizeof(line), file) != NULL) {
        const char *value = strchr(line, ':');
        if (value != NULL && strncmp(line, key, strlen(key)) == 0) {
            value += strspn(value, ": \t");
            (void)snprintf(name, NAME_BYTES, "%.*s", (int)strcspn(value, "\n"), value);
            is_found = 1;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static void cpu_key(char key[MACHINE_KEY_BYTES])
{
    char name[NAME_BYTES];
    const uint64_t gib = UINT64_C(1) << 30;
    const uint64_t bytes =
        (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) + gib / 2;
    processor_name(name);
    (void)snprintf(key, MACHINE_KEY_BYTES, "%s,%ldx,%lluGiB", name, sysconf(_SC_NPROCESSORS_CONF),
                   (unsigned long long)(bytes / gib));
}

#ifdef MOXIE_CUDA
/* How the first two GPUs reach each other; one machine has one kind of link between its GPUs. */
static const char *link_name(int count)
{
    int has_access = 0;
    int has_atomics = 0;
    CUdevice first;
    CUdevice second;
    if (count < 2 || cuda()->cuDeviceGet(&first, 0) != CUDA_SUCCESS ||
        cuda()->cuDeviceGet(&second, 1) != CUDA_SUCCESS) {
        return "alone";
    }
    (void)cuda()->cuDeviceCanAccessPeer(&has_access, first, second);
    (void)cuda()->cuDeviceGetP2PAttribute(
        &has_atomics, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, first, second);
    if (!has_access) {
        return "apart";
    }
    return has_atomics ? "nvlink" : "pcie";
}

static void gpu_key(char key[MACHINE_KEY_BYTES])
{
    char name[NAME_BYTES] = "unknown";
    int count = 0;
    int version = 0;
    CUdevice gpu;
    if (cuda() == NULL || cuda()->cuDeviceGetCount(&count) != CUDA_SUCCESS || count == 0) {
        (void)snprintf(key, MACHINE_KEY_BYTES, "no-gpu");
        return;
    }
    if (cuda()->cuDeviceGet(&gpu, 0) == CUDA_SUCCESS) {
        (void)cuda()->cuDeviceGetName(name, sizeof(name), gpu);
    }
    (void)cuda()->cuDriverGetVersion(&version);
    (void)snprintf(key, MACHINE_KEY_BYTES, "%s,%dx,%s,cuda%d.%d", name, count, link_name(count),
                   version / 1000, version % 1000 / 10);
}
#else
static void gpu_key(char key[MACHINE_KEY_BYTES])
{
    (void)snprintf(key, MACHINE_KEY_BYTES, "no-gpu");
}
#endif

void machine_key(const char *backend, char key[MACHINE_KEY_BYTES])
{
    if (strcmp(backend, "cuda") == 0) {
        gpu_key(key);
    } else {
        cpu_key(key);
    }
    make_one_word(key);
}
