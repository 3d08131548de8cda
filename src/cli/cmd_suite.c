/* SPDX-License-Identifier: Apache-2.0 */
/* moxie suite: hands over to verify, run, exec or node. */
#include "bench/suggest.h"
#include "cli/cli.h"

#include <argp.h>
#include <stdio.h>
#include <string.h>

typedef struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
} verb_t;

static const verb_t verbs[] = {{"verify", cmd_suite_verify},
                               {"run", cmd_suite_run},
                               {"exec", cmd_suite_exec},
                               {"node", cmd_suite_node}};

enum { VERB_COUNT = sizeof(verbs) / sizeof(verbs[0]) };

static void refuse_verb(const struct argp_state *state, const char *name)
{
    suggestion_t suggestion = {.word = name};
    for (int i = 0; i < VERB_COUNT; i++)
        suggestion_offer(&suggestion, verbs[i].name);
    if (suggestion.nearest != NULL)
        argp_error(state, "there is no '%s', is it '%s'?", name, suggestion.nearest);
    else
        argp_error(state, "there is no '%s', only verify, run, exec and node", name);
}

static error_t take(int key, char *argument, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_ARG:
        refuse_verb(state, argument);
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_state_help(state, stderr, ARGP_HELP_STD_USAGE);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int cmd_suite(int argc, char **argv)
{
    static char name[48];
    static const struct argp argp = {
        .parser = take,
        .args_doc = "verify PATH...\nrun --test-scenario FILE\nexec CONFIG [BACKEND]\n"
                    "node DIR",
        .doc = "Runs benchmark suites written for CloudAI: tests, scenarios and systems in TOML.\v"
               "  verify   find every mistake in files and folders\n"
               "  run      run a scenario on this machine or under Slurm\n"
               "  exec     be the benchmark that CloudAI's script starts\n"
               "  node     describe a node of a Slurm job\n\n"
               "`moxie suite verify --help' and so on tell the options.",
    };
    for (int i = 0; argc > 1 && i < VERB_COUNT; i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            (void)snprintf(name, sizeof(name), "%s %s", argv[0], verbs[i].name);
            argv[1] = name;
            return verbs[i].run(argc - 1, argv + 1);
        }
    }
    (void)argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, NULL);
    return EXIT_USAGE;
}
