/* SPDX-License-Identifier: Apache-2.0 */
/* What the standard error of a job says of its end. */
#ifndef MOXIE_SUITE_COMPLAINT_H
#define MOXIE_SUITE_COMPLAINT_H

#include "bench/failure.h"

/* Of a line so much is kept. */
enum { COMPLAINT_LINE_BYTES = 480 };

typedef struct complaint {
    /* The last two lines, without what Slurm adds to whatever happened when there are others; "":
     * there is none. */
    char words[2 * COMPLAINT_LINE_BYTES + 2];
    /* What a node's slurmstepd said of the memory that a step of this very job took: "StepId=7.1
     * exceeded memory limit (362676224 > 104857600), being killed"; "": nothing. */
    char memory[COMPLAINT_LINE_BYTES];
} complaint_t;

/* Reads stderr.txt in the folder of a run, whose job has this number; without the file there is no
 * complaint. False: not enough memory. */
bool complaint_read(const char *folder, int64_t id, complaint_t *out, failure_t *failure);

#endif
