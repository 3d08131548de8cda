/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel that keeps everything in registers, or with a seed does not. */

#if defined(SEED_SPILL) || defined(SEED_LOCAL)
#define VALUE_COUNT 64
#else
#define VALUE_COUNT 8
#endif
#ifdef SEED_SPILL /* 2048 threads a multiprocessor leave 32 registers to each */
#define BOUNDS __launch_bounds__(1024, 2)
#else
#define BOUNDS
#endif

extern "C" __global__ void BOUNDS seeded(float *values, int at)
{
    float kept[VALUE_COUNT];
#pragma unroll
    for (int i = 0; i < VALUE_COUNT; i++) {
        kept[i] = values[i * 1024 + threadIdx.x];
    }
    __syncthreads();
#ifdef SEED_LOCAL
    values[0] = kept[at & (VALUE_COUNT - 1)]; /* registers have no index */
#endif
#pragma unroll
    for (int i = 0; i < VALUE_COUNT; i++) {
        values[i * at + threadIdx.x] = kept[i];
    }
}
