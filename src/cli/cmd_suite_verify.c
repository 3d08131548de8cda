/* SPDX-License-Identifier: Apache-2.0 */
/* moxie suite verify: every mistake in the files, on standard error or as JSON. */
#include "bench/record.h"
#include "bench/text_json.h"
#include "cli/cli.h"
#include "suite/verify.h"

#include <argp.h>
#include <stdlib.h>

enum { KEY_TESTS_DIR = 256, KEY_STRICT, KEY_JSON };

typedef struct request {
    verify_t verify;
    bool json;
} request_t;

static error_t take(int key, char *argument, struct argp_state *state)
{
    request_t *request = state->input;
    switch (key) {
    case KEY_TESTS_DIR:
        request->verify.tests_dir = argument;
        return 0;
    case KEY_STRICT:
        request->verify.is_strict = true;
        return 0;
    case KEY_JSON:
        request->json = true;
        return 0;
    case ARGP_KEY_ARGS: /* what is left of the command line */
        request->verify.paths = (const char *const *)state->argv + state->next;
        request->verify.path_count = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "name files or folders to verify");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_json(const sources_t *sources, mistakes_t *mistakes)
{
    json_t *files = json_array();
    for (size_t i = 0; i < sources->count; i++)
        if (sources->list[i]->is_named)
            json_array_append_new(files,
                                  json_pack("{s:o,s:s}", "path", text_json(sources->list[i]->path),
                                            "kind", verify_kind_name(sources->list[i]->kind)));
    json_t *document =
        json_pack("{s:s,s:b,s:o,s:o}", "schema", "moxie.suite.verify/1", "ok",
                  mistakes->error_count == 0, "files", files, "mistakes", mistakes_json(mistakes));
    (void)record_write(document, stdout);
    json_decref(document);
}

static void print_counts(const sources_t *sources, const mistakes_t *mistakes)
{
    size_t counts[SOURCE_OTHER + 1] = {0};
    for (size_t i = 0; i < sources->count; i++)
        counts[sources->list[i]->kind] += sources->list[i]->is_named;
    (void)printf("%zu test%s, %zu scenario%s, %zu system%s: %zu error%s, %zu warning%s\n",
                 counts[SOURCE_TEST], counts[SOURCE_TEST] == 1 ? "" : "s", counts[SOURCE_SCENARIO],
                 counts[SOURCE_SCENARIO] == 1 ? "" : "s", counts[SOURCE_SYSTEM],
                 counts[SOURCE_SYSTEM] == 1 ? "" : "s", mistakes->error_count,
                 mistakes->error_count == 1 ? "" : "s", mistakes->warning_count,
                 mistakes->warning_count == 1 ? "" : "s");
}

int cmd_suite_verify(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"tests-dir", KEY_TESTS_DIR, "DIR", 0,
         "Tests that scenarios name (default: those beside each scenario)", 0},
        {"strict", KEY_STRICT, NULL, 0, "Refuse also what Moxie understands and CloudAI does not",
         0},
        {"json", KEY_JSON, NULL, 0, "Put one JSON document on standard output", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = take,
        .args_doc = "PATH...",
        .doc = "Finds every mistake in tests, scenarios and systems; of folders, all files *.toml "
               "in them.\v"
               "Each mistake is a line FILE:LINE:COLUMN: error: KEY: what is wrong. Groups of "
               "nodes are looked for in the systems among the files; without one they are "
               "warnings.\n\nExit codes: 0 no error; 2 errors."};
    request_t request = {.json = false};
    sources_t sources = {0};
    mistakes_t mistakes = {0};
    if (argp_parse(&argp, argc, argv, 0, NULL, &request) != 0)
        return EXIT_USAGE;
    verify_files(&request.verify, &sources, &mistakes);
    mistakes_print(&mistakes, stderr);
    if (request.json)
        print_json(&sources, &mistakes);
    else
        print_counts(&sources, &mistakes);
    int exit_code = mistakes.error_count == 0 ? EXIT_DONE : EXIT_USAGE;
    mistakes_release(&mistakes);
    sources_release(&sources);
    return exit_code;
}
