/* SPDX-License-Identifier: Apache-2.0 */
/* Recognises that mpirun, srun or torchrun started this process. */
#ifndef MOXIE_BENCH_LAUNCHER_H
#define MOXIE_BENCH_LAUNCHER_H

#include "bench/failure.h"

/* Who started this process, and how many of them. */
typedef struct launcher {
    const char *name;          /* "mpirun"; NULL: nobody, this process starts the ranks itself */
    const char *size_variable; /* where the size is from */
    int32_t rank;
    int32_t rank_count;
} launcher_t;

/* Looks into the environment. False when a launcher's variables make no sense (exit code 2). */
bool launcher_find(launcher_t *out, failure_t *failure);

#endif
