/* SPDX-License-Identifier: Apache-2.0 */
/* What a run was, in the files that CloudAI writes about its jobs. */
#ifndef MOXIE_SUITE_METADATA_H
#define MOXIE_SUITE_METADATA_H

#include "suite/job.h"
#include "suite/session.h"

#include <time.h>

/* A node; a text that is NULL is not known. */
typedef struct metadata_node {
    const char *host;
    const json_t *machine; /* bench/machine.h */
    const json_t *gpus;    /* as `moxie info` has them; NULL: not looked for */
    const char *cluster_name;
    const char *node_list;
    const char *num_nodes;
    const char *ntasks_per_node;
    const char *ntasks;
    const char *job_id;
} metadata_node_t;

/* How a run ended. */
typedef struct metadata_job {
    int64_t job_id;         /* without Slurm this process */
    const char *state;      /* in Slurm's words: "COMPLETED", "FAILED", "TIMEOUT" … */
    const char *start_time; /* 2026-11-22T08:30:00; "": it did not start */
    const char *end_time;
    int64_t elapsed_s;
    int exit_code;
    const char *srun_command; /* NULL: none */
    const char *test_command;
    const json_t *steps; /* of the job; NULL: none are known */
} metadata_job_t;

/* Room for a time as metadata_job_t has it. */
enum { METADATA_TIME_BYTES = 32 };

/* Writes a time of this machine's zone. */
void metadata_time(time_t when, char out[METADATA_TIME_BYTES]);

/* Writes FOLDER/node-HOST.toml, and makes the folder. */
bool metadata_write_node(const metadata_node_t *node, const char *folder, failure_t *failure);

/* Writes test-run.toml: the test with every default written out. */
bool metadata_write_test(const job_t *job, const char *folder, const char *command,
                         const char *full_command, failure_t *failure);

/* Writes slurm-job.toml. */
bool metadata_write_job(const job_t *job, const char *folder, const metadata_job_t *ended,
                        failure_t *failure);

#endif
