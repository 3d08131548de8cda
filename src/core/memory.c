/* SPDX-License-Identifier: Apache-2.0 */
/* Accounted allocations, and how much memory the machine still has. */
#include "core/memory.h"

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

/* Reads one number from a file such as memory.max; 0 when there is none ("max" included). */
static uint64_t read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    uint64_t number = 0;
    const int found = fscanf(file, "%" SCNu64, &number);
    fclose(file);
    return found == 1 ? number : 0;
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

uint64_t moxie_memory_available(void)
{
    uint64_t available = read_meminfo_available();
    const uint64_t limit = read_number("/sys/fs/cgroup/memory.max");
    if (limit != 0) {
        const uint64_t current = read_number("/sys/fs/cgroup/memory.current");
        const uint64_t left = limit > current ? limit - current : 0;
        available = left < available ? left : available;
    }
    return available;
}

moxie_status_t memory_check_available(uint64_t need_bytes, const char *what)
{
    const uint64_t available = moxie_memory_available();
    if (available == 0 || need_bytes <= available) {
        return MOXIE_OK;
    }
    error_set(MOXIE_ERR_MEMORY,
              "%s would take %" PRIu64 " bytes and this machine has %" PRIu64 " bytes free", what,
              need_bytes, available);
    error_detail()->expected = (int64_t)need_bytes;
    error_detail()->observed = (int64_t)available;
    return MOXIE_ERR_MEMORY;
}
