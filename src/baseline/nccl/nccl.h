/* SPDX-License-Identifier: Apache-2.0 */
/* The exchange that TorchTitan does by default, over NCCL, which is opened at run time. */
#ifndef MOXIE_BASELINE_NCCL_H
#define MOXIE_BASELINE_NCCL_H

#include "baseline/baseline.h"

/* The baseline's table; NULL, and why in `error`, when there is no NCCL. */
const baseline_table_t *nccl_baseline(char error[BASELINE_ERROR_BYTES]);

#endif
