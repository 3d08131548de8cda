/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a rank: its inputs in several sets that are used in turn, so that caches do not
 * flatter, and its outputs. What the library wants in a window is in one. */
#ifndef MOXIE_BENCH_BUFFERS_H
#define MOXIE_BENCH_BUFFERS_H

#include "bench/device.h"
#include "bench/plan.h"
#include "moxie/exchange.h"
#include "moxie/window.h"

/* Where each part begins, in bytes; parts that a run does not need are empty. */
typedef struct buffer_layout {
    /* in the window */
    size_t received;       /* [capacity, H] recv_x, or d_y in backward */
    size_t recv_scales;    /* [capacity, scales] fp8 */
    size_t expert;         /* [sets][capacity, H] bf16: y, and d_recv_x in backward */
    size_t recv_idx;       /* [capacity, K] rank_major */
    size_t recv_weights;   /* [capacity, K] rank_major */
    size_t row_weight;     /* [capacity] expert_major */
    size_t row_source;     /* [capacity] expert_major */
    size_t d_recv_weights; /* [capacity, K] or [capacity], backward */
    size_t window_bytes;
    /* private */
    size_t home;           /* [sets][T, H] x, or d_out in backward */
    size_t home_scales;    /* [sets][T, scales] fp8 rows */
    size_t topk_idx;       /* [T, K] a device's copy of the routing */
    size_t topk_weights;   /* [T, K] a device's copy of the routing */
    size_t out;            /* [T, H] bf16: out, or d_x in backward */
    size_t d_topk_weights; /* [T, K] backward */
    size_t expert_count;   /* [local experts] */
    size_t expert_start;   /* [local experts + 1] */
    size_t private_bytes;
} buffer_layout_t;

/* The layout of a rank's memory with the plan's numbers of sets. */
buffer_layout_t buffers_measure(const plan_t *plan, int32_t rank);

/* Input sets of a kind at most. */
enum { BUFFER_SET_COUNT_MAX = 64 };

/* One rank's memory. */
typedef struct buffers {
    const plan_t *plan;
    device_t *device;
    int32_t rank;
    int64_t row_capacity;
    buffer_layout_t layout;
    moxie_window_t *window;
    char *window_base;
    char *private_base;
    uint64_t home_input_set[BUFFER_SET_COUNT_MAX];   /* what each home set was filled with */
    uint64_t expert_input_set[BUFFER_SET_COUNT_MAX]; /* what each expert set was filled with */
    uint64_t weights_input_set;                      /* what d_recv_weights was filled with */
} buffers_t;

/* Allocates on the device; collective. */
bool buffers_init(buffers_t *buffers, const plan_t *plan, moxie_group_t *group, device_t *device,
                  failure_t *failure);

/* Frees. */
void buffers_release(buffers_t *buffers);

/* The rows of a set, and scales of the home side's. */
void *buffers_home(const buffers_t *buffers, int32_t set);
float *buffers_home_scales(const buffers_t *buffers, int32_t set);
uint16_t *buffers_expert(const buffers_t *buffers, int32_t set);

/* Parts, as the library takes them. */
moxie_dispatch_out_t buffers_dispatch_out(const buffers_t *buffers);
moxie_combine_backward_out_t buffers_combine_backward_out(const buffers_t *buffers);
void *buffers_out(const buffers_t *buffers);
float *buffers_d_topk_weights(const buffers_t *buffers);
float *buffers_d_recv_weights(const buffers_t *buffers);

/* This rank's routing, in memory that the library can read. */
moxie_routing_t buffers_routing(const buffers_t *buffers);

/* Fills every output with a pattern that no result has. */
void buffers_poison(const buffers_t *buffers);

#endif
