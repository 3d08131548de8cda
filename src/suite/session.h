/* SPDX-License-Identifier: Apache-2.0 */
/* A suite under way: what all of its runs share. */
#ifndef MOXIE_SUITE_SESSION_H
#define MOXIE_SUITE_SESSION_H

#include "bench/launcher.h"
#include "bench/options.h"
#include "suite/scenario.h"

#include <jansson.h>
#include <limits.h>

/* What somebody asked for. */
typedef struct suite_request {
    const char *scenario_path;
    const char *tests_dir;    /* NULL: the scenario's folder */
    const char *system_path;  /* NULL: none */
    const char *output_dir;   /* NULL: the system's output_path, else "results" */
    const char *baseline_dir; /* an earlier run; NULL: none */
    double fail_below;        /* times the earlier speed; 0: slower is no failure */
    int64_t backend;          /* BACKEND_AUTO … */
    const char *backend_word; /* the same as it was written; NULL: nobody said */
    bool is_dry;              /* writes what a run would read, and runs nothing */
    bool is_local;            /* the ranks run here, whatever the system's scheduler is */
    bool is_strict;
    const char *const *arguments; /* [argument_count] the command line, for the record */
    int32_t argument_count;
    json_t *gpus; /* of this machine, for the record; NULL: not looked for */
} suite_request_t;

typedef struct suite_session {
    const suite_request_t *request;
    launcher_t launcher;
    const source_t *system; /* NULL: none */
    variables_t global_variables;
    scenario_t scenario;
    bool is_slurm;             /* runs are jobs of Slurm; else all ranks are on this machine */
    bool is_cuda;              /* of ranks on this machine */
    bool has_gpus;             /* of a cluster: jobs can ask for GPUs */
    char cluster_missing[512]; /* why a dry run could not ask Slurm; "" */
    bool has_progress;
    int32_t ranks_per_node; /* under Slurm 0: the nodes say */
    int32_t tasks_per_node; /* processes that Slurm starts; without it the ranks */
    const char *ranks_from; /* who says so: "gpus_per_node of the system file" … */
    char host[HOST_NAME_MAX + 1];
    char program[PATH_MAX]; /* under Slurm: this program, as the nodes find it */
    json_t *machine;
    char folder[PATH_MAX]; /* SCENARIO_time; under Slurm absolute */
} suite_session_t;

#endif
