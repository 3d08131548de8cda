/* SPDX-License-Identifier: Apache-2.0 */
/* A folder that only this user can enter, where the ranks find each other's socket. */
#ifndef MOXIE_BENCH_MEETING_H
#define MOXIE_BENCH_MEETING_H

#include "bench/failure.h"

typedef struct meeting {
    char folder[96];       /* "": none */
    char socket_path[108]; /* the longest that a Unix socket can have */
} meeting_t;

/* Makes the folder under $XDG_RUNTIME_DIR or /tmp. */
bool meeting_open(meeting_t *meeting, failure_t *failure);

/* Removes the folder and a socket that was left in it. */
void meeting_close(meeting_t *meeting);

#endif
