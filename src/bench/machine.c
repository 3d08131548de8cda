/* SPDX-License-Identifier: Apache-2.0 */
/* Describes the machine: hwloc for the topology, uname and os-release for the system. */
#include "bench/machine.h"

#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void copy_text(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text == NULL ? "" : text);
}

static int32_t count_of(hwloc_topology_t topology, hwloc_obj_type_t type)
{
    int count = hwloc_get_nbobjs_by_type(topology, type);
    return count > 0 ? count : 0;
}

static uint64_t cache_bytes(hwloc_topology_t topology, hwloc_obj_type_t type)
{
    hwloc_obj_t cache = hwloc_get_obj_by_type(topology, type, 0);
    return cache == NULL ? 0 : cache->attr->cache.size;
}

static void describe_topology(machine_t *out)
{
    /* Without /sys hwloc complains on stderr and goes on; so do we, without the complaint. */
    (void)setenv("HWLOC_HIDE_ERRORS", "2", 0);
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0)
        return;
    if (hwloc_topology_load(topology) == 0) {
        hwloc_obj_t package = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0);
        if (package != NULL)
            copy_text(out->cpu, sizeof(out->cpu), hwloc_obj_get_info_by_name(package, "CPUModel"));
        out->core_count = count_of(topology, HWLOC_OBJ_CORE);
        out->thread_count = count_of(topology, HWLOC_OBJ_PU);
        out->numa_count = count_of(topology, HWLOC_OBJ_NUMANODE);
        out->package_count = count_of(topology, HWLOC_OBJ_PACKAGE);
        out->l1_bytes = cache_bytes(topology, HWLOC_OBJ_L1CACHE);
        out->l2_bytes = cache_bytes(topology, HWLOC_OBJ_L2CACHE);
        out->l3_bytes = cache_bytes(topology, HWLOC_OBJ_L3CACHE);
    }
    hwloc_topology_destroy(topology);
}

/* PRETTY_NAME="…" of /etc/os-release. */
static void describe_system(machine_t *out)
{
    static const char key[] = "PRETTY_NAME=";
    struct utsname name;
    if (uname(&name) == 0) {
        copy_text(out->os, sizeof(out->os), name.sysname);
        copy_text(out->kernel, sizeof(out->kernel), name.release);
        copy_text(out->isa, sizeof(out->isa), name.machine);
    }
    FILE *file = fopen("/etc/os-release", "re");
    char line[256];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        const char *value = line + strlen(key);
        value += value[0] == '"';
        copy_text(out->os, sizeof(out->os), value);
        out->os[strcspn(out->os, "\"\n")] = '\0';
    }
    if (file != NULL)
        (void)fclose(file);
}

#if defined(__x86_64__)
static void describe_isa(machine_t *out)
{
    size_t length = strlen(out->isa);
    (void)snprintf(out->isa + length, sizeof(out->isa) - length, "%s%s%s%s",
                   __builtin_cpu_supports("avx2") ? " avx2" : "",
                   __builtin_cpu_supports("fma") ? " fma" : "",
                   __builtin_cpu_supports("avx512f") ? " avx512f" : "",
                   __builtin_cpu_supports("avx512bw") ? " avx512bw" : "");
}
#else
static void describe_isa(machine_t *out)
{
    (void)out; /* the architecture's name says it all */
}
#endif

void machine_describe(machine_t *out)
{
    *out = (machine_t){0};
    describe_topology(out);
    describe_system(out);
    describe_isa(out);
    if (out->cpu[0] == '\0')
        copy_text(out->cpu, sizeof(out->cpu), "unknown");
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0)
        out->memory_bytes = (uint64_t)pages * (uint64_t)page_bytes;
}

json_t *machine_json(void)
{
    machine_t machine;
    machine_describe(&machine);
    return json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:I,s:I,s:I,s:I,s:s,s:s}", "cpu", machine.cpu, "isa",
                     machine.isa, "cores", machine.core_count, "threads", machine.thread_count,
                     "packages", machine.package_count, "numa_nodes", machine.numa_count,
                     "l1_bytes", (json_int_t)machine.l1_bytes, "l2_bytes",
                     (json_int_t)machine.l2_bytes, "l3_bytes", (json_int_t)machine.l3_bytes,
                     "memory_bytes", (json_int_t)machine.memory_bytes, "os", machine.os, "kernel",
                     machine.kernel);
}
