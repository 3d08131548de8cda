/* SPDX-License-Identifier: Apache-2.0 */
/* moxie suite run: flags, the suite, and its exit code. */
#include "bench/aside.h"
#include "bench/device.h"
#include "bench/record.h"
#include "bench/stopping.h"
#include "cli/cli.h"
#include "cli/gpus.h"
#include "suite/suite.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_SCENARIO = 256,
    KEY_TESTS_DIR,
    KEY_SYSTEM,
    KEY_OUTPUT_DIR,
    KEY_BACKEND,
    KEY_BASELINE,
    KEY_FAIL_BELOW,
    KEY_DRY_RUN,
    KEY_LOCAL,
    KEY_STRICT,
    KEY_JSON
};

/* Room for the description of GPUs. */
enum { GPUS_BYTES = 1 << 18 };

typedef struct reading {
    suite_request_t request;
    bool json;
} reading_t;

static void take_backend(suite_request_t *request, const char *word, struct argp_state *state)
{
    options_t options;
    failure_t failure;
    option_origin_t origin = {ORIGIN_FLAG, 0};
    if (!options_init(&options))
        argp_failure(state, EXIT_FAILED, 0, "not enough memory");
    if (!option_set_text(&options, OPTION_BACKEND, origin, word, &failure))
        argp_error(state, "%s", failure.sentence);
    request->backend = options.backend;
    request->backend_word = word;
    options_release(&options);
}

static void take_fail_below(suite_request_t *request, const char *text, struct argp_state *state)
{
    char *end = NULL;
    request->fail_below = strtod(text, &end);
    if (end == text || *end != '\0' || !(request->fail_below > 0.0 && request->fail_below <= 1.0))
        argp_error(state, "--fail-below: '%s' is no number above 0 and up to 1", text);
}

/* A path; an empty one is a mistake. */
static const char *take_path(const char *flag, const char *path, const struct argp_state *state)
{
    if (path[0] == '\0')
        argp_error(state, "%s: must not be empty", flag);
    return path;
}

static void check(const suite_request_t *request, const struct argp_state *state)
{
    if (request->scenario_path == NULL)
        argp_error(state, "--test-scenario FILE is missing");
    if (request->fail_below > 0.0 && request->baseline_dir == NULL)
        argp_error(state, "--fail-below needs --baseline");
}

static error_t take(int key, char *argument, struct argp_state *state)
{
    reading_t *reading = state->input;
    suite_request_t *request = &reading->request;
    switch (key) {
    case KEY_SCENARIO:
        request->scenario_path = take_path("--test-scenario", argument, state);
        return 0;
    case KEY_TESTS_DIR:
        request->tests_dir = take_path("--tests-dir", argument, state);
        return 0;
    case KEY_SYSTEM:
        request->system_path = take_path("--system-config", argument, state);
        return 0;
    case KEY_OUTPUT_DIR:
        request->output_dir = take_path("--output-dir", argument, state);
        return 0;
    case KEY_BASELINE:
        request->baseline_dir = take_path("--baseline", argument, state);
        return 0;
    case KEY_BACKEND:
        take_backend(request, argument, state);
        return 0;
    case KEY_FAIL_BELOW:
        take_fail_below(request, argument, state);
        return 0;
    case KEY_DRY_RUN:
        request->is_dry = true;
        return 0;
    case KEY_LOCAL:
        request->is_local = true;
        return 0;
    case KEY_STRICT:
        request->is_strict = true;
        return 0;
    case KEY_JSON:
        reading->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is no option", argument);
        return 0;
    case ARGP_KEY_END:
        check(request, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option flags[] = {
    {"test-scenario", KEY_SCENARIO, "FILE", 0, "The scenario to run", 0},
    {"tests-dir", KEY_TESTS_DIR, "DIR", 0,
     "Folder of the tests that it names (default: the scenario's)", 0},
    {"system-config", KEY_SYSTEM, "FILE", 0,
     "A Slurm cluster: partitions, groups of nodes, output_path, environment; the tests become its "
     "jobs",
     0},
    {"local", KEY_LOCAL, NULL, 0, "Run on this machine all the same, with simulated nodes", 0},
    {"output-dir", KEY_OUTPUT_DIR, "DIR", 0,
     "Where the folder of results is made (default: output_path of the system, else results)", 0},
    {"backend", KEY_BACKEND, "auto|shm|cuda", 0, "How the ranks reach each other (default: auto)",
     0},
    {"baseline", KEY_BASELINE, "DIR", 0, "Compare with the results of an earlier run", 0},
    {"fail-below", KEY_FAIL_BELOW, "SPEED", 0,
     "Fail when a call has less than so many times the earlier speed, 0.95 say", 0},
    {"dry-run", KEY_DRY_RUN, NULL, 0,
     "Check and plan everything, write what a run reads, run nothing", 0},
    {"strict", KEY_STRICT, NULL, 0, "Refuse also what Moxie understands and CloudAI does not", 0},
    {"json", KEY_JSON, NULL, 0,
     "Put the record of the suite on standard output, and the table on standard error", 0},
    {0}};

/* In a process of its own: this one is going to fork ranks. */
static void look_for_gpus(const void *in, void *out)
{
    (void)in;
    char *text = json_dumps(gpus_json(), JSON_COMPACT);
    if (text != NULL && strlen(text) < GPUS_BYTES)
        memcpy(out, text, strlen(text) + 1);
}

static json_t *find_gpus(void)
{
    char *text = calloc(1, GPUS_BYTES);
    json_t *gpus = NULL;
    if (text != NULL && aside_run(look_for_gpus, NULL, text, GPUS_BYTES))
        gpus = json_loads(text, 0, NULL);
    free(text);
    return gpus;
}

int cmd_suite_run(int argc, char **argv)
{
    static const struct argp argp = {
        .options = flags,
        .parser = take,
        .doc = "Runs a scenario, verified like moxie bench, and writes results, records and "
               "matrices into a folder of its own: on this machine, one test after the other, or, "
               "with a system, as jobs of Slurm.\v"
               "On this machine nodes are simulated: the ranks of a node are gpus_per_node of the "
               "system, else the GPUs here, else 4. Under Slurm all jobs are submitted at once and "
               "followed until none is left; Ctrl-C offers to cancel them, and without a terminal "
               "they are cancelled. A test that fails does not keep the others from running. "
               "docs/suite.md has the files and the formulas.\n\n"
               "Exit codes: 0 all passed; 1 a test failed, or is slower than --fail-below allows; "
               "2 bad usage or input; 77 not available here."};
    reading_t reading = {.request = {.argument_count = argc}};
    failure_t failure = {.exit_code = EXIT_DONE};
    json_t *record = NULL;
    sigset_t stopping;
    reading.request.arguments = (const char *const *)argv;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &reading) != 0)
        return EXIT_USAGE;
    device_prepare();
    stop_signals(&stopping); /* they wait for the next ranks, or the end of a test */
    (void)sigprocmask(SIG_BLOCK, &stopping, NULL);
    json_t *gpus = find_gpus();
    reading.request.gpus = gpus;
    bool is_done =
        suite_run(&reading.request, reading.json ? stderr : stdout, stderr, &record, &failure);
    if (reading.json && record != NULL)
        (void)record_write(record, stdout);
    if (!is_done && failure.sentence[0] != '\0')
        (void)cli_fail(argv[0], &failure);
    json_decref(record);
    json_decref(gpus);
    (void)fflush(stdout);
    if (failure.signal != 0) {
        (void)signal(failure.signal, SIG_DFL);
        (void)raise(failure.signal);
    }
    (void)sigprocmask(SIG_UNBLOCK, &stopping, NULL);
    return failure.exit_code;
}
