/* SPDX-License-Identifier: Apache-2.0 */
/* Windows in device memory, and the table by which kernels find them. */
#include "core/error.h"
#include "transport/cuda/transport.h"

#include <string.h>

void cuda_window_quote(int32_t rank_count, uint64_t bytes, memory_account_t *out)
{
    (void)rank_count;
    out->host_bytes += memory_charge(sizeof(cuda_window_t));
    out->device_bytes += memory_round_up(bytes, CUDA_PAGE_BYTES);
    out->window_bytes += memory_round_up(bytes, CUDA_PAGE_BYTES);
}

/* The struct of a window, in the next slot that is the same on all ranks. */
static moxie_status_t open_window(cuda_transport_t *transport, cuda_window_t **out)
{
    const uint32_t slot = (uint32_t)(transport->window_serial++ % CUDA_WINDOW_COUNT_MAX);
    void *memory;
    *out = NULL;
    if (transport->windows[slot] != NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "a group has at most %d windows at a time",
                         CUDA_WINDOW_COUNT_MAX);
    }
    const moxie_status_t status =
        memory_allocate(transport->host->account, sizeof(cuda_window_t), "a window", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_window_t *window = memory;
    window->transport = transport;
    window->slot = slot;
    transport->windows[slot] = window;
    *out = window;
    return MOXIE_OK;
}

/* Enters the parts of all ranks into the table on the device. */
static moxie_status_t publish(const cuda_window_t *window)
{
    cuda_transport_t *transport = window->transport;
    const int32_t rank_count = transport->host->rank_count;
    cuda_window_part_t parts[CUDA_RANK_COUNT_MAX];
    for (int32_t rank = 0; rank < rank_count; rank++) {
        parts[rank].base = window->memory.parts[rank].base;
        parts[rank].bytes = window->memory.parts[rank].bytes;
    }
    const size_t line_bytes = sizeof(parts[0]) * (size_t)rank_count;
    const char *base = transport->memory.parts[transport->host->rank].base;
    const char *line = base + cuda_transport_table_offset() + line_bytes * window->slot;
    moxie_status_t status = cuda_check(cuda()->cuMemcpyAsync((CUdeviceptr)(uintptr_t)line,
                                                             (CUdeviceptr)(uintptr_t)parts,
                                                             line_bytes, transport->stream),
                                       "the table of windows");
    if (status == MOXIE_OK) {
        status = cuda_check(cuda()->cuStreamSynchronize(transport->stream), "the table of windows");
    }
    return status;
}

static moxie_status_t finish(cuda_window_t *window, moxie_status_t status, moxie_window_t **out)
{
    if (status == MOXIE_OK) {
        const cuda_part_t *own = &window->memory.parts[window->memory.rank];
        window->window.base = own->base;
        window->window.bytes = own->bytes;
        window->transport->host->account->window_bytes += window->memory.charged_bytes;
        status = publish(window);
        *out = &window->window;
    }
    if (status != MOXIE_OK && window != NULL) {
        const moxie_error_t error = *error_detail();
        cuda_window_free(&window->window);
        return error_adopt(&error);
    }
    return status;
}

moxie_status_t cuda_window_allocate(cuda_transport_t *transport, uint64_t bytes,
                                    moxie_window_t **out)
{
    const cuda_sharing_call_t call = cuda_transport_call(transport, "window_allocate");
    cuda_window_t *window = NULL;
    cuda_sharing_t none;
    moxie_status_t status = open_window(transport, &window);
    status = cuda_sharing_allocate(&call, bytes, status, window != NULL ? &window->memory : &none);
    return finish(window, status, out);
}

moxie_status_t cuda_window_register(cuda_transport_t *transport, const moxie_memory_t *memory,
                                    moxie_window_t **out)
{
    const cuda_sharing_call_t call = cuda_transport_call(transport, "window_register");
    cuda_window_t *window = NULL;
    cuda_sharing_t none;
    moxie_status_t status = open_window(transport, &window);
    status = cuda_sharing_register(&call, memory, status, window != NULL ? &window->memory : &none);
    return finish(window, status, out);
}

void cuda_window_free(moxie_window_t *public_window)
{
    if (public_window == NULL) {
        return;
    }
    cuda_window_t *window = (cuda_window_t *)public_window;
    cuda_transport_t *transport = window->transport;
    memory_account_t *account = transport->host->account;
    const cuda_sharing_call_t call = cuda_transport_call(transport, "window_free");
    if (window->window.base != NULL) {
        account->window_bytes -= window->memory.charged_bytes;
    }
    if (cuda_device_enter(&transport->device) == MOXIE_OK) {
        cuda_sharing_close(&call, &window->memory);
        cuda_device_leave();
    }
    transport->windows[window->slot] = NULL;
    memory_release(account, window, sizeof(*window));
}

const cuda_window_t *cuda_window_find(const cuda_transport_t *transport, const void *address)
{
    for (uint32_t slot = 0; slot < CUDA_WINDOW_COUNT_MAX; slot++) {
        const cuda_window_t *window = transport->windows[slot];
        const uintptr_t at = (uintptr_t)address;
        if (window != NULL && window->window.base != NULL && at >= (uintptr_t)window->window.base &&
            at - (uintptr_t)window->window.base < window->window.bytes) {
            return window;
        }
    }
    return NULL;
}
