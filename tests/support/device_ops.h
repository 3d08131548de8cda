/* SPDX-License-Identifier: Apache-2.0 */
/* What device.c needs of a kind of device. */
#ifndef SUPPORT_DEVICE_OPS_H
#define SUPPORT_DEVICE_OPS_H

#include "support/device.h"

typedef struct device_ops {
    int32_t (*count)(void);
    void *(*open)(int32_t ordinal, moxie_stream_t *stream);
    void (*close)(void *ctx);
    void *(*create)(size_t bytes); /* memory of its own */
    void (*destroy)(void *memory);
    void *(*pin)(size_t bytes); /* page-locked memory of the host */
    void (*unpin)(void *memory);
    void (*copy)(void *ctx, void *to, const void *from, size_t bytes); /* either way, later */
    void (*fill)(void *ctx, void *to, unsigned char byte, size_t bytes);
    void (*synchronise)(void *ctx);
    device_mark_t (*mark_create)(void);
    void (*mark)(void *ctx, device_mark_t mark);
    void (*wait)(device_mark_t mark);
    void (*mark_destroy)(device_mark_t mark);
} device_ops_t;

extern const device_ops_t device_cuda;

#endif
