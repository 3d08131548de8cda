/* SPDX-License-Identifier: Apache-2.0 */
/* A folder that only this user can enter, where the ranks find each other's socket. */
#ifndef MOXIE_BENCH_MEETING_H
#define MOXIE_BENCH_MEETING_H

#include "bench/failure.h"

typedef struct meeting {
    char folder[96];       /* "": none, or not ours to remove */
    char socket_path[108]; /* the longest that a Unix socket can have */
} meeting_t;

/* Makes a folder of its own under $XDG_RUNTIME_DIR or /tmp. */
bool meeting_open(meeting_t *meeting, failure_t *failure);

/*
 * Where the ranks of a launcher's job meet: $XDG_RUNTIME_DIR/moxie or /tmp/moxie-UID, which is made
 * when it is not there, stays, and is refused when somebody else could have put something there.
 */
bool meeting_of_job(meeting_t *meeting, const char *job, failure_t *failure);

/* Removes a socket that was left, and the folder if it was made for this meeting alone. */
void meeting_close(meeting_t *meeting);

#endif
