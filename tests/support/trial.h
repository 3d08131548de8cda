/* SPDX-License-Identifier: Apache-2.0 */
/* A trial: one scenario played on one rank of a group, every output compared bit for bit with the
 * reference, everything around the outputs checked to be untouched. */
#ifndef SUPPORT_TRIAL_H
#define SUPPORT_TRIAL_H

#include "moxie/moxie.h"
#include "support/arena.h"
#include "support/payload.h"
#include "support/scenario.h"
#include "support/world.h"

/* Windows that outlive a trial. */
typedef struct trial_memory {
    moxie_window_t *outputs;
    moxie_window_t *inputs;
} trial_memory_t;

typedef struct trial {
    world_rank_t *self;
    moxie_group_t *group;
    scenario_t scenario;
    scenario_world_t world;
    moxie_route_t *route;
    void *state; /* the route's, when the scenario wants it here */
    void
        *routing; /* low latency on a device: what dispatch reads of the routing at hand, or NULL */
    int64_t token_count;
    int64_t recv_row_count;
    int64_t row_capacity; /* of the buffers: some more than needed */
    trial_memory_t memory;
    bool owns_memory;
    bool has_dispatched;                  /* since the last update */
    void (*between)(struct trial *trial); /* two halves of a call; may be NULL */
    char what[400];                       /* scenario and step, for failures */
} trial_t;

/* Makes the route and updates it. With `memory` NULL the trial allocates its own windows. All
 * functions return false when something was wrong, and have recorded it. */
bool trial_open(trial_t *trial, world_rank_t *self, moxie_group_t *group,
                const scenario_t *scenario, const trial_memory_t *memory);

/* Gives the route another routing: `scenario` differs from the first in variant, tokens, routing,
 * ids and weights at most; in low latency also in types and in halves. */
bool trial_reroute(trial_t *trial, const scenario_t *scenario);

/* Makes the route usable again after a refused call: on a device its status keeps the first failure
 * until the next update. */
bool trial_recover(trial_t *trial);

/* Each call with the payload of a round. */
bool trial_dispatch(trial_t *trial, uint64_t round);
bool trial_combine(trial_t *trial, uint64_t round);
bool trial_dispatch_backward(trial_t *trial, uint64_t round);
bool trial_combine_backward(trial_t *trial, uint64_t round);

/* The n-th of the four; in low latency, which has no backward, dispatch and combine twice. */
bool trial_step(trial_t *trial, int step, uint64_t round);
#define TRIAL_STEP_COUNT 4

void trial_close(trial_t *trial);

/* Opens, plays all four once, closes. */
bool trial_play(world_rank_t *self, moxie_group_t *group, const scenario_t *scenario);

#endif
