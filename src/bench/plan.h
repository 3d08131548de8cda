/* SPDX-License-Identifier: Apache-2.0 */
/* What a run will do, decided and checked before anything starts. */
#ifndef MOXIE_BENCH_PLAN_H
#define MOXIE_BENCH_PLAN_H

#include "bench/launcher.h"
#include "bench/options.h"
#include "bench/routing.h"
#include "moxie/quote.h"

/* Where a run takes place. */
typedef struct place {
    char backend[16];      /* the chosen one, "shm" */
    uint32_t capabilities; /* of it, MOXIE_CAP_* */
    bool is_cuda;
    int32_t gpu_count;
    uint64_t gpu_bytes; /* memory of one */
    bool has_threads;   /* the ranks are threads of one process: they share the only GPU */
} place_t;

/* Knobs that --sms sets. */
enum { PLAN_SMS_KNOB_COUNT = 3 };

/* Everything the ranks need to know; the same in all of them. */
typedef struct plan {
    const options_t *options;
    launcher_t launcher; /* who started this process */
    place_t place;
    moxie_knob_setting_t sms_knobs[PLAN_SMS_KNOB_COUNT];
    const moxie_knob_setting_t *knobs; /* [knob_count] of --sms, or of a tuner; not owned */
    size_t knob_count;
    char tuning[256];       /* the shape as stored settings are looked for */
    const char *shape_name; /* "custom" when a flag changed the shape */
    int32_t rank_count;
    int32_t expert_count;
    int32_t topk;
    int64_t hidden;
    int64_t token_count_max; /* of the rank that has most */
    uint64_t seed;
    moxie_layout_t layout;
    bool is_backward;
    bool is_low_latency;
    bool has_fp8;                                 /* rows of dispatch arrive as fp8 */
    bool is_quantized;                            /* on the way: they leave as bf16 */
    bool is_fresh;                                /* the timed dispatch derives its route */
    bool skips_verification;                      /* a tuner measures what it has verified again */
    bool has_progress;                            /* somebody looks at a progress bar */
    int64_t time_limit_s;                         /* the run is ended after it; 0: none */
    char where[OPTION_COUNT][OPTION_WHERE_BYTES]; /* names of options, for messages */
    routing_set_t routing;
    moxie_placement_t *placement;
    int64_t *rows_to_peer;    /* [rank_count][rank_count] rows from each rank to each */
    int64_t *recv_row_count;  /* [rank_count] rows that each rank's buffers need */
    int32_t home_set_count;   /* input sets of the home side, used in turn */
    int32_t expert_set_count; /* input sets of the experts' side, used in turn */
    uint64_t need_bytes;      /* memory of all ranks together, without that of GPUs */
} plan_t;

/* Decides and checks everything; needs no group. */
bool plan_make(plan_t *plan, const options_t *options, const launcher_t *launcher,
               failure_t *failure);

/* The same plan for the first 1/divisor of each rank's tokens, rounded up. */
bool plan_make_part(plan_t *part, const plan_t *whole, int64_t divisor, failure_t *failure);

/* Releases a plan. A zeroed one is allowed. */
void plan_release(plan_t *plan);

/* How a rank joins the group; `rendezvous` as in the library. */
moxie_group_options_t plan_group_options(const plan_t *plan, int32_t rank, const char *rendezvous);

/* The route of a rank. */
moxie_route_options_t plan_route_options(const plan_t *plan, int32_t rank);

/* Rows that a rank's buffers hold: --capacity, or what its routing needs. */
int64_t plan_row_capacity(const plan_t *plan, int32_t rank);

/* Rows that a rank receives in dispatch, with and without its own: (source, token) pairs. */
int64_t plan_dispatch_rows(const plan_t *plan, int32_t rank, bool with_own);

/* Rows that a rank receives in combine: partials of its own tokens. */
int64_t plan_combine_rows(const plan_t *plan, int32_t rank, bool with_own);

/* Bytes of a row of bf16. */
int64_t plan_row_bytes(const plan_t *plan);

/* Bytes of a dispatched row: at home without its scales, and as it arrives, without and with them.
 */
int64_t plan_home_row_bytes(const plan_t *plan);
int64_t plan_recv_row_bytes(const plan_t *plan);
int64_t plan_dispatch_row_bytes(const plan_t *plan);

/* Scales of a row that arrives as fp8; 0 for others. */
int64_t plan_scale_count(const plan_t *plan);

#endif
