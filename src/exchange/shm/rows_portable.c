/* SPDX-License-Identifier: Apache-2.0 */
/* Row kernels for any processor. */
#include <math.h>
#include <string.h>

typedef float portable_floats_t __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) portable_floats_t portable_fma(portable_floats_t w,
                                                                            portable_floats_t y,
                                                                            portable_floats_t acc)
{
    for (int lane = 0; lane < 16; lane++) {
        acc[lane] = fmaf(w[lane], y[lane], acc[lane]);
    }
    return acc;
}

#if defined(__x86_64__)
#include <emmintrin.h>

static inline __attribute__((always_inline)) void portable_stream(void *to, const void *from)
{
    for (int i = 0; i < 4; i++) {
        _mm_stream_si128((__m128i *)to + i, _mm_loadu_si128((const __m128i *)from + i));
    }
}
#else
static inline __attribute__((always_inline)) void portable_stream(void *to, const void *from)
{
    memcpy(to, from, 64);
}
#endif

#define ROWS_KERNELS          rows_portable
#define ROWS_NAME             "portable"
#define ROWS_FMA(w, y, acc)   portable_fma(w, y, acc)
#define ROWS_STREAM(to, from) portable_stream(to, from)
#include "exchange/shm/rows_kernels.h"
