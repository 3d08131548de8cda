/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands. Each gets its own name in argv[0] and returns the exit code of the program. */
#ifndef MOXIE_CLI_CLI_H
#define MOXIE_CLI_CLI_H

#include "bench/failure.h"

int cmd_bench(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_tune(int argc, char **argv);

/* moxie suite, and its verify, run, exec and node. */
int cmd_suite(int argc, char **argv);
int cmd_suite_verify(int argc, char **argv);
int cmd_suite_run(int argc, char **argv);
int cmd_suite_exec(int argc, char **argv);
int cmd_suite_node(int argc, char **argv);

/* moxie tune list | show | export | import | forget. */
int cmd_tuning(int argc, char **argv);

/* Prints "moxie CMD: sentence" and returns the exit code. */
int cli_fail(const char *command, const failure_t *failure);

#endif
