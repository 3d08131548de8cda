/* SPDX-License-Identifier: Apache-2.0 */
/* moxie report: flags, the records, the page. */
#include "bench/record.h"
#include "cli/cli.h"
#include "report/collect.h"
#include "report/report.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEY_JSON = 256 };

/* Where the page goes when nobody says. */
static const char default_path[] = "report.html";

typedef struct request {
    const char **folders; /* [folder_count] within argv */
    int32_t folder_count;
    const char *path; /* NULL: not given */
    bool json;
} request_t;

static error_t take(int key, char *argument, struct argp_state *state)
{
    request_t *request = state->input;
    switch (key) {
    case 'o':
        if (argument[0] == '\0')
            argp_error(state, "-o: must not be empty");
        request->path = argument;
        return 0;
    case KEY_JSON:
        request->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (argument[0] == '\0')
            argp_error(state, "DIR: must not be empty");
        request->folders[request->folder_count++] = argument;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "DIR is missing: a folder of results");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int make(const request_t *request)
{
    failure_t failure = {.exit_code = EXIT_DONE};
    const char *path = request->path == NULL ? default_path : request->path;
    bool writes_page = !request->json || request->path != NULL;
    json_t *document = collect_folders(request->folders, request->folder_count, &failure);
    bool is_done = document != NULL && (!writes_page || report_write(document, path, &failure));
    if (is_done && request->json)
        (void)record_write(document, stdout);
    else if (is_done)
        (void)printf("report    is %s\n", path);
    json_decref(document);
    return is_done ? EXIT_DONE : cli_fail("moxie report", &failure);
}

int cmd_report(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"output", 'o', "FILE.html", 0, "Where the report is written (default: report.html)", 0},
        {"json", KEY_JSON, NULL, 0,
         "Put the data of the report on standard output; a file is written only with -o", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = take,
        .args_doc = "DIR...",
        .doc =
            "Makes one HTML file of the results in folders, which opens without a network: those "
            "of moxie suite run, moxie bench --output-dir and moxie tune, or folders of such "
            "folders. The same test or benchmark in several of them is compared, the last with "
            "the earlier ones.\v"
            "Exit codes: 0 done; 1 the report could not be written; 2 bad usage, or a folder "
            "without results; 77 this program was built without npm, and so without the page."};
    request_t request = {.folders = calloc((size_t)argc, sizeof(*request.folders))};
    if (request.folders == NULL || argp_parse(&argp, argc, argv, 0, NULL, &request) != 0) {
        free(request.folders);
        return EXIT_USAGE;
    }
    int exit_code = make(&request);
    free(request.folders);
    return exit_code;
}
