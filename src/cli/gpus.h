/* SPDX-License-Identifier: Apache-2.0 */
/* The GPUs of this machine, as `moxie info` shows them. */
#ifndef MOXIE_CLI_GPUS_H
#define MOXIE_CLI_GPUS_H

#include <jansson.h>

/*
 * {"missing": why there are none or "", "driver", "cuda", "devices":[…], "links":[…]}; a link is a
 * pair of devices. A new reference. Starts the driver, but makes no context.
 */
json_t *gpus_json(void);

/* The same for people, on standard output. */
void gpus_print(const json_t *gpus);

#endif
