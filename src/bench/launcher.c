/* SPDX-License-Identifier: Apache-2.0 */
/* Recognises launchers by their environment variables. */
#include "bench/launcher.h"

#include "moxie/group.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Variables that name a job together, at most. */
enum { JOB_VARIABLE_COUNT = 6 };

typedef struct launcher_row {
    const char *name;
    const char *needs; /* only this launcher sets it */
    const char *rank_variable;
    const char *other_rank_variable; /* wins where it is set; NULL: none */
    const char *size_variable;
    const char *local_rank_variable;               /* among the ranks of this host */
    const char *local_variable;                    /* ranks on this host; NULL: it does not say */
    const char *locals_variable;                   /* ranks on each host, "4(x2),3" */
    const char *host_variable;                     /* this host among all; NULL: it does not say */
    const char *hosts_variable;                    /* hosts; NULL: it does not say */
    const char *job_variables[JOB_VARIABLE_COUNT]; /* the first that is set names the job; all of
                                                      them together are the job's alone */
} launcher_row_t;

/* In this order: torchrun is started inside of Slurm's steps, and mpirun inside of its jobs. */
static const launcher_row_t launchers[] = {
    {.name = "torchrun",
     .needs = "TORCHELASTIC_RUN_ID",
     .rank_variable = "RANK",
     .size_variable = "WORLD_SIZE",
     .local_rank_variable = "LOCAL_RANK",
     .local_variable = "LOCAL_WORLD_SIZE",
     .host_variable = "GROUP_RANK",
     .hosts_variable = "GROUP_WORLD_SIZE",
     .job_variables = {"MASTER_PORT", "MASTER_ADDR", "TORCHELASTIC_RUN_ID",
                       "TORCHELASTIC_RESTART_COUNT"}},
    {.name = "mpirun",
     .needs = "OMPI_COMM_WORLD_SIZE",
     .rank_variable = "OMPI_COMM_WORLD_RANK",
     .size_variable = "OMPI_COMM_WORLD_SIZE",
     .local_rank_variable = "OMPI_COMM_WORLD_LOCAL_RANK",
     .local_variable = "OMPI_COMM_WORLD_LOCAL_SIZE",
     /* The number of a job is short: the server's address and folder tell two jobs apart. */
     .job_variables = {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMIX_SERVER_URI2",
                       "PMIX_SERVER_TMPDIR", "OMPI_MCA_orte_hnp_uri"}},
    {.name = "srun",
     .needs = "SLURM_STEP_ID",
     .rank_variable = "SLURM_PROCID",
     .other_rank_variable = "PMIX_RANK",
     .size_variable = "SLURM_NTASKS",
     .local_rank_variable = "SLURM_LOCALID",
     .locals_variable = "SLURM_STEP_TASKS_PER_NODE",
     .host_variable = "SLURM_NODEID",
     .hosts_variable = "SLURM_STEP_NUM_NODES",
     .job_variables = {"SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE", "SLURM_CLUSTER_NAME",
                       "SLURM_RESTART_COUNT", "SLURM_SRUN_COMM_PORT"}},
    {.name = "torchrun",
     .needs = "RANK",
     .rank_variable = "RANK",
     .size_variable = "WORLD_SIZE",
     .local_rank_variable = "LOCAL_RANK",
     .local_variable = "LOCAL_WORLD_SIZE",
     .host_variable = "GROUP_RANK",
     .hosts_variable = "GROUP_WORLD_SIZE",
     .job_variables = {"MASTER_PORT", "MASTER_ADDR"}},
};

/* From here up Slurm numbers steps that are no launched ranks: a batch script, a shell. */
static const uint64_t srun_step_special = UINT64_C(0xFFFFFFF0);

/* Of FNV-1a. */
static const uint64_t hash_basis = UINT64_C(0xcbf29ce484222325);

/* A whole number in [least, most] of an environment variable. */
static bool read_number(const char *variable, long least, long most, int32_t *number,
                        failure_t *failure)
{
    const char *text = getenv(variable);
    char *end = NULL;
    errno = 0;
    long value = isdigit((unsigned char)text[0]) ? strtol(text, &end, 10) : -1;
    if (value < least || value > most || errno != 0 || *end != '\0') {
        return failure_set(failure, EXIT_USAGE,
                           "environment variable %s: '%.100s' is not a number from %ld to %ld",
                           variable, text, least, most);
    }
    *number = (int32_t)value;
    return true;
}

static bool is_set(const char *variable)
{
    return variable != NULL && getenv(variable) != NULL;
}

static bool has_started_us(const launcher_row_t *row)
{
    const char *value = getenv(row->needs);
    if (value == NULL || !is_set(row->rank_variable) || !is_set(row->size_variable)) {
        return false;
    }
    return strcmp(row->needs, "SLURM_STEP_ID") != 0 ||
           strtoull(value, NULL, 10) < srun_step_special;
}

/* Ranks of this host, of a list as "4(x2),3": two hosts have four, the third has three. */
static bool read_locals(const char *variable, launcher_t *launcher, failure_t *failure)
{
    const char *text = getenv(variable);
    const char *at = text;
    int32_t hosts_left = launcher->host_index;
    while (isdigit((unsigned char)*at)) {
        char *end = NULL;
        long count = strtol(at, &end, 10);
        long host_count = 1;
        if (strncmp(end, "(x", 2) == 0 && isdigit((unsigned char)end[2])) {
            host_count = strtol(end + 2, &end, 10);
            end += *end == ')';
        }
        if (count < 1 || count > launcher->rank_count || host_count < 1 ||
            (*end != ',' && *end != '\0')) {
            break;
        }
        if (hosts_left < host_count) {
            launcher->local_count = (int32_t)count;
            return true;
        }
        hosts_left -= (int32_t)host_count;
        at = end + (*end == ',');
    }
    return failure_set(failure, EXIT_USAGE,
                       "environment variable %s: '%.100s' does not say how many tasks host %d has",
                       variable, text, launcher->host_index);
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    do { /* the NUL too, which keeps texts apart */
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    } while (*text++ != '\0');
    return hash;
}

/* Names the job: readable, and with a hash (FNV-1a) of everything that tells it from others. */
static bool name_job(const launcher_row_t *row, launcher_t *out, failure_t *failure)
{
    uint64_t hash = hash_basis;
    const char *readable = NULL;
    for (int32_t i = 0; i < JOB_VARIABLE_COUNT; i++) {
        const char *text = is_set(row->job_variables[i]) ? getenv(row->job_variables[i]) : "";
        readable = readable == NULL && text[0] != '\0' ? text : readable;
        hash = hash_text(hash, text);
    }
    if (readable == NULL) {
        return failure_set(failure, EXIT_USAGE,
                           "environment variable %s is set and %s is not: the ranks cannot tell "
                           "their job from another",
                           row->size_variable, row->job_variables[0]);
    }
    (void)snprintf(out->job, sizeof(out->job), "%s-%.24s-%016" PRIx64, row->name, readable, hash);
    for (char *c = out->job; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr("-_.", *c) == NULL) {
            *c = '_';
        }
    }
    return true;
}

/* The same job on one of its hosts: what several hosts share, a file system say, is no help. */
static void name_job_on(launcher_t *launcher, const char *host)
{
    char *hash = strrchr(launcher->job, '-');
    if (hash != NULL) { /* a single rank has no name */
        (void)snprintf(hash, sizeof(launcher->job) - (size_t)(hash - launcher->job), "-%016" PRIx64,
                       hash_text(hash_text(hash_basis, launcher->job), host));
    }
}

/* Who started this process; NULL: nobody. */
static const launcher_row_t *find_row(void)
{
    for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
        if (has_started_us(&launchers[i])) {
            return &launchers[i];
        }
    }
    return NULL;
}

bool launcher_find(launcher_t *out, failure_t *failure)
{
    const launcher_row_t *row = find_row();
    *out = (launcher_t){.rank_count = 1, .host_index = -1};
    if (row == NULL) {
        return true;
    }
    const char *rank_variable =
        is_set(row->other_rank_variable) ? row->other_rank_variable : row->rank_variable;
    out->name = row->name;
    out->size_variable = row->size_variable;
    if (!read_number(row->size_variable, 1, MOXIE_RANK_COUNT_MAX, &out->rank_count, failure) ||
        !read_number(rank_variable, 0, out->rank_count - 1L, &out->rank, failure)) {
        return false;
    }
    if (is_set(row->local_variable) &&
        !read_number(row->local_variable, 1, out->rank_count, &out->local_count, failure)) {
        return false;
    }
    if (is_set(row->hosts_variable) &&
        !read_number(row->hosts_variable, 1, INT32_MAX, &out->host_count, failure)) {
        return false;
    }
    return out->rank_count == 1 || name_job(row, out, failure);
}

bool launcher_narrow(launcher_t *launcher, failure_t *failure)
{
    const launcher_row_t *row = find_row();
    char host[HOST_NAME_MAX + 1] = "";
    if (row == NULL) {
        return true;
    }
    if (is_set(row->host_variable) &&
        !read_number(row->host_variable, 0, INT32_MAX, &launcher->host_index, failure)) {
        return false;
    }
    if (is_set(row->locals_variable) && launcher->host_index >= 0 &&
        !read_locals(row->locals_variable, launcher, failure)) {
        return false;
    }
    if (launcher->local_count == 0 && launcher->host_count <= 1) {
        launcher->local_count = launcher->rank_count;
    }
    if (launcher->local_count == 0 ||
        (launcher->local_count != launcher->rank_count && !is_set(row->local_rank_variable))) {
        return failure_set(failure, EXIT_USAGE,
                           "the environment of %s does not say which of its %d ranks are on this "
                           "host",
                           launcher->name, launcher->rank_count);
    }
    if (launcher->local_count != launcher->rank_count &&
        !read_number(row->local_rank_variable, 0, launcher->local_count - 1L, &launcher->rank,
                     failure)) {
        return false;
    }
    launcher->rank_count = launcher->local_count;
    launcher->host_count = 1;
    (void)gethostname(host, sizeof(host) - 1);
    name_job_on(launcher, host);
    return true;
}

bool launcher_check_hosts(const launcher_t *launcher, failure_t *failure)
{
    if (launcher->host_count > 1) {
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "exchange across hosts comes later: %s started %d ranks on %d hosts",
                           launcher->name, launcher->rank_count, launcher->host_count);
    }
    if (launcher->local_count > 0 && launcher->local_count < launcher->rank_count) {
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "exchange across hosts comes later: %s started %d ranks, only %d of "
                           "them on this host",
                           launcher->name, launcher->rank_count, launcher->local_count);
    }
    return true;
}
