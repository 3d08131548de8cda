/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend of a library that was built without its kernels. */
#include "exchange/backend.h"

#include <stdio.h>

static void probe(moxie_backend_info_t *out)
{
    snprintf(out->reason, sizeof(out->reason), "this build has no CUDA kernels: %s", CUDA_MISSING);
}

const backend_t cuda_backend = {.name = "cuda", .probe = probe};
