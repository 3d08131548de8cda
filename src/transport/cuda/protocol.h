/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host and the kernels agree on: the memory of a route that its peers reach, the words
 * that ranks send each other, and the arguments of the kernels. docs/protocol.md has the argument
 * why it is race-free.
 */
#ifndef MOXIE_TRANSPORT_CUDA_PROTOCOL_H
#define MOXIE_TRANSPORT_CUDA_PROTOCOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Ranks of a group: GPUs of one host, or threads that share some. */
#define CUDA_RANK_COUNT_MAX 16

/* Blocks of a kernel: each raises a flag of its own at every peer. */
#define CUDA_BLOCK_COUNT_MAX 160

/* Blocks of an update: each reads the counts of all. */
#define CUDA_UPDATE_BLOCKS_MAX 32

/* Flags of a block: its payload is complete; what follows from the peers' payload is; what it tells
 * of a routing is. */
#define CUDA_FLAG_COUNT 3

/* Windows a group may have at a time. */
#define CUDA_WINDOW_COUNT_MAX 256

/* Shared memory of the kernels that send rows, from Hopper on: bulk.cuh. */
#define CUDA_BULK_SHARED_BYTES (8 * (4 * 4096 + 128))

/* The same of a combine: bulk.cuh and bulk_sum.cuh. */
#define CUDA_COMBINE_SHARED_BYTES (15 * (7 * 2048 + 256))

/* Shared memory of a warp of the update, beside its counts: update.cuh. */
#define CUDA_UPDATE_STAGE_BYTES (256 * (5 * 4 + 3 * 2))

/* Threads of a block. */
#define CUDA_BARRIER_THREADS  128
#define CUDA_UPDATE_THREADS   704 /* at most */
#define CUDA_DISPATCH_THREADS 384
#define CUDA_COMBINE_THREADS  512

/* Low latency: threads of a block at most, and blocks at most, of which the first moves no rows. */
#define CUDA_SLOTS_THREADS     512
#define CUDA_SLOTS_BLOCK_COUNT CUDA_BLOCK_COUNT_MAX

/* Low latency: shared memory of a dispatch's block, at most. */
#define CUDA_SLOTS_STATIC_BYTES      (14 << 10)
#define CUDA_SLOTS_DYNAMIC_BYTES_MAX (64 << 10)

/* Low latency in tagged pieces (slots_tagged.cuh): what all tokens of a rank may have, as bf16. */
#define CUDA_TAGGED_BYTES_MAX (512 << 10)

typedef enum cuda_op_kind {
    CUDA_OP_BARRIER = 1,
    CUDA_OP_UPDATE,
    CUDA_OP_DISPATCH,
    CUDA_OP_COMBINE,
    CUDA_OP_DISPATCH_BACKWARD,
    CUDA_OP_COMBINE_BACKWARD,
    CUDA_OP_CEILING,
    CUDA_OP_SLOTS_DISPATCH, /* low latency */
    CUDA_OP_SLOTS_COMBINE,
    CUDA_OP_DISPATCH_ROUTING, /* an update and a dispatch in one */
} cuda_op_kind_t;

typedef enum cuda_phase {
    CUDA_PHASE_PREPARE, /* before this rank tells that it is there */
    CUDA_PHASE_MEET,    /* waiting for the peers to call */
    CUDA_PHASE_MOVE,    /* this rank's payload */
    CUDA_PHASE_FINISH,  /* waiting for theirs */
    CUDA_PHASE_COUNT,
} cuda_phase_t;

/*
 * The offer: what a rank says at the beginning of an operation, as 32-bit values. Each travels in a
 * 64-bit word together with the operation's number, so that a word is either old or whole, and no
 * fence is needed to read it.
 */
typedef enum cuda_offer_field {
    CUDA_OFFER_KIND,   /* cuda_op_kind_t */
    CUDA_OFFER_STATUS, /* moxie_status_t of this rank's arguments; then the error words follow */
    CUDA_OFFER_BLOCKS, /* blocks that will raise a flag */
    CUDA_OFFER_DTYPE,
    CUDA_OFFER_WIRE_DTYPE,
    CUDA_OFFER_UNWEIGHTED,
    CUDA_OFFER_SCALE_TYPE, /* of a dispatch of fp8 rows; 0: rows have no scales */
    CUDA_OFFER_SCALE_LAYOUT,
    CUDA_OFFER_WANTS_GRADIENT,
    CUDA_OFFER_CAPACITY_LOW, /* rows of the named buffers */
    CUDA_OFFER_CAPACITY_HIGH,
    CUDA_OFFER_PRESENT, /* bit i: buffer i is there */
    CUDA_OFFER_WINDOW,  /* of buffer 0: the one that peers write to */
    CUDA_OFFER_OFFSET_LOW,
    CUDA_OFFER_OFFSET_HIGH,
    CUDA_OFFER_ROOM_LOW, /* bytes from there to the end of the smallest window among the buffers */
    CUDA_OFFER_ROOM_HIGH,
    CUDA_OFFER_SCALES_WINDOW, /* of buffer 2, the rows' scales */
    CUDA_OFFER_SCALES_OFFSET_LOW,
    CUDA_OFFER_SCALES_OFFSET_HIGH,
    CUDA_OFFER_SCALES_ROWS, /* that it has room for */
    /* of what brings a routing: rows that the route allows, and whether what STATUS says is about
     * something else than the routing */
    CUDA_OFFER_ROUTE_CAPACITY_LOW,
    CUDA_OFFER_ROUTE_CAPACITY_HIGH,
    CUDA_OFFER_HAS_ROUTING,
    CUDA_OFFER_BAD_SLOT_LOW, /* update: token · topk + slot of the first bad id, ~0: none */
    CUDA_OFFER_BAD_SLOT_HIGH,
    CUDA_OFFER_BAD_ID_LOW, /* and that id */
    CUDA_OFFER_BAD_ID_HIGH,
    CUDA_OFFER_FIELD_COUNT,
} cuda_offer_field_t;

/* Low latency: words behind a rank's counts that tell what is wrong with its routing, as the last
 * four fields of an offer do. */
#define CUDA_BAD_WORDS 4

/* Words of an offer in memory, and of the error (a moxie_error_t) behind it. */
#define CUDA_OFFER_WORDS 32
#define CUDA_ERROR_WORDS 112

/* dispatch_routing: words that a block tells every rank, its rows to each rank and, where it found
 * a bad slot, what the last fields of an offer say. */
#define CUDA_CHUNK_WORDS(rank_count)                                                               \
    ((rank_count) + CUDA_OFFER_FIELD_COUNT - CUDA_OFFER_BAD_SLOT_LOW)

/* What a rank receives of one token, known since the update: number n of the receive set. */
typedef struct cuda_arrival {
    int32_t token; /* of the source rank */
    int32_t count; /* of its slots that are served here */
} cuda_arrival_t;

/* rank_major: a slot of an arrival. */
typedef struct cuda_slot {
    int32_t local; /* local expert, -1: served elsewhere */
    float weight;  /* +0 where local is -1 */
} cuda_slot_t;

/* expert_major: a row of an arrival; rows of one arrival by ascending slot. */
typedef struct cuda_link {
    int32_t row;
    float weight;
    int32_t slot;
    int32_t reserved;
} cuda_link_t;

/* A reason why an operation did not take place, the same on all ranks. */
typedef enum cuda_refusal {
    CUDA_REFUSED_NOT = 0,
    CUDA_REFUSED_KIND,     /* ranks call different operations */
    CUDA_REFUSED_CALL,     /* a rank's own arguments; its error was copied */
    CUDA_REFUSED_ROUTING,  /* a bad id */
    CUDA_REFUSED_CAPACITY, /* rows needed and there */
    CUDA_REFUSED_DTYPE,
    CUDA_REFUSED_WIRE_DTYPE,
    CUDA_REFUSED_UNWEIGHTED,
    CUDA_REFUSED_SCALE_TYPE,
    CUDA_REFUSED_SCALE_LAYOUT,
    CUDA_REFUSED_GRADIENT,      /* d_topk_weights is asked for and a rank brought nothing for it */
    CUDA_REFUSED_MISSING,       /* a rank's buffer is NULL */
    CUDA_REFUSED_WINDOW,        /* a rank's buffer does not fit into its window: need and room */
    CUDA_REFUSED_NO_SCALES,     /* a rank's recv_scales is NULL */
    CUDA_REFUSED_SCALES_WINDOW, /* they do not fit into their window: rows needed and there */
    CUDA_REFUSED_NO_ROUTING,
    CUDA_REFUSED_NO_DISPATCH, /* low latency: a combine, and no dispatch has succeeded */
} cuda_refusal_t;

typedef struct cuda_verdict {
    int32_t refusal; /* cuda_refusal_t */
    int32_t kind;    /* cuda_op_kind_t of this rank's call */
    int32_t peer;    /* the rank that it is about */
    int32_t slot;
    int64_t token;
    int64_t expected;
    int64_t observed;
    uint32_t error[CUDA_ERROR_WORDS]; /* CUDA_REFUSED_CALL: that rank's moxie_error_t */
} cuda_verdict_t;

/* What a route's kernels tell the host, in pinned memory. */
typedef struct cuda_route_report {
    cuda_verdict_t update; /* of the last update */
    cuda_verdict_t call;   /* of the first refused exchange since then */
    int64_t recv_row_count;
    int64_t logical_row_count;
    int64_t own_row_count; /* of those, from this rank */
} cuda_route_report_t;

/* Why a group can only be destroyed, packed into one word; 0: it is well. */
#define CUDA_REVOKED(status, kind, phase, peer, rank)                                              \
    ((uint64_t)(status) << 48 | (uint64_t)(kind) << 40 | (uint64_t)(phase) << 32 |                 \
     (uint64_t)(peer) << 16 | (uint64_t)(rank))

/* The group's memory on one rank, which its peers can write: the revoked word. */
typedef struct cuda_control {
    uint64_t revoked;
    uint64_t reserved[15];
} cuda_control_t;

/* What a group's kernels tell the host, in pinned memory. */
typedef struct cuda_group_report {
    uint64_t revoked; /* as in the control memory of this rank */
    uint64_t time_ns; /* of the last ceiling */
} cuda_group_report_t;

/* What a channel's kernels have done so far. In device memory: a kernel that writes to the host's
 * ends later. */
typedef struct cuda_tally {
    uint64_t phase_ns[CUDA_PHASE_COUNT]; /* as the first block saw them */
    uint64_t op_count;                   /* operations finished */
} cuda_tally_t;

/* A peer's mapped part of a window. */
typedef struct cuda_window_part {
    char *base;
    uint64_t bytes;
} cuda_window_part_t;

/* Counters of a channel that only its own rank uses. Between operations all are zero but `epoch`,
 * `bad_slot` and `tally`. */
typedef struct cuda_counters {
    uint32_t epoch;    /* number of the last operation */
    uint32_t leaving;  /* blocks that are done */
    uint32_t arrived;  /* blocks at the grid barrier */
    uint32_t told;     /* dispatch_routing: blocks that have told all of their tokens */
    uint64_t pool[4];  /* next unit of work to give out, a phase each */
    uint64_t bad_slot; /* update: the smallest bad token · topk + slot, ~0: none */
    cuda_tally_t tally;
} cuda_counters_t;

/* A channel: memory of every rank in which its peers talk to it, one operation at a time. Offsets
 * are the same on all ranks. */
typedef struct cuda_channel {
    int32_t rank;
    int32_t rank_count;
    char *parts[CUDA_RANK_COUNT_MAX]; /* each rank's memory as mapped here */
    cuda_control_t *controls[CUDA_RANK_COUNT_MAX];
    cuda_group_report_t *group_report;
    cuda_counters_t *counters;
    const cuda_window_part_t *windows; /* [CUDA_WINDOW_COUNT_MAX][rank_count] */
    uint64_t offer_offset; /* uint64_t [2 banks][rank_count][CUDA_OFFER_WORDS + CUDA_ERROR_WORDS] */
    uint64_t count_offset; /* uint64_t [2 banks][rank_count][count_words] */
    uint64_t count_words;  /* rank_count + expert_count, in low latency CUDA_BAD_WORDS more; 0 in a
                              group's own channel */
    uint64_t flag_offset;  /* uint32_t [CUDA_FLAG_COUNT][rank_count][CUDA_BLOCK_COUNT_MAX] */
    uint64_t timeout_ns;
    uint64_t delay_seed; /* test builds: blocks wait here and there; 0: never */
} cuda_channel_t;

/* A route on the device. */
typedef struct cuda_route_view {
    int32_t layout;
    int32_t expert_count;
    int32_t local_expert_count;
    int32_t topk;
    int64_t hidden;
    int64_t alignment;
    int64_t token_count_max;
    /* [token_count_max][rank_count] partials of staging_row_bytes; in a dispatch scales that are
     * not written to their place straight away */
    uint64_t staging_offset;
    uint64_t staging_row_bytes;
    uint64_t gradient_offset; /* float [token_count_max][topk] */
    uint64_t arrival_offset;  /* cuda_arrival_t [rank_count · token_count_max] */
    /* [rank_count · token_count_max][topk]: cuda_slot_t in rank_major, cuda_link_t in expert_major
     */
    uint64_t detail_offset;
    /* uint32_t [rank_count][token_count_max]: a token's row from a rank, or its partial, is there.
     * Twice the number of the operation, and one more in a second pass. */
    uint64_t progress_offset;
    /* dispatch_routing: uint64_t [2 banks][rank_count][CUDA_BLOCK_COUNT_MAX][CUDA_CHUNK_WORDS] */
    uint64_t chunk_offset;
    /* This rank's own. */
    const uint32_t *place_of_expert; /* [expert_count] rank in the upper half, local in the lower */
    const int32_t *expert_start;     /* [rank_count + 1] into expert_of_local */
    const int32_t *expert_of_local;  /* [expert_count] */
    int32_t *experts;                /* [token_count_max][topk] */
    float *weights;                  /* [token_count_max][topk] */
    int32_t *rows;                   /* [token_count_max][topk] row of each slot, -1: unused */
    int32_t *first_rows;             /* [token_count_max][rank_count] first row there, -1: none */
    int32_t *row_counts;             /* [rank_count source][rank_count] */
    int32_t *expert_counts;          /* [rank_count source][expert_count] */
    int64_t *needs;                  /* [rank_count] rows that each rank's buffers need */
    int64_t *block_starts;           /* [local_expert_count + 1] */
    int64_t *local_counts;           /* [local_expert_count] */
    uint32_t *block_counts;          /* scratch of an update: [blocks][rank_count + expert_count] */
    uint32_t *expert_sums;           /* [expert_count] of dispatch_routing; zeros in between */
    int64_t *token_count;            /* of the last update */
    int32_t *has_routing;
    cuda_route_report_t *report;
} cuda_route_view_t;

/* Low latency: what a block remembers from one operation to the next. */
typedef struct cuda_slots_block {
    uint32_t epoch;          /* number of the last operation */
    uint32_t rows_epoch;     /* of the last one in which this rank wrote rows into slots */
    uint32_t partials_epoch; /* the same of partials */
    uint32_t reserved;
} cuda_slots_block_t;

/* What a low-latency route tells the host, in device memory. */
typedef struct cuda_slots_report {
    cuda_verdict_t verdict; /* of the first refused call that was not told yet */
    int32_t has_dispatched; /* the last dispatch was not refused */
    uint32_t refused_epoch; /* the last operation that was */
} cuda_slots_report_t;

/*
 * A low-latency route on the device, beside its view. Rank s alone writes what is [slots] or by
 * source from s * token_count_max on; slots: rank_count * token_count_max.
 */
typedef struct cuda_slots {
    uint64_t rows_offset;    /* [slots][hidden] bf16 or fp8, one behind the other */
    uint64_t scales_offset;  /* [slots][words] or [words][slots], 32 bits each */
    uint64_t idx_offset;     /* int32_t [slots][topk] local experts, -1: not here */
    uint64_t weights_offset; /* float [slots][topk] */
    uint64_t tokens_offset;  /* expert_major: int32_t [slots] the source's token */
    uint64_t places_offset;  /* expert_major: int32_t [slots][topk] the row's number among those
                                that its source sends to that expert */
    /* uint64_t [rank_count][token_count_max] a token's rows have come: number of the operation, in
     * the lower half 1 + the row's number in its source's slots, 0: none came here */
    uint64_t arrived_offset;
    uint64_t partials_offset; /* [slots] partials of partial_bytes, by rank that sums them */
    uint64_t partial_bytes;
    uint64_t returned_offset; /* uint32_t [rank_count][token_count_max] a partial has come */
    uint64_t tagged_offset;   /* [2 banks][slots][tagged_pieces] of 16 bytes: slots_tagged.cuh */
    uint64_t tagged_pieces;   /* of a partial; 0: a route with too many bytes for them */
    /* This rank's own. */
    int32_t *rows;              /* expert_major: [slots][topk] row of each slot, -1: none */
    cuda_slots_block_t *blocks; /* [CUDA_SLOTS_BLOCK_COUNT] */
    cuda_slots_report_t *report;
} cuda_slots_t;

/* This rank's part of an offer that the host fills in. */
typedef struct cuda_offer {
    uint32_t fields[CUDA_OFFER_FIELD_COUNT];
    const uint32_t *error; /* device-readable [CUDA_ERROR_WORDS], or NULL */
} cuda_offer_t;

typedef struct cuda_update_args {
    cuda_channel_t channel;
    cuda_route_view_t route;
    cuda_offer_t offer;
    const void *topk_idx;
    const float *topk_weights;
    int64_t token_count;
    int32_t is_int64;
} cuda_update_args_t;

/* dispatch, and backward of combine: rows from home to the experts. */
typedef struct cuda_dispatch_args {
    cuda_channel_t channel;
    cuda_route_view_t route;
    cuda_offer_t offer;
    const char *source; /* [token_count] rows at home */
    char *destination;  /* this rank's own [row_capacity] rows: buffer 0 of its offer */
    int64_t row_bytes;
    int32_t element_bytes;
    int32_t is_backward;
    uint32_t send_blocks;      /* the first blocks send; all of them receive */
    int32_t comes_with_update; /* of the same call: if that was refused, all ranks leave it out */
    /* dispatch: this rank's own outputs, or NULL */
    int32_t *recv_topk_idx;
    float *recv_topk_weights;
    float *row_weight;
    int32_t *row_source; /* moxie_row_source_t */
    int64_t *expert_count;
    int64_t *expert_start;
    /* backward of combine */
    const char *y;
    float *d_topk_weights;
    /* dispatch of fp8 rows: their scales */
    const uint32_t *source_scales; /* [token_count][scale_words], of rows that are fp8 at home */
    uint32_t *recv_scales;         /* this rank's own: buffer 2 of its offer */
    int32_t scale_type;            /* moxie_scale_type_t */
    int32_t scale_words;           /* of a row */
    int32_t has_column_scales;     /* recv_scales are column-major */
    int64_t row_capacity;          /* words of their columns */
} cuda_dispatch_args_t;

/* dispatch, rank_major, with the routing that it follows. */
typedef struct cuda_dispatch_routing_args {
    cuda_dispatch_args_t call;
    const void *topk_idx;
    const float *topk_weights; /* NULL: 1 */
    int64_t token_count;
    int32_t is_int64;
} cuda_dispatch_routing_args_t;

/* combine, and backward of dispatch: rows from the experts home. */
typedef struct cuda_combine_args {
    cuda_channel_t channel;
    cuda_route_view_t route;
    cuda_offer_t offer;
    const char *source; /* this rank's [recv_row_count] rows */
    char *out;          /* [token_count] rows */
    int32_t source_is_bf16;
    int32_t wire_is_bf16;
    int32_t out_is_bf16;
    int32_t unweighted;
    uint32_t send_blocks; /* the first blocks send partials; all of them sum */
    int64_t pass_columns; /* columns that the staging memory holds at a time */
    const float *d_recv_weights;
    float *d_topk_weights;
} cuda_combine_args_t;

/* Halves of a call in low latency, to be ORed. */
#define CUDA_HALF_SEND    1u
#define CUDA_HALF_RECEIVE 2u

/* What both calls in low latency have. */
typedef struct cuda_slots_call {
    cuda_channel_t channel;
    cuda_route_view_t route;
    cuda_slots_t slots;
    cuda_offer_t offer;
    uint32_t halves;
    int32_t is_new; /* 1: what was refused before was told, or does not matter any more */
} cuda_slots_call_t;

typedef struct cuda_slots_dispatch_args {
    cuda_slots_call_t call;
    const void *topk_idx;
    const float *topk_weights; /* NULL: 1 */
    int64_t token_count;
    int32_t is_int64;
    int32_t is_quantised; /* source rows are bf16, and fp8 on the way */
    const char *source;   /* [token_count] rows */
    const char *source_scales;
    int64_t source_row_bytes;
    int64_t row_bytes; /* on the way */
    int32_t scale_type;
    int32_t has_column_scales;
    int32_t scale_words; /* of a row; 0: rows have none */
    int32_t reserved;
    /* this rank's own outputs, or NULL; the first four in expert_major only */
    char *destination;
    char *scales;
    float *row_weight;
    int32_t *row_source; /* moxie_row_source_t */
    int64_t *expert_count;
    int64_t *expert_start;
    int64_t *source_count;
} cuda_slots_dispatch_args_t;

typedef struct cuda_slots_combine_args {
    cuda_slots_call_t call;
    const char *source; /* this rank's rows, where dispatch put them */
    char *out;          /* [token_count] rows */
    int32_t source_is_bf16;
    int32_t wire_is_bf16;
    int32_t out_is_bf16;
    int32_t unweighted;
} cuda_slots_combine_args_t;

typedef struct cuda_barrier_args {
    cuda_channel_t channel;
    cuda_offer_t offer;
} cuda_barrier_args_t;

/* All ranks write rows to all peers at once, with nothing else to do. */
typedef struct cuda_ceiling_args {
    cuda_channel_t channel;
    cuda_offer_t offer;
    const char *source;
    int64_t source_row_count;
    int64_t destination_row_count[CUDA_RANK_COUNT_MAX];
    int64_t rows_to_peer[CUDA_RANK_COUNT_MAX];
    int64_t row_start[CUDA_RANK_COUNT_MAX]; /* first row of this rank's there */
    int64_t row_bytes;
} cuda_ceiling_args_t;

#ifdef __cplusplus
}
#endif

#endif
