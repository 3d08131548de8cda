/* SPDX-License-Identifier: Apache-2.0 */
/* Begins and writes the record of a run. */
#include "suite/run_record.h"

#include "bench/text_json.h"
#include "suite/command.h"
#include "suite/environment.h"
#include "suite/figures.h"
#include "suite/groups.h"
#include "suite/inputs.h"
#include "suite/results.h"
#include "suite/tree.h"

/* null: nobody knows it yet. */
static json_t *count_json(int32_t count)
{
    return count == 0 ? json_null() : json_integer(count);
}

static json_t *nodes_json(const suite_session_t *session, const job_t *job)
{
    json_t *names = json_array();
    bool is_known = job->entry->has_nodes || !session->is_slurm;
    for (int32_t node = 0; node < job->node_count && is_known; node++) {
        char name[300];
        inputs_node_name(job, node, name, sizeof(name));
        json_array_append_new(names, json_string(name));
    }
    return json_pack("{s:i,s:o,s:b,s:o,s:s}", "count", job->node_count, "names", names, "simulated",
                     !session->is_slurm && (job->entry->has_nodes || job->node_count > 1),
                     "ranks_per_node", count_json(session->ranks_per_node), "ranks_from",
                     session->ranks_from);
}

static json_t *dependencies_json(const suite_session_t *session, const entry_t *entry)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < entry->dependency_count; i++)
        json_array_append_new(
            list, json_pack("{s:s,s:s}", "type", dependency_name(entry->dependencies[i].type), "id",
                            session->scenario.entries[entry->dependencies[i].on].id));
    return list;
}

json_t *run_record_begin(const suite_session_t *session, const job_t *job, const char *status,
                         const char *reason)
{
    const entry_t *entry = job->entry;
    json_t *record =
        json_pack("{s:s,s:s,s:i,s:i,s:s,s:s,s:o,s:s,s:s,s:f,s:I}", "schema", "moxie.suite.run/1",
                  "id", entry->id, "iteration", job->iteration, "step", job->step, "folder",
                  job->folder, "status", status, "reason", text_json(reason), "name",
                  entry->test.name, "test_template_name", dialect_name(entry->test.dialect),
                  "weight", entry->weight, "time_limit_s", (json_int_t)entry->time_limit_s);
    json_object_set_new(record, "description", json_string(entry->test.description));
    json_object_set_new(record, "ranks", count_json(session->ranks_per_node * job->node_count));
    json_object_set_new(record, "nodes", nodes_json(session, job));
    if (session->is_slurm)
        json_object_set_new(record, "note",
                            job->node_count > 1 ? json_string(groups_note) : json_null());
    json_object_set_new(record, "dependencies", dependencies_json(session, entry));
    json_object_set_new(record, "parameters", command_parameters(job));
    json_object_set_new(record, "environment", environment_json(session, job));
    json_object_set_new(record, "keys", command_keys(session, job));
    return record;
}

static bool write_csv(const suite_session_t *session, const json_t *record, const char *folder,
                      failure_t *failure)
{
    static const char name[] = "report.csv";
    FILE *out = tree_open(folder, name, failure);
    if (out == NULL)
        return false;
    figures_csv_head(out);
    figures_csv_rows(session->scenario.name, record, out);
    return tree_close(out, folder, name, failure);
}

bool run_record_write(const suite_session_t *session, const json_t *record, const char *folder,
                      failure_t *failure)
{
    return write_csv(session, record, folder, failure) &&
           results_write_json(folder, "record.json", record, failure);
}
