/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that an error is the same on every rank. */
#ifndef CONFORMANCE_REFUSAL_H
#define CONFORMANCE_REFUSAL_H

#include "support/world.h"

/* True when every rank got `wanted` with the same details: all ranks show theirs to each other
 * through the group, which therefore still works. */
bool refusal_is_shared(world_rank_t *self, moxie_group_t *group, const char *what,
                       moxie_status_t status, moxie_status_t wanted);

/* True when the last error has the same peer, token, slot, expected and observed. */
bool refusal_is_like(world_rank_t *self, const char *what, const moxie_error_t *expected);

/* An error with these details. */
moxie_error_t refusal_of(int32_t peer, int64_t token, int32_t slot, int64_t expected,
                         int64_t observed);

#endif
