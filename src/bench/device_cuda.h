/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU as a device of the benchmark. Only in a program that is built with CUDA. */
#ifndef MOXIE_BENCH_DEVICE_CUDA_H
#define MOXIE_BENCH_DEVICE_CUDA_H

#include "bench/device.h"

/* Opens the GPU device->ordinal for this thread; device->error says what failed. */
void device_cuda_open(device_t *device);

#endif
