/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing row kernels, and the processor state they need. */
#include "exchange/shm/rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* Masked exceptions, round to nearest, subnormals kept: the state a process starts with. */
#define MXCSR_DEFAULT 0x1F80u

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const rows_kernels_t *rows_select(rows_level_t level)
{
    if ((level == ROWS_BEST || level == ROWS_AVX512) && has_avx512()) {
        return &rows_avx512;
    }
    if ((level == ROWS_BEST || level == ROWS_AVX2) && has_avx2()) {
        return &rows_avx2;
    }
    return level == ROWS_BEST || level == ROWS_PORTABLE ? &rows_portable : NULL;
}

void rows_fence(void)
{
    _mm_sfence();
}

rows_modes_t rows_enter_modes(void)
{
    const rows_modes_t modes = {.saved = _mm_getcsr()};
    _mm_setcsr(MXCSR_DEFAULT);
    return modes;
}

void rows_leave_modes(rows_modes_t modes)
{
    _mm_setcsr(modes.saved);
}

#else
#include <fenv.h>
#include <stdatomic.h>

const rows_kernels_t *rows_select(rows_level_t level)
{
    return level == ROWS_BEST || level == ROWS_PORTABLE ? &rows_portable : NULL;
}

void rows_fence(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

rows_modes_t rows_enter_modes(void)
{
    const rows_modes_t modes = {.saved = (uint32_t)fegetround()};
    fesetround(FE_TONEAREST);
    return modes;
}

void rows_leave_modes(rows_modes_t modes)
{
    fesetround((int)modes.saved);
}
#endif
