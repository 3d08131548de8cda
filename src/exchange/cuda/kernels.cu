/* SPDX-License-Identifier: Apache-2.0 */
/* All kernels: one translation unit, which becomes the image that kernels.h declares. */

/* The smallest kernel: shows that an image loads and runs. */
extern "C" __global__ void moxie_fill(unsigned *words, unsigned count, unsigned word)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        words[i] = word;
    }
}
