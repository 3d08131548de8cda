/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where rows lie on the receiving side: counts to offsets, for every rank alike. Size and offsets
 * come from here and from nowhere else.
 */
#ifndef MOXIE_CORE_LAYOUT_H
#define MOXIE_CORE_LAYOUT_H

#include "core/route.h"

/* Rounds a block of rows up to the alignment. */
int64_t layout_align(int64_t row_count, int64_t alignment);

/* Rows of one expert from all sources. */
int64_t layout_expert_total(const route_state_t *state, int32_t expert);

/* From the count tables: the rows each rank's buffers need, and in expert_major where each
 * expert's block begins on its rank. */
void layout_derive(route_state_t *state, const moxie_placement_t *placement);

/* First row on `destination` of the rows that `source` sends there; rank_major. */
int64_t layout_source_start(const route_state_t *state, int32_t source, int32_t destination);

/* First row, on its rank, of the rows that `source` sends to `expert`; expert_major. */
int64_t layout_expert_source_start(const route_state_t *state, int32_t source, int32_t expert);

/* Rows that a rank's buffers need at most, whatever the routing. */
int64_t layout_worst_case(const route_shape_t *shape, int32_t local_expert_count);

/* The invariants of a finished state; see moxie_layout_check(). */
moxie_status_t layout_check(const route_state_t *state, const moxie_placement_t *placement);

#endif
