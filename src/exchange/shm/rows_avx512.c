/* SPDX-License-Identifier: Apache-2.0 */
/* Row kernels for AVX-512. Not its BF16 conversions: they flush subnormals. */
#include <immintrin.h>

#define ROWS_KERNELS        rows_avx512
#define ROWS_NAME           "avx512"
#define ROWS_FMA(w, y, acc) ((floats_t)_mm512_fmadd_ps((__m512)(w), (__m512)(y), (__m512)(acc)))
#define ROWS_STREAM(to, from)                                                                      \
    _mm512_stream_si512((__m512i *)(void *)(to), _mm512_loadu_si512((const void *)(from)))
#include "exchange/shm/rows_kernels.h"
