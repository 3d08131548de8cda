/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight recorder: the last operations of a group with their phases and times, and per peer
 * what it cost the group. Who was late and who was slow is computed from what every rank published,
 * so all ranks come to the same answer.
 */
#ifndef MOXIE_TRANSPORT_SHM_RECORDER_H
#define MOXIE_TRANSPORT_SHM_RECORDER_H

#include "moxie/group.h"

#include <stdbool.h>

/* Operations that are remembered. */
#define RECORDER_ENTRY_COUNT 64

/* One operation. Times are of CLOCK_MONOTONIC; 0: it did not get that far. */
typedef struct recorder_entry {
    uint64_t op;
    uint64_t route_id;
    const char *name;
    uint64_t begin_ns;
    uint64_t post_ns;   /* this rank had said what it wants */
    uint64_t met_ns;    /* and heard it of all peers */
    uint64_t finish_ns; /* its part of the payload was done */
    uint64_t leave_ns;  /* and that of all peers */
    uint64_t late_ns;   /* what the last rank to come cost, beyond the last but one */
    uint64_t slow_ns;   /* what the slowest worker cost, likewise */
    int32_t late_rank;  /* -1: unknown */
    int32_t slow_rank;
    moxie_status_t status;
} recorder_entry_t;

typedef struct recorder {
    recorder_entry_t entries[RECORDER_ENTRY_COUNT];
    uint64_t op_count;
    moxie_peer_counters_t *peers; /* [rank_count] */
} recorder_t;

/* Starts the entry of a new operation and returns it. */
recorder_entry_t *recorder_begin(recorder_t *recorder, const char *name, uint64_t route_id);

/* The entry of the operation under way. */
recorder_entry_t *recorder_current(recorder_t *recorder);

/* When each rank had posted: finds the one that came last. */
void recorder_note_posts(recorder_t *recorder, const uint64_t *post_ns, int32_t rank_count);

/* How long each rank worked: finds the slowest. */
void recorder_note_work(recorder_t *recorder, const uint64_t *work_ns, int32_t rank_count);

/* Reads an operation by its number, 0 being the last one; false: it is not remembered. */
bool recorder_read(const recorder_t *recorder, uint64_t op, moxie_operation_t *out);

/* Writes the entries, oldest first, and the peers' counters as text. */
void recorder_dump(const recorder_t *recorder, int32_t rank, int32_t rank_count, int fd);

#endif
