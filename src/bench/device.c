/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU as a device: what the host writes is where it belongs at once. */
#include "bench/device.h"

#ifdef MOXIE_CUDA
#include "bench/device_cuda.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parts begin on pages of their own, as an allocator would place large tensors. */
enum { PAGE_BYTES = 4096 };

static void *allocate(device_t *device, size_t bytes)
{
    void *memory = aligned_alloc(PAGE_BYTES, bytes);
    if (memory == NULL) {
        (void)snprintf(device->error, sizeof(device->error), "not enough memory for its inputs");
    }
    return memory;
}

static void release(device_t *device, void *memory)
{
    (void)device;
    free(memory);
}

static void *write_begin(device_t *device, void *to)
{
    (void)device;
    return to;
}

static void write_end(device_t *device, void *to, size_t bytes)
{
    (void)device;
    (void)to;
    (void)bytes;
}

static const void *read_rows(device_t *device, const void *from, size_t pitch, size_t width,
                             int64_t row_count, size_t *host_pitch)
{
    (void)device;
    (void)width;
    (void)row_count;
    *host_pitch = pitch;
    return from;
}

static void fill(device_t *device, void *to, int byte, size_t bytes)
{
    (void)device;
    memset(to, byte, bytes);
}

static void nothing_to_do(device_t *device)
{
    (void)device;
}

static const device_ops_t cpu_ops = {
    .allocate = allocate,
    .release = release,
    .write_begin = write_begin,
    .write_end = write_end,
    .read_rows = read_rows,
    .fill = fill,
    .wait = nothing_to_do,
    .close = nothing_to_do,
};

void device_prepare(void)
{
    /* Several streams of one process must not wait in one queue, and no kernel may be loaded while
     * another one waits for it. */
    (void)setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    (void)setenv("CUDA_MODULE_LOADING", "EAGER", 0);
}

bool device_open(device_t *device, moxie_group_t *group, failure_t *failure)
{
    *device = (device_t){.ops = &cpu_ops,
                         .rank = moxie_group_rank(group),
                         .ordinal = moxie_group_device(group),
                         .piece_bytes = SIZE_MAX / 2};
    if (device->ordinal < 0) {
        return true;
    }
#ifdef MOXIE_CUDA
    device_cuda_open(device);
    return device_check(device, failure);
#else
    return failure_set(failure, EXIT_UNAVAILABLE, "rank %d: this program was built without CUDA",
                       device->rank);
#endif
}

void device_close(device_t *device)
{
    if (device->ops != NULL) {
        device->ops->close(device);
    }
    *device = (device_t){.ops = NULL};
}

bool device_has_stream(const device_t *device)
{
    return device->ordinal >= 0;
}

bool device_check(const device_t *device, failure_t *failure)
{
    return device->error[0] == '\0' ||
           failure_set(failure, device_has_stream(device) ? EXIT_FAILED : EXIT_USAGE, "rank %d: %s",
                       device->rank, device->error);
}

int64_t device_piece_rows(const device_t *device, size_t row_bytes, int64_t left)
{
    size_t fitting = device->piece_bytes / (row_bytes > 0 ? row_bytes : 1);
    return fitting < (size_t)left ? (int64_t)fitting : left;
}
