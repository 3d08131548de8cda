/* SPDX-License-Identifier: Apache-2.0 */
/* Starts this program again, once a rank, by Open MPI's mpirun, and watches it. */
#ifndef MOXIE_BENCH_MPIRUN_H
#define MOXIE_BENCH_MPIRUN_H

#include "bench/plan.h"

/* What the ranks wrote on standard output. */
typedef struct mpirun_output {
    char *bytes;
    size_t count;
} mpirun_output_t;

/*
 * Runs this program with the same arguments, a NULL-terminated list without its name, under mpirun.
 * Returns whether it succeeded; a failure that the ranks have told of has an empty sentence. Never
 * waits without a bound; a stop signal ends it as in launch_run().
 */
bool mpirun_run(const plan_t *plan, char **arguments, mpirun_output_t *out, failure_t *failure);

#endif
