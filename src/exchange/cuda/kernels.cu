/* SPDX-License-Identifier: Apache-2.0 */
/* All kernels of the CUDA backend, one image. */
#include "exchange/cuda/ceiling.cuh"
#include "exchange/cuda/combine.cuh"
#include "exchange/cuda/dispatch.cuh"
#include "exchange/cuda/dispatch_routing.cuh"
#include "exchange/cuda/slots_combine.cuh"
#include "exchange/cuda/slots_dispatch.cuh"
#include "exchange/cuda/update.cuh"
