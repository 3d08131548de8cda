/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of the NCCL baseline, compiled. */
#ifndef MOXIE_BASELINE_NCCL_KERNELS_H
#define MOXIE_BASELINE_NCCL_KERNELS_H

#include "driver/image.h"

CUDA_IMAGE_DECLARE(nccl_kernels_image);

#endif
