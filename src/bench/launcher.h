/* SPDX-License-Identifier: Apache-2.0 */
/* Recognises that mpirun, srun or torchrun started this process. */
#ifndef MOXIE_BENCH_LAUNCHER_H
#define MOXIE_BENCH_LAUNCHER_H

#include "bench/failure.h"

/* Room for the name of a job. */
enum { LAUNCHER_JOB_BYTES = 64 };

/* Who started this process, and how many of them. */
typedef struct launcher {
    const char *name;          /* "mpirun"; NULL: nobody, this process starts the ranks itself */
    const char *size_variable; /* where the size is from */
    int32_t rank;
    int32_t rank_count;
    int32_t local_count;          /* ranks on this host; 0: the launcher does not say */
    int32_t host_count;           /* 0: the launcher does not say */
    int32_t host_index;           /* once narrowed: of this host; -1: the launcher does not say */
    char job[LAUNCHER_JOB_BYTES]; /* one job of this user on this host has it; a file's name */
} launcher_t;

/* Looks into the environment. False when a launcher's variables make no sense (exit code 2). */
bool launcher_find(launcher_t *out, failure_t *failure);

/*
 * Makes the ranks of this host a job of their own: rank, rank_count, host_count and job become
 * theirs. False when the launcher does not say which ranks they are (exit code 2).
 */
bool launcher_narrow(launcher_t *launcher, failure_t *failure);

/* Refuses ranks on several hosts (exit code 77). */
bool launcher_check_hosts(const launcher_t *launcher, failure_t *failure);

#endif
