/* SPDX-License-Identifier: Apache-2.0 */
/* What the CUDA backend is: so far a probe, which says what is missing. */
#include "exchange/backend.h"
#include "driver/cuda.h"
#include "exchange/cuda/kernels.h"

#include <stdio.h>

static void probe(moxie_backend_info_t *out)
{
    snprintf(out->reason, sizeof(out->reason), "%s",
             cuda() == NULL ? cuda_missing() : "the exchange on GPUs is not finished");
    snprintf(out->detail, sizeof(out->detail), "%zu bytes of kernels", cuda_kernels_image_bytes);
}

const backend_t cuda_backend = {.name = "cuda", .probe = probe};
