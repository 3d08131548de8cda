/* SPDX-License-Identifier: Apache-2.0 */
/* A flight: one route with its buffers, whose update, dispatch and combine are launched one behind
 * the other without waiting, and looked at when the stream has passed them. */
#ifndef CUDA_FLIGHT_H
#define CUDA_FLIGHT_H

#include "support/trial.h"

typedef struct flight {
    world_rank_t *self;
    device_t *device;
    moxie_stream_t stream;
    scenario_t scenario;
    scenario_world_t world;
    moxie_route_t *route;
    int64_t row_capacity;
    arena_t received_arena; /* what dispatch fills */
    arena_t given_arena;    /* what combine reads */
    arena_t home_arena;     /* routing, x, out and counts */
    moxie_window_t *received;
    moxie_window_t *given;
    void *home;
    void *given_image; /* what was uploaded */
    void *home_image;
    bool returns_received; /* combine is given what dispatch received, of which `y_dtype` is */
} flight_t;

/* Low latency, rank_major: rows come into the route's own memory, and combine is given a copy of
 * them, so that `out` shows whether they were right. */
bool flight_has_slots(const flight_t *flight);

/* Rows that this rank receives at most. */
int64_t flight_rows_max(world_rank_t *self, const scenario_t *scenario);

/* A route of `row_capacity` rows and its buffers; collective. Functions return false when something
 * was wrong, and have recorded it. */
bool flight_open(flight_t *flight, world_rank_t *self, moxie_group_t *group,
                 const scenario_t *scenario, int64_t row_capacity, moxie_stream_t stream);

/* Brings a variant's routing and payload to the device and poisons the outputs. Nothing of the
 * flight may be in the air. */
void flight_load(flight_t *flight, uint64_t variant);

/* Changes one id of one rank's routing, here and, on that rank, in the device's copy. */
void flight_set_id(flight_t *flight, int32_t rank, int64_t token, int32_t slot, int64_t id);

/* Launches the three calls, or with `brings_routing` two; the first status that is not MOXIE_OK. */
moxie_status_t flight_launch(flight_t *flight);

/* The status of what was launched, when the stream has passed it. */
moxie_status_t flight_settle(flight_t *flight, moxie_status_t launched);

/* What the calls deliver by the reference, into images of the two arenas. */
bool flight_expect(flight_t *flight, void *received, void *home);

/* Compares every buffer with the reference, bit for bit, and what lies around the buffers. */
bool flight_check(flight_t *flight);

/* Compares an image with the expected one; opens both. */
bool flight_compare(flight_t *flight, const arena_t *arena, void *got, void *expected);

/* Poisons `out`, in stream order; with `received` also what dispatch writes to. */
void flight_poison(flight_t *flight, bool received);

/* True when nothing was written around the received rows. */
bool flight_kept_red_zones(flight_t *flight);

/* Loads, launches and checks one variant. */
bool flight_play(flight_t *flight, uint64_t variant);

void flight_close(flight_t *flight);

#endif
