/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of Slurm, and what they say. No shell is between. */
#ifndef MOXIE_SUITE_SLURM_H
#define MOXIE_SUITE_SLURM_H

#include "bench/failure.h"

#include <jansson.h>

/* What Slurm says of a job. */
typedef struct slurm_job {
    char state[32];      /* "PENDING", "RUNNING", "COMPLETED", "NODE_FAIL" …; "": not known */
    char reason[128];    /* why it waits, or why it ended */
    char start_time[32]; /* "2026-11-22T08:30:00"; "": it did not start */
    char end_time[32];   /* "": it did not end */
    char *nodes;         /* "n[1-2]"; owned; NULL: none */
    int exit_code;       /* of the script */
    int signal;          /* that ended the script, or 0 */
    int64_t elapsed_s;   /* since it started */
} slurm_job_t;

/* A job of the queue. */
typedef struct slurm_row {
    int64_t id;
    slurm_job_t job; /* state, reason and nodes only */
} slurm_row_t;

typedef struct slurm_queue {
    slurm_row_t *rows;
    size_t count;
} slurm_queue_t;

/* Submits FOLDER/cloudai_sbatch_script.sh. `dependency` is what `sbatch --dependency` takes, or "".
 * False: the failure has Slurm's own words. */
bool slurm_submit(const char *folder, const char *dependency, int64_t *id, failure_t *failure);

/* This user's jobs, for some minutes also those that ended. Release it in any case. */
bool slurm_read_queue(slurm_queue_t *out, failure_t *failure);
void slurm_release_queue(slurm_queue_t *queue);

/* Asks the controller about a job, and the accounting when that knows it no longer: then, and when
 * nobody knows it, its state is "". Release it in any case. */
bool slurm_read_job(int64_t id, slurm_job_t *out, failure_t *failure);
void slurm_release_job(slurm_job_t *job);

/* The steps of a job that has ended, by the accounting: [{"id","name","state","exit_code",
 * "start_time","end_time","elapsed_time_sec"}…], all strings but the last; empty without it. */
json_t *slurm_steps(int64_t id);

/* Cancels jobs. False: at least one of them could not be, since it has ended say. */
bool slurm_cancel(const int64_t *ids, size_t count, failure_t *failure);

/* Whether a state is one that a job does not leave. */
bool slurm_is_final(const char *state);

/* Whether a job that waits for this reason waits for ever, unless somebody changes the limits. */
bool slurm_is_hopeless(const char *reason);

/* Whether jobs of this cluster can ask for GPUs. */
bool slurm_has_gpus(void);

/* Every node of every partition, a line each: "NAME|PARTITION|STATE". False: there is no Slurm. The
 * text is the caller's. */
bool slurm_list_nodes(char **out, failure_t *failure);

#endif
