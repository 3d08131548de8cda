/* SPDX-License-Identifier: Apache-2.0 */
/* moxie suite exec: the benchmark that CloudAI's scripts start. */
#include "bench/device.h"
#include "bench/stopping.h"
#include "cli/cli.h"
#include "cli/runner.h"
#include "suite/exec.h"

#include <argp.h>
#include <signal.h>
#include <stdlib.h>

enum { KEY_MODE = 256, KEY_OUTPUT_DIR, KEY_RANKS };

/* Where results go when nobody says. */
static const char default_folder[] = "results";

/* Checks a value as the option of moxie bench with the same name; its number. */
static int64_t take_option(option_id_t id, const char *text, struct argp_state *state)
{
    options_t options;
    failure_t failure;
    option_origin_t origin = {ORIGIN_FLAG, 0};
    if (!options_init(&options))
        argp_failure(state, EXIT_FAILED, 0, "not enough memory");
    if (!option_set_text(&options, id, origin, text, &failure))
        argp_error(state, "%s", failure.sentence);
    int64_t number = options.ranks;
    options_release(&options);
    return number;
}

static error_t take(int key, char *argument, struct argp_state *state)
{
    exec_request_t *request = state->input;
    switch (key) {
    case KEY_MODE:
        (void)take_option(OPTION_MODE, argument, state);
        request->mode = argument;
        return 0;
    case KEY_OUTPUT_DIR:
        if (argument[0] == '\0')
            argp_error(state, "--output-dir: must not be empty");
        request->output_dir = argument;
        return 0;
    case KEY_RANKS:
        request->rank_count = take_option(OPTION_RANKS, argument, state);
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1)
            argp_error(state, "'%s' is one argument too many", argument);
        *(state->arg_num == 0 ? &request->config_path : &request->backend) = argument;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "CONFIG is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option flags[] = {
    {"mode", KEY_MODE, "standard|low_latency", 0,
     "The mode, where CONFIG does not say it (default: standard)", 0},
    {"output-dir", KEY_OUTPUT_DIR, "DIR", 0,
     "Where the folder of results is made (default: results)", 0},
    {"ranks", KEY_RANKS, "N", 0,
     "Ranks of this node, when this process starts them (default: LOCAL_WORLD_SIZE, else one a "
     "GPU up to 8, else 4)",
     0},
    {0}};

static bool open_folder(void *ctx, const plan_t *plan, failure_t *failure)
{
    (void)plan;
    return exec_open(ctx, failure);
}

static bool publish(void *ctx, const plan_t *plan, const run_result_t *result, failure_t *failure)
{
    return exec_publish(ctx, plan, result, stdout, failure);
}

static void discard(void *ctx)
{
    exec_discard(ctx);
}

/* With stop signals blocked. */
static void run(const char *name, exec_t *exec, options_t *options, failure_t *failure)
{
    const runner_t runner = {.name = name,
                             .options = options,
                             .launcher = &exec->session.launcher,
                             .ctx = exec,
                             .open = open_folder,
                             .publish = publish,
                             .discard = discard};
    if (!exec_find_ranks(exec, failure)) {
        runner_tell(&runner, failure);
        return;
    }
    (void)exec_read(exec, options, stderr, failure);
    runner_run(&runner, failure);
}

int cmd_suite_exec(int argc, char **argv)
{
    static const struct argp argp = {
        .options = flags,
        .parser = take,
        .args_doc = "CONFIG [BACKEND]",
        .doc = "Measures what CONFIG, a config.yaml, asks for, in place of the benchmark that "
               "CloudAI's scripts start, and leaves its folder benchmark_... with results.json.\v"
               "BACKEND is auto, shm or cuda; names of libraries that CloudAI's benchmark measures "
               "(legacy, elastic, deepep ...) mean auto. Under srun, torchrun or mpirun the tasks "
               "of a node are the ranks, and a single one starts them. The ranks of each node are "
               "a group of their own. NUM_SMS of the environment is --sms of moxie bench. "
               "docs/cloudai.md has the keys, and how to mount Moxie into a container.\n\n"
               "Exit codes: 0 measured and verified; 1 failed, or not verified; 2 bad usage or "
               "input; 3 a peer was lost; 77 not available here."};
    exec_t *exec = calloc(1, sizeof(*exec));
    options_t options;
    failure_t failure = {.exit_code = EXIT_DONE};
    sigset_t stopping;
    if (exec == NULL || !options_init(&options)) {
        free(exec);
        return EXIT_FAILED;
    }
    exec->request.output_dir = default_folder;
    if (argp_parse(&argp, argc, argv, 0, NULL, &exec->request) != 0)
        failure.exit_code = EXIT_USAGE;
    device_prepare();
    stop_signals(&stopping); /* from here on they wait until nothing is left behind */
    (void)sigprocmask(SIG_BLOCK, &stopping, NULL);
    if (failure.exit_code == EXIT_DONE)
        run(argv[0], exec, &options, &failure);
    options_release(&options);
    exec_release(exec);
    free(exec);
    (void)fflush(stdout);
    if (failure.signal != 0) {
        (void)signal(failure.signal, SIG_DFL);
        (void)raise(failure.signal);
    }
    (void)sigprocmask(SIG_UNBLOCK, &stopping, NULL);
    return failure.exit_code;
}
