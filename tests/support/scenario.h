/* SPDX-License-Identifier: Apache-2.0 */
/* A scenario: everything that decides an exchange, small enough to write down in a test. Every rank
 * builds from it, by itself, the placement and the routings of all ranks. */
#ifndef SUPPORT_SCENARIO_H
#define SUPPORT_SCENARIO_H

#include "moxie/reference.h"

#include <stdbool.h>

typedef enum scenario_tokens {
    TOKENS_RAGGED = 0, /* 0 … token_count_max, each rank its own number */
    TOKENS_FULL,       /* token_count_max everywhere */
    TOKENS_SOME_EMPTY, /* full, but every other rank has none */
    TOKENS_NONE,       /* no token anywhere */
} scenario_tokens_t;

typedef enum scenario_routing {
    ROUTING_UNIFORM = 0, /* topk different experts */
    ROUTING_HOLES,       /* a third of the slots unused, a fifth of the tokens wholly */
    ROUTING_ONE_EXPERT,  /* every token goes to the same expert and to no other */
} scenario_routing_t;

typedef enum scenario_placement {
    PLACEMENT_BLOCK = 0,  /* given as NULL */
    PLACEMENT_MAP,        /* any rank for any expert */
    PLACEMENT_PERMUTED,   /* and any local index */
    PLACEMENT_SOME_EMPTY, /* and nothing on every other rank */
} scenario_placement_t;

typedef enum scenario_weights {
    WEIGHTS_PLAIN = 0, /* within (0, 1] */
    WEIGHTS_NONE,      /* NULL */
    WEIGHTS_MIXED,     /* NULL on every other rank */
    WEIGHTS_ODD,       /* negative, zeros, NaNs, infinities, subnormals */
} scenario_weights_t;

typedef enum scenario_ids {
    IDS_INT32 = 0,
    IDS_INT64,
    IDS_MIXED, /* each rank its own type */
} scenario_ids_t;

typedef struct scenario {
    uint64_t seed;
    uint64_t variant; /* another routing on the same placement */
    int64_t hidden;
    int64_t token_count_max;
    int64_t alignment;
    int32_t expert_count;
    int32_t topk;
    moxie_layout_t layout;
    moxie_mode_t mode;
    bool halves;         /* low latency: calls are made in two halves */
    bool brings_routing; /* the first dispatch of a routing brings it; not in halves */
    scenario_tokens_t tokens;
    scenario_routing_t routing;
    scenario_placement_t placement;
    scenario_weights_t weights;
    scenario_ids_t ids;
    moxie_dtype_t x_dtype;             /* 0: bf16, here and below */
    bool quantised;                    /* rows of x, of bf16, are quantised on the way */
    moxie_scale_type_t scale_type;     /* of fp8 rows; 0: fp32 */
    moxie_scale_layout_t scale_layout; /* 0: row-major */
    moxie_dtype_t y_dtype;             /* of y, d_recv_x and d_out */
    moxie_dtype_t wire_dtype;
    moxie_dtype_t out_dtype; /* of out and d_x */
    bool unweighted;
    bool special;      /* odd values among the payload */
    bool null_outputs; /* some ranks leave optional outputs out */
    bool own_state;    /* the route's state lies in memory of the caller */
    bool aligned;      /* buffers begin on cache lines; else at odd places */
    bool odd_fenv;     /* the caller runs with other rounding and flush-to-zero */
} scenario_t;

/* The world of a scenario, with what it is made of. */
typedef struct scenario_world {
    moxie_world_t world;
    moxie_placement_t *placement;
    moxie_routing_t *routing; /* [rank_count] */
    void **ids;               /* [rank_count] */
    float **weights;          /* [rank_count], NULL where the routing has none */
    int32_t rank_count;
} scenario_world_t;

/* A random scenario of at most these sizes, from its seed. */
scenario_t scenario_random(uint64_t seed, int64_t token_count_max, int64_t hidden_max);

/* The same with rows that arrive as fp8. */
scenario_t scenario_random_fp8(uint64_t seed, int64_t token_count_max, int64_t hidden_max);

/* The same in low latency, with rows of bf16 or, where `has_fp8`, also of fp8. */
scenario_t scenario_random_low_latency(uint64_t seed, int64_t token_count_max, int64_t hidden_max,
                                       bool has_fp8);

/* True when rows arrive as fp8, with scales. */
bool scenario_has_scales(const scenario_t *scenario);

/* Fills in what is 0: dtypes, layout, alignment. */
scenario_t scenario_complete(const scenario_t *scenario);

void scenario_build(const scenario_t *scenario, int32_t rank_count, scenario_world_t *out);
void scenario_free(scenario_world_t *world);

/* Puts an id into a rank's routing, whatever its type. */
void scenario_set_id(scenario_world_t *world, int32_t rank, int64_t token, int32_t slot,
                     int64_t id);

/* The options of a route for this scenario. */
moxie_route_options_t scenario_route_options(const scenario_t *scenario,
                                             const scenario_world_t *world);

/* One line that names the scenario in a failure. */
void scenario_describe(const scenario_t *scenario, char *text, size_t bytes);

#endif
