/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank tells while it runs: to the process that started it, or, when a launcher did, to its
 * peers over their group. */
#ifndef MOXIE_BENCH_LINK_H
#define MOXIE_BENCH_LINK_H

#include "bench/failure.h"
#include "moxie/group.h"

#include <jansson.h>

/* Result of a run. */
typedef struct run_result {
    json_t *record;                     /* the document, still without machine and version; owned */
    json_t *trace;                      /* a timeline, when one was asked for; owned */
    char mismatch[512];                 /* "": verified */
    bool is_out_of_time;                /* the plan's time limit ended the run */
    char *flight[MOXIE_RANK_COUNT_MAX]; /* a failed run: the ranks' flight recorders; owned, NULL:
                                           none */
} run_result_t;

/* Releases what a result owns. */
void run_result_release(run_result_t *result);

/*
 * With a starting process (fd >= 0) a rank says, one JSON object a line, with one key:
 *   {"alive":0}                          it is busy, not stuck
 *   {"gate":0}                           it waits for all other ranks at a gate
 *   {"progress":["timing", 3, 60]}       for the progress bar
 *   {"flight":"…"}                       its flight recorder, before it gives up
 *   {"failure":{…}}                      it gives up
 *   {"record":{…}}                       rank 0: the result
 *   {"done":0}                           it has left the group and waits for the next job
 * Without one there is nobody to watch: ranks beat together over the group, about once a second,
 * while some of them work and others wait at a gate; rank 0 draws and keeps the result.
 */
typedef struct link {
    int fd; /* to the starting process; -1: a launcher started this rank */
    int32_t rank;
    int64_t told_ms; /* when it last said that it is alive */

    /* Only under a launcher. */
    moxie_group_t *group;
    int32_t rank_count;
    pid_t launcher_pid;   /* the parent: when it goes, the run ends */
    int64_t beat_ms;      /* from one beat to the next */
    bool is_working;      /* peers may wait for this rank's beats */
    failure_t lost;       /* why a beat failed; exit code 0: none did */
    run_result_t *result; /* rank 0's goes here */
} link_t;

/* Makes the link of a rank that a launcher started. */
void link_open(link_t *link, moxie_group_t *group, int64_t timeout_us, run_result_t *result);

/* Sends {"key": value} and takes over the reference to `value`. False: the parent is gone. */
bool link_send(link_t *link, const char *key, json_t *value);

/* Local work begins that lasts until the next gate: no collective call in between. */
void link_work(link_t *link);

/* Says at most once a second that this rank is busy. Cheap. */
void link_alive(link_t *link);

/* Says how far it is. */
void link_progress(link_t *link, const char *what, int64_t done, int64_t count);

/* Rank 0: hands over the result; takes over the references. `trace` may be NULL. */
bool link_report(link_t *link, json_t *document, json_t *trace, const char *mismatch);

/*
 * Waits until every rank is here. Unlike the group's barrier it has no deadline of its own: one
 * rank may have far more to verify than another. That it is busy is watched by the parent, or by
 * its beats.
 */
bool link_gate(link_t *link, failure_t *failure);

/* A failure as JSON, and back. */
json_t *link_failure_to_json(const failure_t *failure);
void link_failure_from_json(const json_t *json, failure_t *failure);

/* Milliseconds of the monotonic clock. */
int64_t link_now_ms(void);

#endif
