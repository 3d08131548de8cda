/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a rank's memory and time live. On the CPU that is plain memory and the monotonic clock; on
 * a GPU it is device memory, reached through one pinned piece of host memory, and a stream with
 * events. Failures of device calls are kept until device_check() asks: most of them arrive late
 * anyway.
 */
#ifndef MOXIE_BENCH_DEVICE_H
#define MOXIE_BENCH_DEVICE_H

#include "bench/failure.h"
#include "moxie/group.h"

#include <stddef.h>
#include <stdint.h>

typedef struct device device_t;

/* A device graph: calls that were captured once and are launched as one. */
typedef struct device_graph device_graph_t;

/* What each kind of device does its own way. */
typedef struct device_ops {
    /* Memory for inputs and outputs, aligned to a page; NULL on failure. */
    void *(*allocate)(device_t *device, size_t bytes);
    void (*release)(device_t *device, void *memory);

    /* Where the host writes what is to be at `to`, at most device->piece_bytes; then puts it there.
     */
    void *(*write_begin)(device_t *device, void *to);
    void (*write_end)(device_t *device, void *to, size_t bytes);

    /* Rows of `width` bytes, `pitch` bytes apart, as the host can read them until the next call:
     * `host_pitch` bytes apart. At most device->piece_bytes in all. Waits for the stream. NULL on
     * failure. */
    const void *(*read_rows)(device_t *device, const void *from, size_t pitch, size_t width,
                             int64_t row_count, size_t *host_pitch);

    /* Sets bytes, in stream order. */
    void (*fill)(device_t *device, void *to, int byte, size_t bytes);

    /* Waits until all that was launched has ended. */
    void (*wait)(device_t *device);
    void (*close)(device_t *device);

    /* The rest is of a device with a stream; NULL on the CPU. */

    /* Makes room for times that mark() takes in stream order. */
    void (*marks_open)(device_t *device, int32_t count);
    void (*mark)(device_t *device, int32_t index);
    uint64_t (*between_ns)(device_t *device, int32_t start, int32_t end);

    /* What is launched between begin and end becomes a graph; NULL on failure. */
    void (*capture_begin)(device_t *device);
    device_graph_t *(*capture_end)(device_t *device);
    void (*graph_launch)(device_t *device, device_graph_t *graph);
    void (*graph_release)(device_t *device, device_graph_t *graph);
} device_ops_t;

/* Room for what a device call said when it failed. */
enum { DEVICE_ERROR_BYTES = 200 };

struct device {
    const device_ops_t *ops;
    int32_t rank;
    int32_t ordinal;                /* of the GPU; -1: the CPU */
    moxie_stream_t stream;          /* NULL on the CPU */
    size_t piece_bytes;             /* what write_begin() and read_rows() take at once */
    void *state;                    /* the kind's own */
    char error[DEVICE_ERROR_BYTES]; /* of the first device call that failed; "": none */
};

/* Sets what CUDA reads from the environment, unless it is set: before anything touches a GPU. */
void device_prepare(void);

/* Opens the device that the group uses on this rank, for this thread. */
bool device_open(device_t *device, moxie_group_t *group, failure_t *failure);

/* Closes it. A zeroed one is allowed. */
void device_close(device_t *device);

/* Whether times are taken and calls made in stream order. */
bool device_has_stream(const device_t *device);

/* False when a device call failed since it was opened. */
bool device_check(const device_t *device, failure_t *failure);

/* Rows that fit into a piece, of those that are left. */
int64_t device_piece_rows(const device_t *device, size_t row_bytes, int64_t left);

#endif
