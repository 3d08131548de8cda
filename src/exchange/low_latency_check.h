/* SPDX-License-Identifier: Apache-2.0 */
/* What a call in low latency refuses, alike in every backend. */
#ifndef MOXIE_EXCHANGE_LOW_LATENCY_CHECK_H
#define MOXIE_EXCHANGE_LOW_LATENCY_CHECK_H

#include "core/dispatch_rows.h"
#include "exchange/group.h"

/* A call whose first half was made. */
typedef enum low_latency_half {
    HALF_NONE,
    HALF_DISPATCH,
    HALF_COMBINE,
} low_latency_half_t;

/* MOXIE_OK when `half`, under way on the route, is the wanted one. */
moxie_status_t low_latency_check_half(const moxie_route_t *route, low_latency_half_t half,
                                      low_latency_half_t wanted);

/* Refuses what no dispatch sends; on success `kind` says what its rows are. */
moxie_status_t low_latency_check_input(const moxie_route_t *route, const moxie_dispatch_in_t *in,
                                       dispatch_rows_t *kind);

/* Refuses outputs that rows of this kind do not have, lacking ones and too small ones. In
 * rank_major rows stay in the route's own slots, and nothing else may be named. */
moxie_status_t low_latency_check_outputs(const moxie_route_t *route, const dispatch_rows_t *kind,
                                         const moxie_dispatch_out_t *out);

/* Refuses rows of combine that lie in the slots, memory from `slots` on: the next rows come there
 * while others still read these. */
moxie_status_t low_latency_check_y(const moxie_route_t *route, const void *y, const void *slots,
                                   uint64_t slot_bytes);

/* Refuses a combine that no dispatch came before. */
moxie_status_t low_latency_no_dispatch(int32_t rank);

#endif
