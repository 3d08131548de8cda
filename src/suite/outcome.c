/* SPDX-License-Identifier: Apache-2.0 */
/* Judges jobs. */
#include "suite/outcome.h"

#include <stdarg.h>
#include <string.h>

static void set(outcome_t *out, const char *status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void set(outcome_t *out, const char *status, const char *format, ...)
{
    va_list values;
    out->status = status;
    va_start(values, format);
    (void)vsnprintf(out->reason, sizeof(out->reason), format, values);
    va_end(values);
}

static int32_t count_groups(const json_t *groups, bool is_verified)
{
    size_t index;
    const json_t *group;
    int32_t count = 0;
    json_array_foreach(groups, index, group)
    {
        count += json_is_true(json_object_get(group, "verified")) == is_verified;
    }
    return count;
}

/* What Slurm calls completed. */
static void judge_results(const json_t *groups, int32_t group_count, outcome_t *out)
{
    int32_t verified_count = count_groups(groups, true);
    if (verified_count == group_count)
        set(out, "passed", "%s", "");
    else
        set(out, "failed", "the job completed, but %d of %d nodes left verified results",
            verified_count, group_count);
}

/* The contract's exit codes reach the script's end through srun. */
static void judge_failure(const batch_end_t *end, const json_t *groups, const char *words,
                          outcome_t *out)
{
    char how[64];
    const char *status = "failed";
    const char *between = words[0] == '\0' ? "" : ": ";
    const slurm_job_t *job = &end->slurm;
    if (job->signal != 0)
        (void)snprintf(how, sizeof(how), "signal %d ended it", job->signal);
    else
        (void)snprintf(how, sizeof(how), "exit code %d", job->exit_code);
    if (job->exit_code == EXIT_USAGE)
        status = "refused";
    else if (job->exit_code == EXIT_PEER)
        status = "lost";
    else if (job->exit_code == EXIT_UNAVAILABLE)
        status = "unsupported";
    else if (count_groups(groups, false) > 0)
        status = "mismatch";
    set(out, status, "%s%s%s", how, between, words);
}

static void judge_cancelled(const batch_end_t *end, outcome_t *out)
{
    if (end->ended_by != NULL)
        set(out, "ended_early", "it was ended with %s, as end_post_comp says", end->ended_by);
    else
        set(out, "cancelled", "job %lld was cancelled%s", (long long)end->id,
            end->slurm.nodes == NULL ? " before it started" : "");
}

/* Slurm calls a job OUT_OF_MEMORY only when its script was killed for it. When it was a step, as
 * that of the ranks, slurmstepd alone says so, and the job fails, is cancelled with the step, or
 * waits for it up to the time limit. */
static bool is_out_of_memory(const batch_end_t *end, const complaint_t *complaint)
{
    const char *state = end->slurm.state;
    bool is_cut_short = strcmp(state, "FAILED") == 0 || strcmp(state, "TIMEOUT") == 0 ||
                        (strcmp(state, "CANCELLED") == 0 && end->ended_by == NULL);
    return strcmp(state, "OUT_OF_MEMORY") == 0 || (is_cut_short && complaint->memory[0] != '\0');
}

static void judge_memory(const batch_end_t *end, const char *said, outcome_t *out)
{
    set(out, "out_of_memory", "job %lld took more memory than it was given%s%s", (long long)end->id,
        said[0] == '\0' ? "" : ": ", said);
}

void outcome_judge(const batch_end_t *end, const json_t *groups, int32_t group_count,
                   const complaint_t *complaint, outcome_t *out)
{
    const slurm_job_t *job = &end->slurm;
    long long id = (long long)end->id;
    if (end->why_left != NULL)
        set(out, "not_run", "%s", end->why_left);
    else if (end->why_never != NULL)
        set(out, "not_started", "%s", end->why_never);
    else if (strcmp(job->state, "COMPLETED") == 0)
        judge_results(groups, group_count, out);
    else if (is_out_of_memory(end, complaint))
        judge_memory(end, complaint->memory, out);
    else if (strcmp(job->state, "FAILED") == 0)
        judge_failure(end, groups, complaint->words, out);
    else if (strcmp(job->state, "TIMEOUT") == 0)
        set(out, "timed_out", "job %lld passed its time limit after %lld s", id,
            (long long)job->elapsed_s);
    else if (strcmp(job->state, "CANCELLED") == 0)
        judge_cancelled(end, out);
    else if (strcmp(job->state, "PREEMPTED") == 0)
        set(out, "cancelled", "job %lld had to make room for another one", id);
    else if (strcmp(job->state, "NODE_FAIL") == 0)
        set(out, "node_lost", "a node of %s went down while job %lld ran",
            job->nodes == NULL ? "the cluster" : job->nodes, id);
    else if (strcmp(job->state, "BOOT_FAIL") == 0)
        set(out, "not_started", "no node of job %lld could be started", id);
    else if (strcmp(job->state, "DEADLINE") == 0)
        set(out, "not_started", "job %lld passed its deadline", id);
    else if (job->state[0] == '\0')
        set(out, "failed", "Slurm does not know job %lld any more, and cannot say how it ended",
            id);
    else
        set(out, "failed", "job %lld ended as %s", id, job->state);
}
