/* SPDX-License-Identifier: Apache-2.0 */
/* The batch script of a run under Slurm. */
#ifndef MOXIE_SUITE_BATCH_SCRIPT_H
#define MOXIE_SUITE_BATCH_SCRIPT_H

#include "suite/job.h"
#include "suite/session.h"

/* Writes FOLDER/cloudai_sbatch_script.sh; `folder` is absolute. No value in it means more than
 * itself, to bash and to sbatch. */
bool batch_script_write(const suite_session_t *session, const job_t *job, const char *folder,
                        failure_t *failure);

/* Variables that sbatch must not find: it puts them above what the script says, or would take more
 * than one job for it. Returns their number. */
enum { BATCH_SCRIPT_RIVAL_COUNT_MAX = 16 };
size_t batch_script_rivals(const suite_session_t *session, const job_t *job,
                           const char *names[BATCH_SCRIPT_RIVAL_COUNT_MAX]);

/* The command that starts the ranks, as the script has it, and what each of its tasks runs. The
 * caller's; NULL: no memory. */
char *batch_script_srun(const suite_session_t *session, const job_t *job, const char *folder);
char *batch_script_task(const suite_session_t *session, const job_t *job, const char *folder);

#endif
