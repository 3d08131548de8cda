/* SPDX-License-Identifier: Apache-2.0 */
/* The library's kernels, compiled. */
#ifndef MOXIE_EXCHANGE_CUDA_KERNELS_H
#define MOXIE_EXCHANGE_CUDA_KERNELS_H

#include "driver/image.h"

CUDA_IMAGE_DECLARE(cuda_kernels_image);

#endif
