/* SPDX-License-Identifier: Apache-2.0 */
/* Windows: the public calls. */
#include "transport/window.h"

#include "core/error.h"
#include "core/options.h"
#include "exchange/group.h"

moxie_status_t moxie_window_allocate(moxie_group_t *group, size_t bytes, moxie_window_t **out)
{
    if (group == NULL || out == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "window_allocate: an argument is NULL");
    }
    moxie_window_t *window = NULL;
    const moxie_status_t status = group->backend->window_allocate(group, bytes, &window);
    if (status == MOXIE_OK) {
        window->group = group;
        *out = window;
    }
    return status;
}

moxie_status_t moxie_window_register(moxie_group_t *group, const moxie_memory_t *callers,
                                     moxie_window_t **out)
{
    if (group == NULL || out == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "window_register: an argument is NULL");
    }
    moxie_memory_t memory = MOXIE_MEMORY_INIT;
    moxie_status_t status = options_read(&memory, callers, sizeof(memory), "moxie_memory_t");
    if (status != MOXIE_OK) {
        return status;
    }
    moxie_window_t *window = NULL;
    status = group->backend->window_register(group, &memory, &window);
    if (status == MOXIE_OK) {
        window->group = group;
        *out = window;
    }
    return status;
}

void moxie_window_free(moxie_window_t *window)
{
    if (window != NULL) {
        window->group->backend->window_free(window);
    }
}

void *moxie_window_base(const moxie_window_t *window)
{
    return window->base;
}

size_t moxie_window_bytes(const moxie_window_t *window)
{
    return window->bytes;
}
