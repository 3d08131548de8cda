/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the CPU, or of a device behind copies. */
#include "support/device.h"

#include "support/device_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096

/* What all buffers of a rank's call take at most. */
#define POOL_BYTES ((size_t)16 << 20)

/* Buffers in the pool share no sector of the device's memory. */
#define POOL_ALIGNMENT 256

struct device {
    const device_ops_t *ops; /* NULL on the CPU */
    void *ctx;
    moxie_stream_t stream;
    char *pool;
    size_t pool_used; /* all of it is free again when nothing of it is in use */
    size_t pool_live_count;
};

static const device_ops_t *device_ops(void)
{
#if defined(MOXIE_CUDA)
    return &device_cuda;
#else
    return NULL;
#endif
}

void device_prepare_process(void)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
}

int32_t device_count(void)
{
    return device_ops() == NULL ? 0 : device_ops()->count();
}

device_t *device_open(const moxie_group_t *group)
{
    device_t *device = calloc(1, sizeof(*device));
    const int32_t ordinal = moxie_group_device(group);
    if (device == NULL || (ordinal >= 0 && device_ops() == NULL)) {
        abort();
    }
    if (ordinal >= 0) {
        device->ops = device_ops();
        device->ctx = device->ops->open(ordinal, &device->stream);
        device->pool = device->ops->create(POOL_BYTES);
    }
    return device;
}

void device_close(device_t *device)
{
    if (device != NULL && device_is_remote(device)) {
        device->ops->synchronise(device->ctx);
        device->ops->destroy(device->pool);
        device->ops->close(device->ctx);
    }
    free(device);
}

moxie_stream_t device_stream(const device_t *device)
{
    return device->stream;
}

void *device_create(device_t *device, size_t bytes)
{
    if (device_is_remote(device)) {
        return device->ops->create(bytes);
    }
    void *memory = aligned_alloc(PAGE_BYTES, (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

void device_destroy(device_t *device, void *memory)
{
    if (device_is_remote(device)) {
        device->ops->destroy(memory);
    } else {
        free(memory);
    }
}

static void *pool_allocate(device_t *device, size_t bytes)
{
    char *memory = device->pool + device->pool_used;
    device->pool_used += (bytes + POOL_ALIGNMENT) / POOL_ALIGNMENT * POOL_ALIGNMENT;
    if (device->pool_used > POOL_BYTES) {
        fprintf(stderr, "a test needs more than %zu bytes of the device\n", POOL_BYTES);
        abort();
    }
    device->pool_live_count++;
    return memory;
}

static void pool_free(device_t *device)
{
    if (--device->pool_live_count == 0) {
        device->pool_used = 0;
    }
}

bool device_is_remote(const device_t *device)
{
    return device->ops != NULL;
}

void *device_allocate(device_t *device, size_t bytes)
{
    if (device_is_remote(device)) {
        return pool_allocate(device, bytes);
    }
    void *memory = malloc(bytes == 0 ? 1 : bytes);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

void device_free(device_t *device, void *memory)
{
    if (!device_is_remote(device)) {
        free(memory);
    } else if (memory != NULL) {
        pool_free(device);
    }
}

void device_upload(device_t *device, void *to, const void *from, size_t bytes)
{
    if (bytes == 0) {
        return;
    }
    if (device_is_remote(device)) {
        device->ops->copy(device->ctx, to, from, bytes);
        device->ops->synchronise(device->ctx);
    } else {
        memcpy(to, from, bytes);
    }
}

/* A copy to memory that is not pinned waits inside the driver, and other ranks of this process may
 * then not launch what this one waits for: so the wait comes first. */
void device_download(device_t *device, void *to, const void *from, size_t bytes)
{
    if (device_is_remote(device)) {
        device->ops->synchronise(device->ctx);
    }
    device_upload(device, to, from, bytes);
}

void device_fill(device_t *device, void *to, unsigned char byte, size_t bytes)
{
    if (bytes == 0) {
        return;
    }
    if (device_is_remote(device)) {
        device->ops->fill(device->ctx, to, byte, bytes);
    } else {
        memset(to, byte, bytes);
    }
}

void *device_pin(device_t *device, size_t bytes)
{
    void *memory = device_is_remote(device) ? device->ops->pin(bytes) : malloc(bytes);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

void device_unpin(device_t *device, void *memory)
{
    if (device_is_remote(device)) {
        device->ops->unpin(memory);
    } else {
        free(memory);
    }
}

void device_download_later(device_t *device, void *to, const void *from, size_t bytes)
{
    if (device_is_remote(device)) {
        device->ops->copy(device->ctx, to, from, bytes);
    } else {
        memcpy(to, from, bytes);
    }
}

device_mark_t device_mark_create(device_t *device)
{
    return device_is_remote(device) ? device->ops->mark_create() : NULL;
}

void device_mark(device_t *device, device_mark_t mark)
{
    if (device_is_remote(device)) {
        device->ops->mark(device->ctx, mark);
    }
}

void device_wait(device_t *device, device_mark_t mark)
{
    if (device_is_remote(device)) {
        device->ops->wait(mark);
    }
}

void device_mark_destroy(device_t *device, device_mark_t mark)
{
    if (device_is_remote(device)) {
        device->ops->mark_destroy(mark);
    }
}

void device_synchronise(device_t *device)
{
    if (device_is_remote(device)) {
        device->ops->synchronise(device->ctx);
    }
}

moxie_status_t device_settle(device_t *device, const moxie_route_t *route, moxie_status_t status)
{
    if (status != MOXIE_OK || !device_is_remote(device)) {
        return status;
    }
    device_synchronise(device);
    return moxie_route_status(route);
}

/* `weights` is not looked at when the routing has none. */
static device_routing_t copy_routing(device_t *device, const moxie_routing_t *routing, int32_t topk,
                                     void *ids, float *weights)
{
    const size_t slot_count = (size_t)(routing->token_count * topk);
    const size_t id_bytes = routing->index_type == MOXIE_INDEX_INT64 ? 8 : 4;
    device_routing_t copy = {.given = *routing, .id_bytes = slot_count * id_bytes};
    device_upload(device, ids, routing->topk_idx, copy.id_bytes);
    copy.given.topk_idx = ids;
    if (routing->topk_weights != NULL) {
        copy.weight_bytes = slot_count * sizeof(float);
        device_upload(device, weights, routing->topk_weights, copy.weight_bytes);
        copy.given.topk_weights = weights;
    }
    return copy;
}

device_routing_t device_routing(device_t *device, const moxie_routing_t *routing, int32_t topk)
{
    const size_t slot_count = (size_t)(routing->token_count * topk);
    const size_t id_bytes = routing->index_type == MOXIE_INDEX_INT64 ? 8 : 4;
    void *ids = device_allocate(device, slot_count * id_bytes);
    float *weights = routing->topk_weights == NULL
                         ? NULL
                         : device_allocate(device, slot_count * sizeof(*weights));
    return copy_routing(device, routing, topk, ids, weights);
}

size_t device_routing_bytes(int64_t token_count_max, int32_t topk)
{
    return (size_t)(token_count_max * topk) * (sizeof(int64_t) + sizeof(float));
}

device_routing_t device_routing_into(device_t *device, const moxie_routing_t *routing, int32_t topk,
                                     void *memory)
{
    const size_t slot_count = (size_t)(routing->token_count * topk);
    float *weights = (float *)(void *)((char *)memory + slot_count * sizeof(int64_t));
    return copy_routing(device, routing, topk, memory, weights);
}

static void *writable(const void *memory)
{
    return (void *)(uintptr_t)memory;
}

void device_routing_scramble(device_t *device, const device_routing_t *routing)
{
    device_fill(device, writable(routing->given.topk_idx), 0x5A, routing->id_bytes);
    if (routing->given.topk_weights != NULL) {
        device_fill(device, writable(routing->given.topk_weights), 0x5A, routing->weight_bytes);
    }
}

void device_routing_free(device_t *device, const device_routing_t *routing)
{
    device_free(device, writable(routing->given.topk_weights));
    device_free(device, writable(routing->given.topk_idx));
}

moxie_status_t device_update(device_t *device, moxie_route_t *route, const moxie_routing_t *routing,
                             int32_t topk)
{
    const device_routing_t copy = device_routing(device, routing, topk);
    moxie_status_t status = moxie_route_update(route, &copy.given, device_stream(device));
    device_routing_scramble(device, &copy);
    status = device_settle(device, route, status);
    device_synchronise(device);
    device_routing_free(device, &copy);
    return status;
}
