/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the folder of a job, before and after. */
#include "suite/batch.h"

#include "bench/text_json.h"
#include "suite/batch_script.h"
#include "suite/complaint.h"
#include "suite/groups.h"
#include "suite/inputs.h"
#include "suite/metadata.h"
#include "suite/outcome.h"
#include "suite/results.h"
#include "suite/run_record.h"
#include "suite/tree.h"

#include <stdlib.h>
#include <string.h>

void batch_folder(const suite_session_t *session, const job_t *job, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%.*s/%.*s", PATH_MAX - 512, session->folder, 500, job->folder);
}

bool batch_prepare(const suite_session_t *session, const job_t *job, failure_t *failure)
{
    char folder[PATH_MAX];
    batch_folder(session, job, folder);
    char *task = batch_script_task(session, job, folder);
    if (task == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory for a command");
    bool is_written =
        tree_make(folder, failure) && inputs_write(session, job, folder, NULL, failure) &&
        batch_script_write(session, job, folder, failure) &&
        metadata_write_test(job, folder, task, "sbatch cloudai_sbatch_script.sh", failure);
    free(task);
    return is_written;
}

static json_t *slurm_json(const batch_end_t *end)
{
    const slurm_job_t *job = &end->slurm;
    return json_pack("{s:I,s:o,s:o,s:o,s:o,s:o,s:i,s:i}", "job_id", (json_int_t)end->id, "state",
                     text_json(job->state), "reason", text_json(job->reason), "nodes",
                     text_json(job->nodes), "start_time", text_json(job->start_time), "end_time",
                     text_json(job->end_time), "exit_code", job->exit_code, "signal", job->signal);
}

/* The names of the nodes that the job had, in place of those that it was to have. */
static void name_nodes(json_t *record, const char *nodes)
{
    char why[NODES_WHY_BYTES];
    node_list_t list = {0};
    json_t *names = json_array();
    if (nodes != NULL && nodes_add_hosts(&list, nodes, why))
        for (int32_t i = 0; i < list.count; i++)
            json_array_append_new(names, json_string(list.names[i]));
    if (json_array_size(names) > 0)
        json_object_set(json_object_get(record, "nodes"), "names", names);
    json_decref(names);
    nodes_release(&list);
}

/* What the ranks measured: of several groups the slowest one stands for all. */
static void add_groups(json_t *record, const suite_session_t *session, json_t *groups)
{
    const json_t *slowest = groups_slowest(groups);
    json_t *bench = json_object_get(slowest, "bench");
    json_t *traffic = json_object_get(slowest, "traffic");
    json_object_set(record, "bench", bench == NULL ? json_null() : bench);
    json_object_set(record, "traffic", traffic == NULL ? json_null() : traffic);
    json_object_set_new(record, "results",
                        text_json(json_string_value(json_object_get(slowest, "results"))));
    json_object_set(record, "groups", groups);
    if (session->ranks_per_node == 0 && bench != NULL)
        json_object_set_new(record, "ranks",
                            json_integer(json_integer_value(json_object_get(bench, "ranks")) *
                                         json_integer_value(json_object_get(
                                             json_object_get(record, "nodes"), "count"))));
}

static json_t *make_record(const suite_session_t *session, const job_t *job, const batch_end_t *end,
                           json_t *groups, const outcome_t *outcome)
{
    json_t *record = run_record_begin(session, job, outcome->status, outcome->reason);
    bool is_passed = strcmp(outcome->status, "passed") == 0;
    bool has_code = strcmp(end->slurm.state, "FAILED") == 0 && end->slurm.exit_code != 0;
    json_object_set_new(record, "started",
                        text_json(end->slurm.start_time[0] == '\0' ? NULL : end->slurm.start_time));
    json_object_set_new(record, "elapsed_s", json_real((double)end->slurm.elapsed_s));
    json_object_set_new(record, "exit_code",
                        json_integer(is_passed  ? EXIT_DONE
                                     : has_code ? end->slurm.exit_code
                                                : EXIT_FAILED));
    json_object_set_new(record, "slurm", slurm_json(end));
    name_nodes(record, end->slurm.nodes);
    add_groups(record, session, groups);
    return record;
}

static bool write_job(const batch_end_t *end, const char *srun, const char *task,
                      const json_t *record, const job_t *job, const char *folder,
                      failure_t *failure)
{
    json_t *steps = end->id == 0 ? json_array() : slurm_steps(end->id);
    metadata_job_t ended = {.job_id = end->id,
                            .state = end->slurm.state,
                            .start_time = end->slurm.start_time,
                            .end_time = end->slurm.end_time,
                            .elapsed_s = end->slurm.elapsed_s,
                            .exit_code =
                                (int)json_integer_value(json_object_get(record, "exit_code")),
                            .srun_command = srun,
                            .test_command = task,
                            .steps = steps};
    bool is_written = metadata_write_job(job, folder, &ended, failure);
    json_decref(steps);
    return is_written;
}

bool batch_conclude(const suite_session_t *session, const job_t *job, const batch_end_t *end,
                    json_t **record, failure_t *failure)
{
    char folder[PATH_MAX];
    complaint_t complaint;
    outcome_t outcome;
    batch_folder(session, job, folder);
    if (!complaint_read(folder, end->id, &complaint, failure))
        return false;
    bool is_completed = strcmp(end->slurm.state, "COMPLETED") == 0;
    json_t *groups = groups_read(folder, is_completed ? job->node_count : 0);
    outcome_judge(end, groups, job->node_count, &complaint, &outcome);
    char *srun = batch_script_srun(session, job, folder);
    char *task = batch_script_task(session, job, folder);
    *record = make_record(session, job, end, groups, &outcome);
    json_object_set_new(*record, "command", text_json(srun));
    bool is_written = write_job(end, srun, task, *record, job, folder, failure) &&
                      run_record_write(session, *record, folder, failure);
    json_decref(groups);
    free(srun);
    free(task);
    return is_written;
}

bool batch_plan(const suite_session_t *session, const job_t *job, json_t **record,
                failure_t *failure)
{
    char folder[PATH_MAX];
    batch_folder(session, job, folder);
    char *srun = batch_script_srun(session, job, folder);
    *record = run_record_begin(session, job, "planned", "");
    json_object_set_new(*record, "command", text_json(srun));
    free(srun);
    return results_write_json(folder, "record.json", *record, failure);
}
