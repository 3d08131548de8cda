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
    void (*copy)(void *ctx, void *to, const void *from, size_t bytes); /* either way */
    void (*fill)(void *ctx, void *to, unsigned char byte, size_t bytes);
    void (*synchronise)(void *ctx);
} device_ops_t;

extern const device_ops_t device_cuda;

#endif
