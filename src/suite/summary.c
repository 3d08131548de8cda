/* SPDX-License-Identifier: Apache-2.0 */
/* Makes, counts and prints the record of a suite. */
#include "suite/summary.h"

#include "bench/text_json.h"
#include "moxie/version.h"
#include "suite/groups.h"
#include "suite/tree.h"

#include <string.h>

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static long long integer_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* Whether a run has several nodes, or, on this machine, one that the scenario names: it is
 * simulated. */
static bool has_nodes_to_note(const suite_session_t *session)
{
    const scenario_t *scenario = &session->scenario;
    for (int32_t i = 0; i < scenario->entry_count; i++) {
        const entry_t *entry = &scenario->entries[i];
        for (int32_t at = 0; at < entry_node_count_values(entry); at++)
            if ((entry->has_nodes && !session->is_slurm) || entry_node_count(entry, at) > 1)
                return true;
    }
    return false;
}

static void add_slurm_notes(json_t *notes, const suite_session_t *session)
{
    if (has_nodes_to_note(session))
        json_array_append_new(notes, json_string(groups_note));
    if (session->cluster_missing[0] != '\0')
        json_array_append_new(notes, json_sprintf("Slurm could not be asked, so groups have all "
                                                  "their nodes: %s",
                                                  session->cluster_missing));
}

/* What a reader should know before he compares. */
static json_t *notes_json(const suite_session_t *session)
{
    json_t *notes = json_array();
    if (session->ranks_per_node > 0)
        json_array_append_new(notes, json_sprintf("%d ranks a node: %s", session->ranks_per_node,
                                                  session->ranks_from));
    else
        json_array_append_new(notes, json_sprintf("ranks of a node: %s", session->ranks_from));
    if (session->is_slurm) {
        add_slurm_notes(notes, session);
        return notes;
    }
    if (has_nodes_to_note(session))
        json_array_append_new(
            notes, json_sprintf("the nodes are simulated: all ranks run on %s", session->host));
    if (session->system != NULL)
        json_array_append_new(notes, json_string("--local: nothing is submitted to Slurm, the "
                                                 "tests run on this machine"));
    return notes;
}

json_t *summary_make(const suite_session_t *session, int32_t run_count, time_t start)
{
    char stamp[STAMP_BYTES];
    const suite_request_t *request = session->request;
    json_t *arguments = json_array();
    tree_stamp(start, stamp);
    for (int32_t i = 0; i < request->argument_count; i++)
        json_array_append_new(arguments, text_json(request->arguments[i]));
    return json_pack("{s:s,s:s,s:{s:o,s:o,s:o},s:o,s:s,s:b,s:i,s:o,s:O,s:s,s:[],s:n}", "schema",
                     "moxie.suite/1", "scenario", session->scenario.name, "files", "scenario",
                     text_json(request->scenario_path), "tests_dir", text_json(request->tests_dir),
                     "system", text_json(request->system_path), "command", arguments, "started",
                     stamp, "dry_run", request->is_dry, "runs", run_count, "notes",
                     notes_json(session), "machine", session->machine, "version",
                     moxie_version_text(), "tests", "baseline");
}

/* The figures of a call that are compared and shown. */
static json_t *call_json(const json_t *call)
{
    if (call == NULL)
        return json_null();
    return json_pack("{s:f,s:f,s:f,s:f}", "time_us",
                     number_at(json_object_get(call, "time_us"), "p50"), "logical_gbps",
                     number_at(call, "logical_gbps"), "wire_gbps", number_at(call, "wire_gbps"),
                     "ceiling_share", number_at(call, "ceiling_share"));
}

void summary_add(json_t *summary, const json_t *record)
{
    static const char *const kept[] = {"id",     "name",   "iteration", "step",  "folder",
                                       "status", "reason", "elapsed_s", "ranks", "parameters"};
    const json_t *bench = json_object_get(record, "bench");
    json_t *test = json_object();
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        if (json_object_get(record, kept[i]) != NULL)
            json_object_set(test, kept[i], json_object_get(record, kept[i]));
    json_object_set_new(test, "nodes",
                        json_incref(json_object_get(json_object_get(record, "nodes"), "count")));
    json_object_set_new(test, "backend",
                        text_json(json_string_value(json_object_get(bench, "backend"))));
    json_object_set_new(test, "verified",
                        json_boolean(json_is_true(json_object_get(bench, "verified"))));
    json_object_set_new(test, "dispatch", call_json(json_object_get(bench, "dispatch")));
    json_object_set_new(test, "combine", call_json(json_object_get(bench, "combine")));
    json_array_append_new(json_object_get(summary, "tests"), test);
}

static int64_t count_status(const json_t *summary, const char *status)
{
    size_t index;
    const json_t *test;
    int64_t count = 0;
    json_array_foreach(json_object_get(summary, "tests"), index, test)
    {
        count += strcmp(text_at(test, "status"), status) == 0;
    }
    return count;
}

int64_t summary_failed_count(const json_t *summary)
{
    return (int64_t)json_array_size(json_object_get(summary, "tests")) -
           count_status(summary, "passed") - count_status(summary, "planned") -
           count_status(summary, "ended_early") - count_status(summary, "not_run");
}

void summary_close(json_t *summary, time_t end)
{
    char stamp[STAMP_BYTES];
    int64_t left = integer_at(summary, "runs") + count_status(summary, "not_run") -
                   (int64_t)json_array_size(json_object_get(summary, "tests"));
    tree_stamp(end, stamp);
    json_object_set_new(summary, "ended", json_string(stamp));
    json_object_set_new(summary, "passed", json_integer(count_status(summary, "passed")));
    json_object_set_new(summary, "planned", json_integer(count_status(summary, "planned")));
    json_object_set_new(summary, "failed", json_integer(summary_failed_count(summary)));
    json_object_set_new(summary, "ended_early", json_integer(count_status(summary, "ended_early")));
    json_object_set_new(summary, "not_run", json_integer(left));
    json_object_set_new(summary, "complete", json_boolean(left == 0));
}

void summary_print_head(const json_t *summary, FILE *out)
{
    size_t index;
    const json_t *note;
    (void)fprintf(out, "moxie suite: %s%s\n", text_at(summary, "scenario"),
                  json_is_true(json_object_get(summary, "dry_run")) ? ", a dry run" : "");
    json_array_foreach(json_object_get(summary, "notes"), index, note)
    {
        (void)fprintf(out, "note      %s\n", json_string_value(note));
    }
    (void)fprintf(out, "\n%-28s %-12s %-9s %10s %9s %8s %9s\n", "test", "status", "", "time p50",
                  "logical", "wire", "share of");
    (void)fprintf(out, "%-28s %-12s %-9s %10s %9s %8s %9s\n", "", "", "", "ms", "GB/s", "GB/s",
                  "ceiling");
    (void)fflush(out);
}

static void print_call(const json_t *record, const char *operation, FILE *out)
{
    const json_t *call = json_object_get(json_object_get(record, "bench"), operation);
    (void)fprintf(out, "%-9s %10.3f %9.2f %8.2f %8.0f%%\n", operation,
                  number_at(json_object_get(call, "time_us"), "p50") / 1e3,
                  number_at(call, "logical_gbps"), number_at(call, "wire_gbps"),
                  100.0 * number_at(call, "ceiling_share"));
}

void summary_print_run(const json_t *record, FILE *out)
{
    const json_t *bench = json_object_get(record, "bench");
    const char *status = text_at(record, "status");
    const char *reason = text_at(record, "reason");
    (void)fprintf(out, "%-28s %-12s ", text_at(record, "folder"), status);
    if (json_is_object(bench)) {
        print_call(record, "dispatch", out);
        (void)fprintf(out, "%-28s %-12s ", "", "");
        print_call(record, "combine", out);
    } else if (strcmp(status, "planned") == 0) {
        if (json_is_integer(json_object_get(record, "ranks")))
            (void)fprintf(out, "%lld ranks: ", integer_at(record, "ranks"));
        (void)fprintf(out, "%s\n", text_at(record, "command"));
    } else {
        (void)fputc('\n', out);
    }
    if (reason[0] != '\0')
        (void)fprintf(out, "          %s\n", reason);
    (void)fflush(out);
}

static void print_baseline(const json_t *baseline, FILE *out)
{
    size_t index;
    const json_t *row;
    (void)fprintf(out, "\nagainst   %s\n", text_at(baseline, "folder"));
    json_array_foreach(json_object_get(baseline, "rows"), index, row)
    {
        const char *why = text_at(row, "why");
        (void)fprintf(out, "          %-24s %-9s ", text_at(row, "test"),
                      text_at(row, "operation"));
        if (why[0] != '\0')
            (void)fprintf(out, "not compared: %s\n", why);
        else
            (void)fprintf(out, "%.3f times the speed%s\n", number_at(row, "speed"),
                          json_is_true(json_object_get(row, "is_regression")) ? ", SLOWER" : "");
    }
}

void summary_print_end(const json_t *summary, const char *folder, FILE *out)
{
    const json_t *baseline = json_object_get(summary, "baseline");
    if (json_is_object(baseline))
        print_baseline(baseline, out);
    if (json_is_true(json_object_get(summary, "dry_run")))
        (void)fprintf(out, "\n%lld planned, %lld that cannot run\nfiles     are in %s\n",
                      integer_at(summary, "planned"), integer_at(summary, "failed"), folder);
    else
        (void)fprintf(out,
                      "\n%lld passed, %lld failed, %lld ended early, %lld not run\n"
                      "results   are in %s\n",
                      integer_at(summary, "passed"), integer_at(summary, "failed"),
                      integer_at(summary, "ended_early"), integer_at(summary, "not_run"), folder);
}
