/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a run as a command that repeats it. */
#ifndef MOXIE_SUITE_COMMAND_TEXT_H
#define MOXIE_SUITE_COMMAND_TEXT_H

#include "bench/options.h"

/* "moxie bench --ranks 8 …" with the options that were given, quoted for a shell. To be freed;
 * NULL: no memory. */
char *command_text(const options_t *options);

#endif
