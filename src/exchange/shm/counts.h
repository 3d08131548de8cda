/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of rows and experts as they travel in messages, and as the caller gets them. */
#ifndef MOXIE_EXCHANGE_SHM_COUNTS_H
#define MOXIE_EXCHANGE_SHM_COUNTS_H

#include "exchange/group.h"

/* Counts of one rank: rows to each rank, then to each expert. */
size_t counts_bytes(const route_shape_t *shape);

/* Writes this rank's own. */
void counts_write(const route_state_t *state, int64_t *counts);

/* Copies those of `rank` into the route's tables, and refuses what cannot be. The copies are looked
 * at, not the peer's memory. */
moxie_status_t counts_read(const route_state_t *state, int32_t rank, const int64_t *counts);

/* What a receiver knows of its rows without being told. */
void counts_deliver(const moxie_route_t *route, const moxie_dispatch_out_t *out);

#endif
