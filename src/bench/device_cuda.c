/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU as a device: its primary context, one stream above the default priority, one pinned piece
 * of host memory that everything passes. Copies go through the stream and never block the context,
 * whose other threads may be ranks that wait for this one. */
#include "bench/device_cuda.h"

#include "driver/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Large enough that copies reach the link's rate. */
enum { PIECE_BYTES = 16 << 20 };

typedef struct state {
    CUcontext context;
    CUdevice device;
    CUstream stream;
    void *piece;
    CUevent *marks;
    int32_t mark_count;
} state_t;

struct device_graph {
    CUgraphExec executable;
};

/* Keeps the first failure. */
static bool keep(device_t *device, const char *doing, CUresult result)
{
    char text[DEVICE_ERROR_BYTES / 2];
    if (result == CUDA_SUCCESS) {
        return true;
    }
    if (device->error[0] == '\0') {
        (void)snprintf(device->error, sizeof(device->error), "GPU %d, %s: %s", device->ordinal,
                       doing, cuda_text(result, text, sizeof(text)));
    }
    return false;
}

static CUdeviceptr address(const void *memory)
{
    return (CUdeviceptr)(uintptr_t)memory;
}

static void *allocate(device_t *device, size_t bytes)
{
    CUdeviceptr memory = 0;
    if (!keep(device, "allocation", cuda()->cuMemAlloc(&memory, bytes))) {
        return NULL;
    }
    return (void *)(uintptr_t)memory;
}

static void wait_for_stream(device_t *device)
{
    state_t *state = device->state;
    (void)keep(device, "waiting", cuda()->cuStreamSynchronize(state->stream));
}

static void release(device_t *device, void *memory)
{
    if (memory != NULL) {
        wait_for_stream(device);
        (void)keep(device, "freeing", cuda()->cuMemFree(address(memory)));
    }
}

static void *write_begin(device_t *device, void *to)
{
    const state_t *state = device->state;
    (void)to;
    return state->piece;
}

static void write_end(device_t *device, void *to, size_t bytes)
{
    const state_t *state = device->state;
    (void)keep(device, "upload",
               cuda()->cuMemcpyAsync(address(to), address(state->piece), bytes, state->stream));
    wait_for_stream(device);
}

static const void *read_rows(device_t *device, const void *from, size_t pitch, size_t width,
                             int64_t row_count, size_t *host_pitch)
{
    const state_t *state = device->state;
    CUDA_MEMCPY2D copy = {
        .srcMemoryType = CU_MEMORYTYPE_DEVICE,
        .srcDevice = address(from),
        .srcPitch = pitch,
        .dstMemoryType = CU_MEMORYTYPE_HOST,
        .dstHost = state->piece,
        .dstPitch = width,
        .WidthInBytes = width,
        .Height = (size_t)row_count,
    };
    *host_pitch = width;
    if (width == pitch || row_count == 1) { /* one piece: without the limits of 2D pitches */
        (void)keep(device, "download",
                   cuda()->cuMemcpyAsync(address(state->piece), address(from),
                                         width * (size_t)row_count, state->stream));
    } else {
        (void)keep(device, "download", cuda()->cuMemcpy2DAsync(&copy, state->stream));
    }
    wait_for_stream(device);
    return device->error[0] == '\0' ? state->piece : NULL;
}

static void fill(device_t *device, void *to, int byte, size_t bytes)
{
    const state_t *state = device->state;
    if (bytes > 0) {
        (void)keep(device, "setting memory",
                   cuda()->cuMemsetD8Async(address(to), (unsigned char)byte, bytes, state->stream));
    }
}

static void marks_open(device_t *device, int32_t count)
{
    state_t *state = device->state;
    state->marks = calloc((size_t)count, sizeof(CUevent));
    if (state->marks == NULL) {
        (void)snprintf(device->error, sizeof(device->error), "not enough memory for events");
        return;
    }
    while (state->mark_count < count &&
           keep(device, "making an event",
                cuda()->cuEventCreate(&state->marks[state->mark_count], CU_EVENT_DEFAULT))) {
        state->mark_count++;
    }
}

static void mark(device_t *device, int32_t index)
{
    const state_t *state = device->state;
    (void)keep(device, "taking the time",
               cuda()->cuEventRecord(state->marks[index], state->stream));
}

static uint64_t between_ns(device_t *device, int32_t start, int32_t end)
{
    const state_t *state = device->state;
    float ms = 0.0f;
    (void)keep(device, "reading the time",
               cuda()->cuEventElapsedTime(&ms, state->marks[start], state->marks[end]));
    return (uint64_t)((double)ms * 1e6 + 0.5);
}

static void capture_begin(device_t *device)
{
    const state_t *state = device->state;
    (void)keep(device, "capture",
               cuda()->cuStreamBeginCapture(state->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
}

static device_graph_t *capture_end(device_t *device)
{
    const state_t *state = device->state;
    CUgraph captured = NULL;
    device_graph_t *graph = calloc(1, sizeof(*graph));
    bool is_done =
        keep(device, "capture", cuda()->cuStreamEndCapture(state->stream, &captured)) &&
        graph != NULL &&
        keep(device, "making a graph", cuda()->cuGraphInstantiate(&graph->executable, captured, 0));
    if (captured != NULL) {
        (void)cuda()->cuGraphDestroy(captured);
    }
    if (!is_done) {
        free(graph);
        return NULL;
    }
    return graph;
}

static void graph_launch(device_t *device, device_graph_t *graph)
{
    const state_t *state = device->state;
    (void)keep(device, "launching a graph",
               cuda()->cuGraphLaunch(graph->executable, state->stream));
}

static void graph_release(device_t *device, device_graph_t *graph)
{
    if (graph != NULL) {
        wait_for_stream(device);
        (void)cuda()->cuGraphExecDestroy(graph->executable);
        free(graph);
    }
}

static void close_device(device_t *device)
{
    state_t *state = device->state;
    if (state == NULL) {
        return;
    }
    if (state->stream != NULL) {
        (void)cuda()->cuStreamSynchronize(state->stream);
    }
    for (int32_t i = 0; i < state->mark_count; i++) {
        (void)cuda()->cuEventDestroy(state->marks[i]);
    }
    free(state->marks);
    if (state->piece != NULL) {
        (void)cuda()->cuMemFreeHost(state->piece);
    }
    if (state->stream != NULL) {
        (void)cuda()->cuStreamDestroy(state->stream);
    }
    if (state->context != NULL) { /* the process keeps it: to make one again takes a second */
        CUcontext popped;
        (void)cuda()->cuCtxPopCurrent(&popped);
    }
    free(state);
    device->state = NULL;
}

static const device_ops_t cuda_ops = {
    .allocate = allocate,
    .release = release,
    .write_begin = write_begin,
    .write_end = write_end,
    .read_rows = read_rows,
    .fill = fill,
    .wait = wait_for_stream,
    .close = close_device,
    .marks_open = marks_open,
    .mark = mark,
    .between_ns = between_ns,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_release = graph_release,
};

/* The context becomes the thread's; on failure it does not. */
static bool open_context(device_t *device, state_t *state)
{
    CUcontext context = NULL;
    if (!keep(device, "opening", cuda()->cuDeviceGet(&state->device, device->ordinal)) ||
        !keep(device, "its context", cuda()->cuDevicePrimaryCtxRetain(&context, state->device))) {
        return false;
    }
    if (!keep(device, "its context", cuda()->cuCtxPushCurrent(context))) {
        (void)cuda()->cuDevicePrimaryCtxRelease(state->device);
        return false;
    }
    state->context = context;
    return true;
}

void device_cuda_open(device_t *device)
{
    int lowest = 0;
    int highest = 0;
    state_t *state = calloc(1, sizeof(*state));
    device->ops = &cuda_ops;
    device->state = state;
    device->piece_bytes = PIECE_BYTES;
    if (state == NULL || cuda() == NULL) {
        (void)snprintf(device->error, sizeof(device->error), "GPU %d: %s", device->ordinal,
                       state == NULL ? "not enough memory" : cuda_missing());
        return;
    }
    if (open_context(device, state) &&
        keep(device, "its priorities", cuda()->cuCtxGetStreamPriorityRange(&lowest, &highest)) &&
        keep(device, "making a stream",
             cuda()->cuStreamCreateWithPriority(&state->stream, CU_STREAM_NON_BLOCKING, highest)) &&
        keep(device, "pinning memory", cuda()->cuMemHostAlloc(&state->piece, PIECE_BYTES, 0))) {
        device->stream = state->stream;
    }
}
