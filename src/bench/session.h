/* SPDX-License-Identifier: Apache-2.0 */
/* One rank at work: what its steps share. */
#ifndef MOXIE_BENCH_SESSION_H
#define MOXIE_BENCH_SESSION_H

#include "baseline/baseline.h"
#include "bench/buffers.h"
#include "bench/link.h"
#include "bench/payload.h"

/* What a rank measures: Moxie, and a baseline when one was asked for. */
typedef enum side { SIDE_MOXIE, SIDE_BASELINE, SIDE_COUNT } side_t;

/* The baseline of a rank. */
typedef struct session_baseline {
    char name[OPTION_WHERE_BYTES]; /* "mpi"; "" when there is none */
    char library[64];              /* "Open MPI v4.1.4" */
    const baseline_table_t *table; /* NULL until the plug-in is loaded */
    baseline_t *state;
    int32_t *experts; /* [2][experts] rank of each expert, and its index there */
} session_baseline_t;

typedef struct session {
    const plan_t *plan;
    int32_t rank;
    link_t *link;
    moxie_group_t *group;
    device_t *device;
    moxie_route_t *route;
    buffers_t buffers;
    uint64_t next_input_set; /* payload numbers below it have been used */
    session_baseline_t baseline;
} session_t;

/* The two calls that are measured: in backward these are their gradients. */
typedef enum slot { SLOT_DISPATCH, SLOT_COMBINE, SLOT_COUNT } slot_t;

/* "dispatch", "combine backward" … */
const char *session_slot_name(const session_t *session, slot_t slot);

/* 1, or 2 with a baseline. */
int32_t session_side_count(const session_t *session);

/* Gives the route this rank's routing. */
moxie_status_t session_update_route(const session_t *session);

/* On a device: waits for the calls made on the route and tells what they only knew there. */
moxie_status_t session_status(const session_t *session);

/* Makes the call on input set number `turn` modulo the sets that there are. */
moxie_status_t session_call(const session_t *session, slot_t slot, int64_t turn);

/* What the calls use in a turn. */
int32_t session_home_set(const session_t *session, int64_t turn);
int32_t session_expert_set(const session_t *session, int64_t turn);

/* Fills one set of each kind, and the gradients of weights, with payload never used before. */
void session_refill(session_t *session, int32_t set);

/* Rows of the home side and of the experts' side as a set was filled. */
payload_t session_home_payload(const session_t *session, int32_t set);
payload_t session_expert_payload(const session_t *session, int32_t set);
payload_t session_weights_payload(const session_t *session);
payload_t session_scales_payload(const session_t *session, int32_t set);

/* The types of a dispatch, without its buffers. */
moxie_dispatch_in_t session_dispatch_in(const session_t *session);

/* Where a dispatch delivers: this rank's buffers, or the slots of a low-latency route. */
moxie_dispatch_out_t session_dispatch_out(const session_t *session);

#endif
