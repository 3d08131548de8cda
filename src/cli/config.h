/* SPDX-License-Identifier: Apache-2.0 */
/* Options from a --config file. */
#ifndef MOXIE_CLI_CONFIG_H
#define MOXIE_CLI_CONFIG_H

#include "bench/options.h"

/* Gives every option that no flag gave what the file says. Errors name file, line and key. */
bool config_read(options_t *options, failure_t *failure);

#endif
