/* SPDX-License-Identifier: Apache-2.0 */
/* The public headers as they were in 0.1, in one piece and without comments. A program compiled
 * with them must work with every later libmoxie.so.0: this file never changes. */
#ifndef ABI_MOXIE_0_1_H
#define ABI_MOXIE_0_1_H

#include <stddef.h>
#include <stdint.h>

#define MOXIE_API

#define MOXIE_STATUS_TABLE(X)                                                                      \
    X(OK, 0, "success")                                                                            \
    X(ERR_ARGUMENT, 1, "an argument is not allowed")                                               \
    X(ERR_ROUTING, 2, "the routing names an expert wrongly")                                       \
    X(ERR_MISMATCH, 3, "ranks disagree about a call or its shapes")                                \
    X(ERR_CAPACITY, 4, "a row capacity is too small for this routing")                             \
    X(ERR_WINDOW, 5, "a buffer does not lie in a window of the group")                             \
    X(ERR_MEMORY, 6, "not enough memory")                                                          \
    X(ERR_TIMEOUT, 7, "a deadline passed")                                                         \
    X(ERR_PEER_LOST, 8, "a peer's process ended")                                                  \
    X(ERR_REVOKED, 9, "the group failed earlier and can only be destroyed")                        \
    X(ERR_UNSUPPORTED, 10, "the backend does not do this")                                         \
    X(ERR_UNAVAILABLE, 11, "the backend does not work on this machine")                            \
    X(ERR_SYSTEM, 12, "the operating system refused a call")                                       \
    X(ERR_PROTOCOL, 13, "a message from a peer makes no sense")                                    \
    X(ERR_INTERNAL, 14, "a bug in Moxie")
typedef enum moxie_status {
#define MOXIE_STATUS_ENUMERATOR(name, number, text) MOXIE_##name = number,
    MOXIE_STATUS_TABLE(MOXIE_STATUS_ENUMERATOR)
#undef MOXIE_STATUS_ENUMERATOR
} moxie_status_t;
MOXIE_API const char *moxie_status_name(moxie_status_t status);
MOXIE_API const char *moxie_status_text(moxie_status_t status);
#define MOXIE_ERROR_MESSAGE_BYTES 256
typedef struct moxie_error {
    size_t size;
    moxie_status_t status;
    int32_t rank;
    int32_t peer;
    int32_t slot;
    int64_t token;
    int64_t expected;
    int64_t observed;
    int32_t system_errno;
    int32_t reserved;
    char op[24];
    char phase[24];
    char message[MOXIE_ERROR_MESSAGE_BYTES];
} moxie_error_t;
#define MOXIE_ERROR_INIT                                                                           \
    {                                                                                              \
        .size = sizeof(moxie_error_t)                                                              \
    }
MOXIE_API moxie_status_t moxie_last_error(moxie_error_t *out);

typedef enum moxie_dtype {
    MOXIE_DTYPE_BF16 = 1,
    MOXIE_DTYPE_FP32 = 2,
    MOXIE_DTYPE_FP8_E4M3 = 3,
} moxie_dtype_t;
typedef enum moxie_index_type {
    MOXIE_INDEX_INT32 = 1,
    MOXIE_INDEX_INT64 = 2,
} moxie_index_type_t;
MOXIE_API size_t moxie_dtype_bytes(moxie_dtype_t dtype);
MOXIE_API const char *moxie_dtype_name(moxie_dtype_t dtype);
MOXIE_API float moxie_bf16_to_float(uint16_t bits);
MOXIE_API uint16_t moxie_bf16_from_float(float value);

typedef struct moxie_group moxie_group_t;
#define MOXIE_RANK_COUNT_MAX 512
typedef int (*moxie_allgather_fn)(void *ctx, const void *in, void *out, size_t bytes);
typedef struct moxie_knob_setting {
    const char *name;
    int64_t value;
} moxie_knob_setting_t;
typedef struct moxie_group_options {
    size_t size;
    int32_t rank;
    int32_t rank_count;
    const char *backend;
    const char *rendezvous;
    moxie_allgather_fn allgather;
    void *allgather_ctx;
    const int32_t *node_of_rank;
    int64_t timeout_us;
    int64_t first_timeout_us;
    const moxie_knob_setting_t *knobs;
    size_t knob_count;
} moxie_group_options_t;
#define MOXIE_GROUP_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(moxie_group_options_t), .timeout_us = 30000000,                             \
        .first_timeout_us = 300000000                                                              \
    }
MOXIE_API moxie_status_t moxie_group_create(const moxie_group_options_t *options,
                                            moxie_group_t **out);
MOXIE_API void moxie_group_destroy(moxie_group_t *group);
MOXIE_API int32_t moxie_group_rank(const moxie_group_t *group);
MOXIE_API int32_t moxie_group_rank_count(const moxie_group_t *group);
MOXIE_API const char *moxie_group_backend(const moxie_group_t *group);
MOXIE_API moxie_status_t moxie_group_barrier(moxie_group_t *group);
MOXIE_API moxie_status_t moxie_group_allgather(moxie_group_t *group, const void *in, size_t bytes,
                                               void *out);
typedef struct {
    size_t size;
    uint64_t op_count;
    uint64_t wait_ns;
    uint64_t streamed_bytes;
    uint64_t copied_bytes;
    uint64_t sleep_count;
} moxie_group_counters_t;
#define MOXIE_GROUP_COUNTERS_INIT                                                                  \
    {                                                                                              \
        .size = sizeof(moxie_group_counters_t)                                                     \
    }
MOXIE_API moxie_status_t moxie_group_counters(const moxie_group_t *group,
                                              moxie_group_counters_t *out);
typedef struct moxie_peer_counters {
    size_t size;
    uint64_t late_count;
    uint64_t late_ns;
    uint64_t slow_count;
    uint64_t slow_ns;
    uint64_t work_ns;
} moxie_peer_counters_t;
#define MOXIE_PEER_COUNTERS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(moxie_peer_counters_t)                                                      \
    }
MOXIE_API moxie_status_t moxie_group_peer_counters(const moxie_group_t *group, int32_t rank,
                                                   moxie_peer_counters_t *out);
MOXIE_API moxie_status_t moxie_group_dump(const moxie_group_t *group, int fd);
typedef struct moxie_knob_info {
    size_t size;
    const char *name;
    const char *help;
    const char *from;
    int64_t value;
    int64_t value_default;
    int64_t value_min;
    int64_t value_max;
} moxie_knob_info_t;
#define MOXIE_KNOB_INFO_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(moxie_knob_info_t)                                                          \
    }
MOXIE_API moxie_status_t moxie_group_knob(const moxie_group_t *group, size_t index,
                                          moxie_knob_info_t *out);

#define MOXIE_EXPERT_COUNT_MAX 4096
typedef struct moxie_placement moxie_placement_t;
MOXIE_API moxie_status_t moxie_placement_create_block(int32_t expert_count, int32_t rank_count,
                                                      moxie_placement_t **out);
MOXIE_API moxie_status_t moxie_placement_create_map(int32_t expert_count, int32_t rank_count,
                                                    const int32_t *rank_of_expert,
                                                    const int32_t *local_of_expert,
                                                    moxie_placement_t **out);
MOXIE_API void moxie_placement_destroy(moxie_placement_t *placement);
MOXIE_API int32_t moxie_placement_expert_count(const moxie_placement_t *placement);
MOXIE_API int32_t moxie_placement_rank_count(const moxie_placement_t *placement);
MOXIE_API int32_t moxie_placement_rank(const moxie_placement_t *placement, int32_t expert);
MOXIE_API int32_t moxie_placement_local(const moxie_placement_t *placement, int32_t expert);
MOXIE_API int32_t moxie_placement_local_count(const moxie_placement_t *placement, int32_t rank);
MOXIE_API int32_t moxie_placement_expert(const moxie_placement_t *placement, int32_t rank,
                                         int32_t local);

typedef struct moxie_route moxie_route_t;
typedef void *moxie_stream_t;
#define MOXIE_TOPK_MAX   64
#define MOXIE_HIDDEN_MAX 1048576
typedef enum moxie_layout {
    MOXIE_LAYOUT_RANK_MAJOR = 1,
    MOXIE_LAYOUT_EXPERT_MAJOR = 2,
} moxie_layout_t;
typedef struct moxie_route_options {
    size_t size;
    moxie_layout_t layout;
    int32_t expert_count;
    int32_t topk;
    int64_t hidden;
    int64_t token_count_max;
    int64_t alignment;
    int64_t row_capacity;
    const moxie_placement_t *placement;
    void *state;
    size_t state_bytes;
} moxie_route_options_t;
#define MOXIE_ROUTE_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(moxie_route_options_t), .layout = MOXIE_LAYOUT_RANK_MAJOR, .alignment = 1   \
    }
typedef struct moxie_routing {
    size_t size;
    int64_t token_count;
    const void *topk_idx;
    moxie_index_type_t index_type;
    const float *topk_weights;
} moxie_routing_t;
#define MOXIE_ROUTING_INIT                                                                         \
    {                                                                                              \
        .size = sizeof(moxie_routing_t), .index_type = MOXIE_INDEX_INT32                           \
    }
MOXIE_API moxie_status_t moxie_route_create(moxie_group_t *group,
                                            const moxie_route_options_t *options,
                                            moxie_route_t **out);
MOXIE_API moxie_status_t moxie_route_update(moxie_route_t *route, const moxie_routing_t *routing,
                                            moxie_stream_t stream);
MOXIE_API moxie_status_t moxie_route_status(const moxie_route_t *route);
typedef struct {
    size_t size;
    int64_t token_count;
    int64_t recv_row_count;
    int64_t logical_row_count;
    int64_t wire_row_count;
    int64_t local_expert_count;
} moxie_route_extent_t;
#define MOXIE_ROUTE_EXTENT_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_route_extent_t)                                                       \
    }
MOXIE_API moxie_status_t moxie_route_extent(const moxie_route_t *route, moxie_route_extent_t *out);
MOXIE_API moxie_status_t moxie_layout_check(const moxie_route_t *route);
MOXIE_API void moxie_route_destroy(moxie_route_t *route);

typedef struct moxie_row_source {
    int32_t rank;
    int32_t token;
    int32_t slot;
} moxie_row_source_t;
typedef struct moxie_dispatch_in {
    size_t size;
    const void *x;
    moxie_dtype_t dtype;
} moxie_dispatch_in_t;
#define MOXIE_DISPATCH_IN_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_in_t), .dtype = MOXIE_DTYPE_BF16                             \
    }
typedef struct moxie_dispatch_out {
    size_t size;
    int64_t row_capacity;
    void *recv_x;
    int32_t *recv_topk_idx;
    float *recv_topk_weights;
    float *row_weight;
    moxie_row_source_t *row_source;
    int64_t *expert_count;
    int64_t *expert_start;
} moxie_dispatch_out_t;
#define MOXIE_DISPATCH_OUT_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_out_t)                                                       \
    }
MOXIE_API moxie_status_t moxie_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                        const moxie_dispatch_out_t *out, moxie_stream_t stream);
typedef struct moxie_combine_in {
    size_t size;
    const void *y;
    moxie_dtype_t dtype;
    moxie_dtype_t wire_dtype;
    int32_t unweighted;
    int32_t reserved;
} moxie_combine_in_t;
#define MOXIE_COMBINE_IN_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(moxie_combine_in_t), .dtype = MOXIE_DTYPE_BF16,                             \
        .wire_dtype = MOXIE_DTYPE_BF16                                                             \
    }
typedef struct moxie_combine_out {
    size_t size;
    void *out;
    moxie_dtype_t dtype;
} moxie_combine_out_t;
#define MOXIE_COMBINE_OUT_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(moxie_combine_out_t), .dtype = MOXIE_DTYPE_BF16                             \
    }
MOXIE_API moxie_status_t moxie_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                                       const moxie_combine_out_t *out, moxie_stream_t stream);
typedef struct moxie_dispatch_backward_in {
    size_t size;
    const void *d_recv_x;
    moxie_dtype_t dtype;
    moxie_dtype_t wire_dtype;
    const float *d_recv_weights;
} moxie_dispatch_backward_in_t;
#define MOXIE_DISPATCH_BACKWARD_IN_INIT                                                            \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_backward_in_t), .dtype = MOXIE_DTYPE_BF16,                   \
        .wire_dtype = MOXIE_DTYPE_BF16                                                             \
    }
typedef struct moxie_dispatch_backward_out {
    size_t size;
    void *d_x;
    moxie_dtype_t dtype;
    float *d_topk_weights;
} moxie_dispatch_backward_out_t;
#define MOXIE_DISPATCH_BACKWARD_OUT_INIT                                                           \
    {                                                                                              \
        .size = sizeof(moxie_dispatch_backward_out_t), .dtype = MOXIE_DTYPE_BF16                   \
    }
MOXIE_API moxie_status_t moxie_dispatch_backward(moxie_route_t *route,
                                                 const moxie_dispatch_backward_in_t *in,
                                                 const moxie_dispatch_backward_out_t *out,
                                                 moxie_stream_t stream);
typedef struct moxie_combine_backward_in {
    size_t size;
    const void *d_out;
    moxie_dtype_t dtype;
    int32_t unweighted;
    const void *y;
} moxie_combine_backward_in_t;
#define MOXIE_COMBINE_BACKWARD_IN_INIT                                                             \
    {                                                                                              \
        .size = sizeof(moxie_combine_backward_in_t), .dtype = MOXIE_DTYPE_BF16                     \
    }
typedef struct moxie_combine_backward_out {
    size_t size;
    int64_t row_capacity;
    void *d_y;
    float *d_topk_weights;
} moxie_combine_backward_out_t;
#define MOXIE_COMBINE_BACKWARD_OUT_INIT                                                            \
    {                                                                                              \
        .size = sizeof(moxie_combine_backward_out_t)                                               \
    }
MOXIE_API moxie_status_t moxie_combine_backward(moxie_route_t *route,
                                                const moxie_combine_backward_in_t *in,
                                                const moxie_combine_backward_out_t *out,
                                                moxie_stream_t stream);
typedef struct moxie_ceiling_in {
    size_t size;
    const void *source;
    int64_t source_row_count;
    const int64_t *rows_to_peer;
    int64_t row_bytes;
    void *destination;
    int64_t destination_row_count;
    int32_t streaming;
    int32_t reserved;
} moxie_ceiling_in_t;
#define MOXIE_CEILING_IN_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(moxie_ceiling_in_t)                                                         \
    }
MOXIE_API moxie_status_t moxie_ceiling_measure(moxie_group_t *group, const moxie_ceiling_in_t *in,
                                               uint64_t *time_ns);

typedef struct moxie_window moxie_window_t;
MOXIE_API moxie_status_t moxie_window_allocate(moxie_group_t *group, size_t bytes,
                                               moxie_window_t **out);
typedef struct moxie_memory {
    size_t size;
    void *base;
    size_t bytes;
    int fd;
    uint64_t fd_offset;
} moxie_memory_t;
#define MOXIE_MEMORY_INIT                                                                          \
    {                                                                                              \
        .size = sizeof(moxie_memory_t), .fd = -1                                                   \
    }
MOXIE_API moxie_status_t moxie_window_register(moxie_group_t *group, const moxie_memory_t *memory,
                                               moxie_window_t **out);
MOXIE_API void moxie_window_free(moxie_window_t *window);
MOXIE_API void *moxie_window_base(const moxie_window_t *window);
MOXIE_API size_t moxie_window_bytes(const moxie_window_t *window);

typedef struct moxie_memory_bytes {
    size_t size;
    uint64_t host_bytes;
    uint64_t window_bytes;
    uint64_t device_bytes;
} moxie_memory_bytes_t;
#define MOXIE_MEMORY_BYTES_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_memory_bytes_t)                                                       \
    }
MOXIE_API moxie_status_t moxie_group_memory_quote(const moxie_group_options_t *options,
                                                  moxie_memory_bytes_t *out);
MOXIE_API moxie_status_t moxie_window_memory_quote(const moxie_group_options_t *options,
                                                   size_t bytes, moxie_memory_bytes_t *out);
typedef struct moxie_route_quote {
    size_t size;
    moxie_memory_bytes_t memory;
    uint64_t state_bytes;
    int64_t row_capacity;
} moxie_route_quote_t;
#define MOXIE_ROUTE_QUOTE_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(moxie_route_quote_t)                                                        \
    }
MOXIE_API moxie_status_t moxie_route_memory_quote(const moxie_group_options_t *group,
                                                  const moxie_route_options_t *route,
                                                  moxie_route_quote_t *out);
MOXIE_API moxie_status_t moxie_group_memory_used(const moxie_group_t *group,
                                                 moxie_memory_bytes_t *out);
MOXIE_API uint64_t moxie_memory_available(void);

enum {
    MOXIE_CAP_STANDARD = 1 << 0,
    MOXIE_CAP_BACKWARD = 1 << 1,
    MOXIE_CAP_RANK_MAJOR = 1 << 2,
    MOXIE_CAP_EXPERT_MAJOR = 1 << 3,
    MOXIE_CAP_LOW_LATENCY = 1 << 4,
    MOXIE_CAP_FP8 = 1 << 5,
    MOXIE_CAP_STREAM = 1 << 6,
    MOXIE_CAP_REGISTER_MEMORY = 1 << 7,
};
typedef struct moxie_backend_info {
    size_t size;
    uint32_t capabilities;
    int32_t available;
    char name[16];
    char reason[160];
    char detail[160];
} moxie_backend_info_t;
#define MOXIE_BACKEND_INFO_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_backend_info_t)                                                       \
    }
MOXIE_API int32_t moxie_backend_count(void);
MOXIE_API moxie_status_t moxie_backend_probe(int32_t index, moxie_backend_info_t *out);

typedef const void *(*moxie_row_fn)(void *ctx, int32_t rank, int64_t row);
typedef struct moxie_row_reader {
    moxie_row_fn row;
    void *ctx;
    moxie_dtype_t dtype;
} moxie_row_reader_t;
typedef struct moxie_world {
    size_t size;
    const moxie_placement_t *placement;
    const moxie_routing_t *routing;
    int64_t hidden;
    int64_t alignment;
    moxie_layout_t layout;
    int32_t topk;
} moxie_world_t;
#define MOXIE_WORLD_INIT                                                                           \
    {                                                                                              \
        .size = sizeof(moxie_world_t), .alignment = 1, .layout = MOXIE_LAYOUT_RANK_MAJOR           \
    }
MOXIE_API moxie_status_t moxie_reference_check(const moxie_world_t *world);
MOXIE_API moxie_status_t moxie_reference_recv_rows(const moxie_world_t *world, int32_t rank,
                                                   int64_t *row_count);
MOXIE_API moxie_status_t moxie_reference_dispatch(const moxie_world_t *world, int32_t rank,
                                                  const moxie_row_reader_t *x,
                                                  const moxie_dispatch_out_t *out);
MOXIE_API moxie_status_t moxie_reference_combine(const moxie_world_t *world, int32_t rank,
                                                 const moxie_row_reader_t *y,
                                                 const moxie_combine_in_t *in,
                                                 const moxie_combine_out_t *out);
MOXIE_API moxie_status_t moxie_reference_dispatch_backward(
    const moxie_world_t *world, int32_t rank, const moxie_row_reader_t *d_recv_x,
    const moxie_row_reader_t *d_recv_weights, const moxie_dispatch_backward_in_t *in,
    const moxie_dispatch_backward_out_t *out);
MOXIE_API moxie_status_t moxie_reference_combine_backward(const moxie_world_t *world, int32_t rank,
                                                          const moxie_row_reader_t *d_out,
                                                          const moxie_row_reader_t *y,
                                                          const moxie_combine_backward_in_t *in,
                                                          const moxie_combine_backward_out_t *out);

#endif
