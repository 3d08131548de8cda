/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of one rank's routing. */
#ifndef MOXIE_CORE_ROUTING_H
#define MOXIE_CORE_ROUTING_H

#include "core/route.h"

/* Refuses a routing whose numbers or pointers cannot be; looks at no id. */
moxie_status_t routing_check(const route_shape_t *shape, const moxie_routing_t *routing);

/*
 * Copies the ids of a routing into `experts` [token_count, topk] and refuses the first id that is
 * out of range or twice in its token. `last_token` is scratch, [expert_count].
 */
moxie_status_t routing_read(const route_shape_t *shape, const moxie_routing_t *routing,
                            int32_t *experts, int64_t *last_token);

#endif
