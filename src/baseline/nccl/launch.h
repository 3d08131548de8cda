/* SPDX-License-Identifier: Apache-2.0 */
/* What the host gives to the kernels of the NCCL baseline; C and CUDA. Pointers are the device's.
 */
#ifndef MOXIE_BASELINE_NCCL_LAUNCH_H
#define MOXIE_BASELINE_NCCL_LAUNCH_H

/* MOXIE_TOPK_MAX, for shared memory. */
#define NCCL_TOPK_MAX 64

/* nccl_sort: slots in the order of their experts, ascending slot within one. A block an expert. */
typedef struct nccl_sort {
    const int *topk_idx; /* [slot_count] expert or -1 */
    long long slot_count;
    int *counts;           /* [experts] slots of each expert */
    int *position_of_slot; /* [slot_count] in the order; -1: unused */
    int *slot_at_position; /* [slots in use] */
} nccl_sort_t;

/* nccl_copy: to[i] = from[index[i] / divisor], or to[index[i] / divisor] = from[i]. */
typedef struct nccl_copy {
    const void *from;
    void *to;
    const int *index; /* [row_count] */
    int divisor;
    int is_scatter;
    long long row_count;
    long long row_bytes;
    int is_wide; /* rows are whole units of 16 bytes, aligned so */
    int reserved;
} nccl_copy_t;

/* nccl_place: where received rows go in expert_major. A block a (local expert, source). */
typedef struct nccl_place {
    const int *counts;       /* [sources][local experts] rows */
    int *place_of_row;       /* [received rows] */
    long long *expert_count; /* [local experts], or NULL */
    long long *expert_start; /* [local experts + 1], or NULL */
} nccl_place_t;

/* nccl_sum: out = Σ over ranks of bf16(Σ w · row). A block a token. */
typedef struct nccl_sum {
    const void *rows; /* by position, bf16 */
    void *out;        /* [token_count][hidden] bf16 */
    const int *topk_idx;
    const float *topk_weights;
    const int *position_of_slot;
    const int *rank_of_expert;
    long long token_count;
    long long hidden;
    int topk;
    int is_wide; /* hidden is a multiple of 8 and rows are aligned to 16 bytes */
} nccl_sum_t;

#endif
