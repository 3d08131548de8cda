/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing public structs of older and newer callers. */
#include "core/options.h"

#include "core/error.h"

#include <string.h>

/* No struct is larger, nor will be: a `size` beyond it was never set. */
#define SIZE_MAX_PLAUSIBLE 4096

static size_t size_of(const void *callers)
{
    size_t size;
    memcpy(&size, callers, sizeof(size));
    return size;
}

moxie_status_t options_read(void *ours, const void *callers, size_t bytes, const char *name)
{
    if (callers == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "%s is NULL", name);
    }
    const size_t size = size_of(callers);
    if (size <= sizeof(size) || size > SIZE_MAX_PLAUSIBLE) {
        return error_set(MOXIE_ERR_ARGUMENT, "%s.size is %zu: set it with the INIT macro", name,
                         size);
    }
    const unsigned char *tail = (const unsigned char *)callers;
    for (size_t i = bytes; i < size; i++) {
        if (tail[i] != 0) {
            return error_set(MOXIE_ERR_ARGUMENT,
                             "%s has a field that this version of libmoxie does not know", name);
        }
    }
    memcpy(ours, callers, size < bytes ? size : bytes);
    memcpy(ours, &bytes, sizeof(bytes));
    return MOXIE_OK;
}

void options_write(void *callers, const void *ours, size_t bytes)
{
    const size_t size = size_of(callers);
    memcpy(callers, ours, size < bytes ? size : bytes);
    memcpy(callers, &size, sizeof(size));
}

moxie_status_t options_write_checked(void *callers, const void *ours, size_t bytes,
                                     const char *name)
{
    if (callers == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "%s is NULL", name);
    }
    if (size_of(callers) <= sizeof(size_t) || size_of(callers) > SIZE_MAX_PLAUSIBLE) {
        return error_set(MOXIE_ERR_ARGUMENT, "%s.size is %zu: set it with the INIT macro", name,
                         size_of(callers));
    }
    options_write(callers, ours, bytes);
    return MOXIE_OK;
}
