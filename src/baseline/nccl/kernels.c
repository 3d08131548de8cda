/* SPDX-License-Identifier: Apache-2.0 */
/* Embeds what kernels.cu was compiled into; the build says where that is. */
#include "baseline/nccl/kernels.h"

CUDA_IMAGE_EMBED(nccl_kernels_image, KERNELS_FILE);
