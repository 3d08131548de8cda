/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `moxie bench`, made from the table of options. */
#ifndef MOXIE_CLI_FLAGS_H
#define MOXIE_CLI_FLAGS_H

#include "bench/options.h"

enum { FLAGS_HELP_BYTES = 512 };

/* The help of an option's flag, with its default. */
void flags_help(option_id_t id, char help[FLAGS_HELP_BYTES]);

/*
 * Reads flags into the options. Ends the program for --help and --version, and with exit code 2
 * for flags that there are not.
 */
bool flags_read(options_t *options, int argc, char **argv, failure_t *failure);

#endif
