/* SPDX-License-Identifier: Apache-2.0 */
/* Finds NCCL's functions. */
#include "baseline/nccl/library.h"

#include <dlfcn.h>
#include <stdio.h>

const nccl_library_t *nccl_library(char *error, size_t error_bytes)
{
    static nccl_library_t library;
    void *handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        (void)snprintf(error, error_bytes, "libnccl.so.2 is not there (%s)", dlerror());
        return NULL;
    }
    const struct {
        const char *name;
        void *entry;
    } functions[] = {
        {"ncclGetVersion", &library.version},
        {"ncclGetUniqueId", &library.unique_id},
        {"ncclCommInitRank", &library.comm_init},
        {"ncclCommAbort", &library.comm_abort},
        {"ncclGroupStart", &library.group_start},
        {"ncclGroupEnd", &library.group_end},
        {"ncclSend", &library.send},
        {"ncclRecv", &library.recv},
        {"ncclGetErrorString", &library.error_string},
    };
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *function = dlsym(handle, functions[i].name);
        if (function == NULL) {
            (void)snprintf(error, error_bytes, "libnccl.so.2 has no %s", functions[i].name);
            return NULL;
        }
        *(void **)functions[i].entry = function;
    }
    return &library;
}
