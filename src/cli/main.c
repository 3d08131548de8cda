/* SPDX-License-Identifier: Apache-2.0 */
/* The program moxie: finds the subcommand and hands over. */
#include "cli/cli.h"
#include "moxie/version.h"

#include "bench/suggest.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct command {
    const char *name;
    const char *help;
    int (*run)(int argc, char **argv);
} command_t;

static const command_t commands[] = {
    {"info", "What works on this machine: backends, CPU, memory, settings", cmd_info},
    {"bench", "Measure dispatch and combine, verified against the reference", cmd_bench},
    {"tune", "Find the settings that are fastest here, and keep them", cmd_tune},
    {"report", "Show results in one HTML file, compared", cmd_report},
    {"suite", "Check and run suites of benchmarks that are written for CloudAI", cmd_suite},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static const command_t *find_command(const char *name)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void print_version(FILE *stream, struct argp_state *state)
{
    (void)state;
    (void)fprintf(stream, "moxie %s\n", moxie_version_text());
}

static void refuse_command(const struct argp_state *state, const char *name)
{
    suggestion_t suggestion = {.word = name};
    for (int i = 0; i < COMMAND_COUNT; i++)
        suggestion_offer(&suggestion, commands[i].name);
    if (suggestion.nearest != NULL)
        argp_error(state, "there is no command '%s', is it '%s'?", name, suggestion.nearest);
    else
        argp_error(state, "there is no command '%s'", name);
}

/* The index of the subcommand in argv. */
typedef struct choice {
    const command_t *command;
    int at;
} choice_t;

/* `moxie help CMD` is `moxie CMD --help`. */
static void choose_help(const struct argp_state *state, choice_t *choice)
{
    if (state->next >= state->argc) {
        argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
        return;
    }
    choice->command = find_command(state->argv[state->next]);
    if (choice->command == NULL)
        refuse_command(state, state->argv[state->next]);
}

static error_t take(int key, char *argument, struct argp_state *state)
{
    choice_t *choice = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        choice->at = state->next - 1;
        if (strcmp(argument, "help") == 0) {
            choose_help(state, choice);
        } else {
            choice->command = find_command(argument);
            if (choice->command == NULL)
                refuse_command(state, argument);
        }
        state->next = state->argc; /* the rest is the subcommand's */
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_state_help(state, stderr, ARGP_HELP_STD_USAGE);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static char *command_list(void)
{
    char *list = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&list, &bytes);
    if (stream == NULL)
        return NULL;
    (void)fputs("Expert parallelism in C: measures the exchange of Mixture-of-Experts layers on "
                "this machine.\v",
                stream);
    (void)fputs("Commands:\n\n", stream);
    for (int i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(stream, "  %-8s %s\n", commands[i].name, commands[i].help);
    (void)fputs("\n`moxie help CMD' tells the options of a command.\n\n"
                "Exit codes: 0 done; 1 ran and failed; 2 bad usage or input; 3 a peer was lost or "
                "a deadline passed; 77 not available here or not built yet.",
                stream);
    (void)fclose(stream);
    return list;
}

int cli_fail(const char *command, const failure_t *failure)
{
    (void)fprintf(stderr, "%s: %s\n", command, failure->sentence);
    return failure->exit_code;
}

/* Runs the subcommand under the name "moxie CMD", with `--help` where help was asked for. */
static int run_command(const choice_t *choice, int argc, char **argv)
{
    static char name[32];
    static char help[] = "--help";
    char *help_arguments[] = {name, help, NULL};
    (void)snprintf(name, sizeof(name), "moxie %s", choice->command->name);
    if (strcmp(argv[choice->at], "help") == 0)
        return choice->command->run(2, help_arguments);
    argv[choice->at] = name;
    return choice->command->run(argc - choice->at, argv + choice->at);
}

int main(int argc, char **argv)
{
    choice_t choice = {NULL, 0};
    char *doc = command_list();
    struct argp argp = {.parser = take, .args_doc = "COMMAND [OPTION...]", .doc = doc};
    argp_program_version_hook = print_version;
    argp_err_exit_status = EXIT_USAGE;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &choice) != 0 || choice.command == NULL)
        return EXIT_USAGE;
    free(doc);
    int exit_code = run_command(&choice, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        perror("moxie: standard output");
        return exit_code == EXIT_DONE ? EXIT_FAILED : exit_code;
    }
    return exit_code;
}
