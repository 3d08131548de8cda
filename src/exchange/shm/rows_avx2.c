/* SPDX-License-Identifier: Apache-2.0 */
/* Row kernels for AVX2 with FMA. A vector of 16 floats is two registers. */
#include <immintrin.h>

typedef float avx2_floats_t __attribute__((vector_size(64)));

typedef union avx2_pair {
    avx2_floats_t floats;
    __m256 half[2];
} avx2_pair_t;

static inline __attribute__((always_inline)) avx2_floats_t avx2_fma(avx2_floats_t w,
                                                                    avx2_floats_t y,
                                                                    avx2_floats_t acc)
{
    const avx2_pair_t a = {.floats = w};
    const avx2_pair_t b = {.floats = y};
    avx2_pair_t c = {.floats = acc};
    c.half[0] = _mm256_fmadd_ps(a.half[0], b.half[0], c.half[0]);
    c.half[1] = _mm256_fmadd_ps(a.half[1], b.half[1], c.half[1]);
    return c.floats;
}

static inline __attribute__((always_inline)) void avx2_stream(void *to, const void *from)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)from);
    const __m256i high = _mm256_loadu_si256((const __m256i *)from + 1);
    _mm256_stream_si256((__m256i *)to, low);
    _mm256_stream_si256((__m256i *)to + 1, high);
}

#define ROWS_KERNELS          rows_avx2
#define ROWS_NAME             "avx2"
#define ROWS_FMA(w, y, acc)   avx2_fma(w, y, acc)
#define ROWS_STREAM(to, from) avx2_stream(to, from)
#include "exchange/shm/rows_kernels.h"
