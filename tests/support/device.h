/* SPDX-License-Identifier: Apache-2.0 */
/* The memory and the stream that a rank hands to the library. On the CPU plain memory and no
 * stream; on a backend with a device the device's, which the test reads and writes by copies. What
 * goes wrong with the device itself ends the program with a message. */
#ifndef SUPPORT_DEVICE_H
#define SUPPORT_DEVICE_H

#include "moxie/exchange.h"

#include <stdbool.h>

typedef struct device device_t;

/* First thing in a program whose ranks may share a GPU as threads: a kernel that waits for another
 * rank's must neither share its queue nor keep it from being loaded. */
void device_prepare_process(void);

/* GPUs of this machine. Starts CUDA in this process, which must not fork afterwards. */
int32_t device_count(void);

/* The device that a group uses on this rank; on the calling thread until it is closed. Never NULL.
 */
device_t *device_open(const moxie_group_t *group);
void device_close(device_t *device);

/* False on the CPU, where what the library is given is the test's own memory. */
bool device_is_remote(const device_t *device);

moxie_stream_t device_stream(const device_t *device);

/* Memory of the device's own, or plain memory, whole pages. */
void *device_create(device_t *device, size_t bytes);
void device_destroy(device_t *device, void *memory);

/* Memory for a call, to be freed after it. None of these waits for other ranks: allocating or
 * freeing the device's own memory could, beside a kernel that waits for this rank. */
void *device_allocate(device_t *device, size_t bytes);
void device_free(device_t *device, void *memory);

/* In stream order; the copies have been made when they return. */
void device_upload(device_t *device, void *to, const void *from, size_t bytes);
void device_download(device_t *device, void *to, const void *from, size_t bytes);

/* In stream order: does not wait. */
void device_fill(device_t *device, void *to, unsigned char byte, size_t bytes);

/* Page-locked memory of the host, and copies into it that nobody waits for: they have been made
 * when a mark behind them has been waited for. */
void *device_pin(device_t *device, size_t bytes);
void device_unpin(device_t *device, void *memory);
void device_download_later(device_t *device, void *to, const void *from, size_t bytes);

/* A place in the stream's order, set anew by each device_mark(). */
typedef void *device_mark_t;
device_mark_t device_mark_create(device_t *device);
void device_mark(device_t *device, device_mark_t mark);
void device_wait(device_t *device, device_mark_t mark);
void device_mark_destroy(device_t *device, device_mark_t mark);

void device_synchronise(device_t *device);

/* The status of a call on `route` that returned `status`: what it returned, or else what is known
 * when the stream has passed it. */
moxie_status_t device_settle(device_t *device, const moxie_route_t *route, moxie_status_t status);

/* A copy of a routing in memory for the library. */
typedef struct device_routing {
    moxie_routing_t given;
    size_t id_bytes;
    size_t weight_bytes;
} device_routing_t;

device_routing_t device_routing(device_t *device, const moxie_routing_t *routing, int32_t topk);

/* The same in memory of the caller's, device_routing_bytes() at least. */
size_t device_routing_bytes(int64_t token_count_max, int32_t topk);
device_routing_t device_routing_into(device_t *device, const moxie_routing_t *routing, int32_t topk,
                                     void *memory);

/* Overwrites it in stream order: an update reads it and nothing later does. */
void device_routing_scramble(device_t *device, const device_routing_t *routing);
void device_routing_free(device_t *device, const device_routing_t *routing);

/* Updates a route with a copy of `routing` that is overwritten right after; the settled status. */
moxie_status_t device_update(device_t *device, moxie_route_t *route, const moxie_routing_t *routing,
                             int32_t topk);

#endif
