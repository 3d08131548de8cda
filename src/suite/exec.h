/* SPDX-License-Identifier: Apache-2.0 */
/* One measurement that a script of somebody else asks for: config.yaml, an environment, a folder
 * for the results (docs/suite.md). */
#ifndef MOXIE_SUITE_EXEC_H
#define MOXIE_SUITE_EXEC_H

#include "bench/link.h"
#include "bench/output.h"
#include "bench/plan.h"
#include "suite/command.h"
#include "suite/config_yaml.h"

/* What the script says. */
typedef struct exec_request {
    const char *config_path;
    const char *mode;       /* of a config.yaml that does not say it; NULL: standard */
    const char *backend;    /* NULL: auto */
    const char *output_dir; /* where the folder of results is made */
    int64_t rank_count;     /* of this node; 0: nobody says */
} exec_request_t;

/* A measurement, on one node of perhaps several. */
typedef struct exec {
    exec_request_t request;
    launcher_t launcher; /* who started this process; its ranks may be on several nodes */
    suite_request_t suite_request;
    suite_session_t session; /* its launcher has the ranks of this node only; name NULL: this
                                process starts them */
    config_yaml_t config;
    entry_t entry;
    job_t job;
    const char *backend_why; /* what became of a backend that is not Moxie's; NULL: it is */
    output_folder_t folder;
} exec_t;

/* Finds out which ranks are those of this node. */
bool exec_find_ranks(exec_t *exec, failure_t *failure);

/*
 * Reads everything, and gives the options, which are initialised, their values. What is wrong with
 * config.yaml is printed by the node's first rank.
 */
bool exec_read(exec_t *exec, options_t *options, FILE *mistakes, failure_t *failure);

/* The folder of results, before the run. */
bool exec_open(exec_t *exec, failure_t *failure);

/* Writes the results of a plan and prints them. Without verification there is no results.json, and
 * none of the lines that programs look for. */
bool exec_publish(exec_t *exec, const plan_t *plan, const run_result_t *result, FILE *out,
                  failure_t *failure);

/* Removes the folder if it has not been published. */
void exec_discard(exec_t *exec);

void exec_release(exec_t *exec);

#endif
