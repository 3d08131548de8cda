/* SPDX-License-Identifier: Apache-2.0 */
/* Groups and routes, open to the backends. */
#ifndef MOXIE_EXCHANGE_GROUP_H
#define MOXIE_EXCHANGE_GROUP_H

#include "core/route.h"
#include "exchange/backend.h"

struct moxie_group {
    const backend_t *backend;
    int32_t rank;
    int32_t rank_count;
    uint64_t route_serial; /* routes created so far; the same on all ranks */
    memory_account_t account;
    moxie_group_counters_t counters;
    knob_values_t knobs;
    void *implementation; /* the backend's own */
};

struct moxie_route {
    moxie_group_t *group;
    uint64_t id; /* number in the group, from 1; the same on all ranks */
    moxie_placement_t *placement;
    int64_t row_capacity; /* as the caller gave it, or the worst case */
    int has_capacity;     /* 1: the caller gave it */
    route_state_t *state;
    int owns_state;
    int has_routing;
    moxie_error_t update_error; /* of the last update; status MOXIE_OK when it succeeded */
    void *implementation;       /* a device backend's own */
};

#endif
