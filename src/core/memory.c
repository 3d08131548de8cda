/* SPDX-License-Identifier: Apache-2.0 */
/* Accounted allocations, and how much memory the machine still has. */
#include "core/memory.h"

#include "core/cgroup.h"
#include "core/error.h"
#include "moxie/quote.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

moxie_status_t memory_allocate(memory_account_t *account, uint64_t bytes, const char *what,
                               void **out)
{
    const uint64_t charge = memory_charge(bytes);
    void *memory = charge < bytes ? NULL : aligned_alloc(MEMORY_LINE_BYTES, (size_t)charge);
    if (memory == NULL && charge != 0) {
        error_set(MOXIE_ERR_MEMORY, "no memory for %s of %" PRIu64 " bytes", what, bytes);
        error_detail()->expected = (int64_t)bytes;
        return MOXIE_ERR_MEMORY;
    }
    if (memory != NULL) {
        memset(memory, 0, (size_t)charge);
    }
    account->host_bytes += charge;
    *out = memory;
    return MOXIE_OK;
}

void memory_release(memory_account_t *account, void *memory, uint64_t bytes)
{
    if (memory != NULL) {
        account->host_bytes -= memory_charge(bytes);
        free(memory);
    }
}

static uint64_t read_meminfo_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) {
        return 0;
    }
    char line[128];
    uint64_t kib = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1) {
            break;
        }
    }
    fclose(file);
    return kib * 1024;
}

/* What may still be taken, and the limit that leaves no more; its path is "" when the machine has
 * less. */
static uint64_t find_available(cgroup_limit_t *limit)
{
    const uint64_t available = read_meminfo_available();
    if (cgroup_find_limit("/proc/self", limit) &&
        (available == 0 || limit->left_bytes < available)) {
        return limit->left_bytes > 0 ? limit->left_bytes : 1; /* 0 would say: not known */
    }
    limit->bytes = 0;
    limit->path[0] = '\0';
    return available;
}

uint64_t moxie_memory_available(void)
{
    cgroup_limit_t limit;
    return find_available(&limit);
}

uint64_t moxie_memory_limit(char *path, size_t path_bytes)
{
    cgroup_limit_t limit;
    (void)find_available(&limit);
    (void)snprintf(path, path_bytes, "%s", limit.path);
    return limit.bytes;
}

moxie_status_t memory_check_available(uint64_t need_bytes, const char *what)
{
    cgroup_limit_t limit;
    const uint64_t available = find_available(&limit);
    if (available == 0 || need_bytes <= available) {
        return MOXIE_OK;
    }
    if (limit.path[0] == '\0') {
        error_set(MOXIE_ERR_MEMORY,
                  "%s would take %" PRIu64 " bytes and this machine has %" PRIu64 " bytes free",
                  what, need_bytes, available);
    } else {
        error_set(MOXIE_ERR_MEMORY,
                  "%s would take %" PRIu64 " bytes and %" PRIu64
                  " bytes are left of the limit in %s",
                  what, need_bytes, available, limit.path);
    }
    error_detail()->expected = (int64_t)need_bytes;
    error_detail()->observed = (int64_t)available;
    return MOXIE_ERR_MEMORY;
}
