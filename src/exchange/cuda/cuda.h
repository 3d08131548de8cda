/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend: what its files share. */
#ifndef MOXIE_EXCHANGE_CUDA_CUDA_H
#define MOXIE_EXCHANGE_CUDA_CUDA_H

#include "exchange/low_latency_check.h"
#include "transport/cuda/transport.h"

/* Kernels of the image, in the order of their names in backend.c. */
typedef enum cuda_kernel {
    CUDA_KERNEL_BARRIER,
    CUDA_KERNEL_UPDATE,
    CUDA_KERNEL_DISPATCH,
    CUDA_KERNEL_DISPATCH_WEIGHTED,
    CUDA_KERNEL_DISPATCH_FP8,
    CUDA_KERNEL_DISPATCH_QUANTISED,
    CUDA_KERNEL_DISPATCH_ROUTING,
    CUDA_KERNEL_DISPATCH_ROUTING_FP8,
    CUDA_KERNEL_DISPATCH_ROUTING_QUANTISED,
    CUDA_KERNEL_COMBINE,
    CUDA_KERNEL_CEILING,
    CUDA_KERNEL_SLOTS_DISPATCH,
    CUDA_KERNEL_SLOTS_DISPATCH_EXPERT_MAJOR,
    CUDA_KERNEL_SLOTS_COMBINE,
    CUDA_KERNEL_SLOTS_COMBINE_EXPERT_MAJOR,
    CUDA_KERNEL_SLOTS_COMBINE_TAGGED,
    CUDA_KERNEL_COUNT,
} cuda_kernel_t;

/* Knobs of the backend, in the order of the table in backend.c. */
typedef enum cuda_knob {
    CUDA_KNOB_SMS,
    CUDA_KNOB_DUPLICATE_SMS,
    CUDA_KNOB_COMBINE_SMS,
    CUDA_KNOB_PUSH_SMS,
    CUDA_KNOB_UPDATE_SMS,
    CUDA_KNOB_TAGGED_BYTES,
} cuda_knob_t;

/* A group's own. */
typedef struct cuda_exchange {
    cuda_transport_t *transport;
    CUmodule module;
    CUfunction kernels[CUDA_KERNEL_COUNT];
    cuda_channel_t channel; /* of barriers and ceilings */
    struct cuda_route *routes;
    cuda_tally_t retired;      /* of the routes that are gone */
    cuda_tally_t *copied;      /* pinned: where one is copied to */
    uint32_t update_bytes_max; /* shared memory that a block of an update may have */
    uint32_t bulk_bytes;    /* CUDA_BULK_SHARED_BYTES where there is a bulk copy engine, else 0 */
    uint32_t combine_bytes; /* the same of CUDA_COMBINE_SHARED_BYTES */
    int overlaps;           /* a kernel can be launched before the one before it has ended */
    uint64_t delay_seed;    /* test builds: kernels dawdle; 0: never */
} cuda_exchange_t;

/* What a route keeps in pinned memory. */
typedef struct cuda_route_pinned {
    cuda_route_report_t report;
    uint32_t error[CUDA_ERROR_WORDS]; /* of this rank's arguments, for its peers */
} cuda_route_pinned_t;

/* What a low-latency route keeps on the host. */
typedef struct cuda_slots_calls {
    cuda_slots_t slots;
    uint32_t block_count;        /* of its kernels, the same on all ranks */
    int is_tagged;               /* partials travel in tagged pieces, the same on all ranks */
    low_latency_half_t half;     /* under way */
    dispatch_rows_t kind;        /* of the dispatch under way */
    moxie_dtype_t wire_dtype;    /* of the combine under way */
    moxie_routing_t routing;     /* the caller's: a dispatch reads it */
    moxie_error_t routing_error; /* what the next dispatch has to tell; MOXIE_OK: nothing */
    int has_dispatched;          /* the routing at hand; whether with success the device knows */
} cuda_slots_calls_t;

/* A route's own. */
typedef struct cuda_route {
    cuda_exchange_t *exchange;
    cuda_sharing_t memory;
    cuda_channel_t channel;
    cuda_route_view_t view;
    cuda_route_pinned_t *pinned;
    CUevent called;               /* the last call that was made outside of a capture */
    int64_t token_count;          /* of the last update, as its caller gave it */
    uint32_t routing_block_count; /* of a dispatch with its routing, the same on all ranks */
    int is_fresh;                 /* no dispatch has followed it */
    moxie_stream_t fresh_on;      /* the stream of that update */
    int was_told;                 /* the refusal that the device keeps is not news any more */
    cuda_slots_calls_t low_latency;
    moxie_error_t mismatch;  /* of the shapes that the ranks made the route with, or MOXIE_OK */
    struct cuda_route *next; /* of its group, for the counters */
} cuda_route_t;

static inline cuda_exchange_t *cuda_of(const moxie_group_t *group)
{
    return group->implementation;
}

static inline cuda_route_t *cuda_route_of(const moxie_route_t *route)
{
    return route->implementation;
}

/* Where the parts of a channel lie, from `base` on; returns its end. */
uint64_t cuda_channel_plan(uint64_t base, int32_t rank_count, uint64_t count_words,
                           cuda_channel_t *out);

/* Counters of a channel: the last part of it. */
uint64_t cuda_channel_counters(uint64_t base, int32_t rank_count, uint64_t count_words);

/* Fills in what all channels of a group have alike, and the memory of all ranks. */
void cuda_channel_open(const cuda_exchange_t *exchange, const cuda_sharing_t *memory,
                       cuda_channel_t *channel);

/* Blocks of a kernel: the first send rows, the others do what follows. */
typedef struct cuda_blocks {
    uint32_t send;
    uint32_t total;
} cuda_blocks_t;

/* As many as there is work for, within SMs of each kind and this rank's share of the GPU. */
cuda_blocks_t cuda_share_blocks(const cuda_exchange_t *exchange, int64_t send_sms,
                                int64_t follow_sms, int64_t tokens, int64_t tokens_per_block);

/* Tokens that make a block of the kernels that move rows worth it: what it has on the way at once.
 */
#define CUDA_TOKENS_PER_BLOCK 32

/* Adds what a channel's kernels have done so far; those that run now are not in it. */
void cuda_tally_add(const cuda_exchange_t *exchange, const cuda_channel_t *channel,
                    cuda_tally_t *sum);

typedef enum cuda_launch_order {
    CUDA_LAUNCH_BEHIND, /* when all that is before it in the stream has ended */
    CUDA_LAUNCH_AHEAD,  /* when an update before it lets it, to wait for its end by itself */
} cuda_launch_order_t;

/* Launches a kernel with one argument struct. */
moxie_status_t cuda_launch(const cuda_exchange_t *exchange, cuda_kernel_t kernel, uint32_t blocks,
                           uint32_t threads, uint32_t shared_bytes, const void *args,
                           moxie_stream_t stream, cuda_launch_order_t order);

/* 1 while calls on the stream go into a graph. */
int cuda_is_capturing(moxie_stream_t stream);

/* The deadline of the operation to be launched, in nanoseconds. */
uint64_t cuda_timeout_ns(const cuda_exchange_t *exchange);

/*
 * Begins a call on a route: its group is well and its context entered. `op` names it for errors.
 * After success cuda_call_end() leaves the context again.
 */
moxie_status_t cuda_call_begin(const moxie_route_t *route, const char *op);

/*
 * Ends it. `local` is the status of this rank's arguments, which the kernel tells the peers: then
 * it waits for what the ranks make of it. `launched` is that of the launch.
 */
moxie_status_t cuda_call_end(moxie_route_t *route, moxie_stream_t stream, moxie_status_t local,
                             moxie_status_t launched);

/* Puts a status of this rank's arguments, with the thread's error, into its offer. */
void cuda_offer_status(const moxie_route_t *route, moxie_status_t local, cuda_offer_t *offer);

/* Puts the rows that the route allows into the offer of what brings a routing. */
void cuda_offer_route_capacity(const moxie_route_t *route, cuda_offer_t *offer);

/* Checks that a buffer begins in a window of the group and describes it in the offer. */
moxie_status_t cuda_offer_buffer(const moxie_route_t *route, const void *pointer, const char *name,
                                 cuda_offer_t *offer);

/* The same of a dispatch's recv_scales. */
moxie_status_t cuda_offer_scales(const moxie_route_t *route, const dispatch_rows_t *rows,
                                 const moxie_dispatch_out_t *out, cuda_offer_t *offer);

/* Refuses what no kernel sums. */
moxie_status_t cuda_check_dtype(const moxie_route_t *route, moxie_dtype_t dtype);

/* Refuses an exchange along a route without a routing. */
moxie_status_t cuda_check_routing(const moxie_route_t *route);

/* Refuses a missing home-side buffer. */
moxie_status_t cuda_check_home(const moxie_route_t *route, const void *pointer, const char *name);

/* A verdict of the kernels as an error of this thread. */
moxie_status_t cuda_verdict_error(const moxie_route_t *route, const cuda_verdict_t *verdict);

void cuda_route_quote(const route_shape_t *shape, memory_account_t *out);
moxie_status_t cuda_route_open(moxie_route_t *route);
void cuda_route_close(moxie_route_t *route);
moxie_status_t cuda_route_settle(moxie_route_t *route);
moxie_status_t cuda_route_download(moxie_route_t *route);

/* Copies from the device, and waits for it. */
moxie_status_t cuda_route_read(CUstream stream, const void *from, void *to, size_t bytes);

/* One table of 32-bit numbers into one of 64 bits, through its own end. */
moxie_status_t cuda_route_read_counts(CUstream stream, const int32_t *from, int64_t *to,
                                      size_t count);

/* Low latency: lays out what a route has beside its tables, behind `end`, as offsets. Own tables
 * come as offsets, too, in their places as pointers. */
void cuda_slots_plan(const route_shape_t *shape, cuda_slots_t *out, uint64_t *end);

/* Bytes of a rank's tokens, bf16, as the knob `tagged_bytes` counts them; 0: a route without room
 * for tagged pieces. */
int64_t cuda_slots_tagged_bytes(const route_shape_t *shape);

/* Points them into this rank's memory. */
void cuda_slots_point(cuda_slots_t *slots, char *base);

/* Low latency: what cuda_route_settle() and _download() do, once the calls have ended. */
moxie_status_t cuda_slots_settle(moxie_route_t *route);
moxie_status_t cuda_slots_download(moxie_route_t *route);

/* Where this rank's slots lie. */
void cuda_slots_find(const moxie_route_t *route, moxie_dispatch_out_t *out);

/* Calls on a route of low latency. */
moxie_status_t cuda_slots_update(moxie_route_t *route, const moxie_routing_t *routing,
                                 moxie_stream_t stream);
moxie_status_t cuda_slots_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                   const moxie_dispatch_out_t *out, moxie_stream_t stream);
moxie_status_t cuda_slots_dispatch_send(moxie_route_t *route, const moxie_dispatch_in_t *in,
                                        moxie_stream_t stream);
moxie_status_t cuda_slots_dispatch_receive(moxie_route_t *route, const moxie_dispatch_out_t *out,
                                           moxie_stream_t stream);
moxie_status_t cuda_slots_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                                  const moxie_combine_out_t *out, moxie_stream_t stream);
moxie_status_t cuda_slots_combine_send(moxie_route_t *route, const moxie_combine_in_t *in,
                                       moxie_stream_t stream);
moxie_status_t cuda_slots_combine_receive(moxie_route_t *route, const moxie_combine_out_t *out,
                                          moxie_stream_t stream);

/* Launches an update; `local` is the status of the routing. */
moxie_status_t cuda_update_launch(const moxie_route_t *route, const moxie_routing_t *routing,
                                  moxie_status_t local, moxie_stream_t stream);

moxie_status_t cuda_route_update(moxie_route_t *route, const moxie_routing_t *routing,
                                 moxie_stream_t stream);
moxie_status_t cuda_dispatch_routing(moxie_route_t *route, const moxie_routing_t *routing,
                                     const moxie_dispatch_in_t *in, const moxie_dispatch_out_t *out,
                                     moxie_stream_t stream);
moxie_status_t cuda_dispatch(moxie_route_t *route, const moxie_dispatch_in_t *in,
                             const moxie_dispatch_out_t *out, moxie_stream_t stream);
moxie_status_t cuda_combine(moxie_route_t *route, const moxie_combine_in_t *in,
                            const moxie_combine_out_t *out, moxie_stream_t stream);
moxie_status_t cuda_dispatch_backward(moxie_route_t *route, const moxie_dispatch_backward_in_t *in,
                                      const moxie_dispatch_backward_out_t *out,
                                      moxie_stream_t stream);
moxie_status_t cuda_combine_backward(moxie_route_t *route, const moxie_combine_backward_in_t *in,
                                     const moxie_combine_backward_out_t *out,
                                     moxie_stream_t stream);
moxie_status_t cuda_ceiling(moxie_group_t *group, const moxie_ceiling_in_t *in, uint64_t *time_ns);

#endif
