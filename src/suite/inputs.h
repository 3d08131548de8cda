/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in the folder of a run before it starts. */
#ifndef MOXIE_SUITE_INPUTS_H
#define MOXIE_SUITE_INPUTS_H

#include "suite/command.h"

/* Writes config.yaml, env_vars.sh, hostfile.txt (when the scenario names nodes), and for a run on
 * this machine mapping-stdout.txt and cloudai_sbatch_script.sh, which repeats `command`. */
bool inputs_write(const suite_session_t *session, const job_t *job, const char *folder,
                  const char *command, failure_t *failure);

/* Calls take() with every environment variable of a run, in the order in which they are set. */
void inputs_each_variable(const suite_session_t *session, const job_t *job,
                          void (*take)(void *ctx, const char *name, const char *value), void *ctx);

/* The name of a node; nodes that nobody named are node0, node1 … */
void inputs_node_name(const job_t *job, int32_t node, char *out, size_t size);

#endif
