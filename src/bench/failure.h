/* SPDX-License-Identifier: Apache-2.0 */
/* How a tool ends when it does not succeed: an exit code and one sentence for a person. */
#ifndef MOXIE_BENCH_FAILURE_H
#define MOXIE_BENCH_FAILURE_H

#include "moxie/status.h"

#include <stdbool.h>
#include <sys/types.h>

/* The contract's exit codes. */
enum {
    EXIT_DONE = 0,        /* done */
    EXIT_FAILED = 1,      /* ran and failed, a mismatch included */
    EXIT_USAGE = 2,       /* bad usage or a bad input file */
    EXIT_PEER = 3,        /* a peer was lost or a deadline passed */
    EXIT_UNAVAILABLE = 77 /* not available on this machine, or not built yet */
};

/* A rank that is to blame, and its process. */
typedef struct failure_peer {
    int32_t rank;
    pid_t pid;
} failure_peer_t;

/* Ranks that are named at most. */
enum { FAILURE_PEER_COUNT_MAX = 16 };

/* The first function that detects a failure fills it; everyone else passes `false` up. */
typedef struct failure {
    int exit_code;                                /* 0: nothing failed */
    int signal;                                   /* the signal that ended the run, or 0 */
    moxie_status_t status;                        /* of the library call that failed, or MOXIE_OK */
    failure_peer_t peers[FAILURE_PEER_COUNT_MAX]; /* who is to blame; pid 0: not known yet */
    int32_t peer_count;                           /* of `peers` */
    int32_t detected_by;                          /* the rank that the library names, or -1 */
    char op[24];                                  /* the operation, "dispatch"; "" when none */
    char phase[24];                               /* its phase, "payload"; "" when none */
    char sentence[1024];                          /* what happened */
} failure_t;

/* Records a failure; returns false, so that callers can `return failure_set(…)`. */
bool failure_set(failure_t *failure, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Records the calling thread's last library error, which happened while `rank` was at `doing`. */
bool failure_from_library(failure_t *failure, int32_t rank, const char *doing);

/* Names one more rank that is to blame; again: its process. */
void failure_blame(failure_t *failure, int32_t rank, pid_t pid);

#endif
