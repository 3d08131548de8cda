/* SPDX-License-Identifier: Apache-2.0 */
/* The line between a rank's process and the one that started it: JSON messages one way, one byte
 * at a time the other. */
#ifndef MOXIE_BENCH_LINK_H
#define MOXIE_BENCH_LINK_H

#include "bench/failure.h"

#include <jansson.h>

/*
 * What a rank says, one JSON object a line, with one key:
 *   {"alive":0}                          it is busy, not stuck
 *   {"gate":0}                           it waits for all other ranks at a gate
 *   {"progress":["timing", 3, 60]}       for the progress bar
 *   {"failure":{…}}                      it gives up
 *   {"record":{…}}                       rank 0: the result
 */
typedef struct link {
    int fd;
    int32_t rank;
    int64_t told_ms; /* when it last said that it is alive */
} link_t;

/* Sends {"key": value} and takes over the reference to `value`. False: the parent is gone. */
bool link_send(link_t *link, const char *key, json_t *value);

/* Says at most once a second that this rank is busy. Cheap. */
void link_alive(link_t *link);

/* Says how far it is; the parent draws it. */
void link_progress(link_t *link, const char *what, int64_t done, int64_t count);

/*
 * Waits until every rank is here. Unlike the group's barrier it has no deadline of its own: one
 * rank may have far more to verify than another, and the parent watches that it is busy.
 */
bool link_gate(link_t *link, failure_t *failure);

/* A failure as JSON, and back. */
json_t *link_failure_to_json(const failure_t *failure);
void link_failure_from_json(const json_t *json, failure_t *failure);

/* Milliseconds of the monotonic clock. */
int64_t link_now_ms(void);

#endif
