/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing row kernels, and the processor state they need. */
#include "exchange/shm/rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* Masked exceptions, round to nearest, subnormals kept: the state a process starts with. */
#define MXCSR_DEFAULT 0x1F80u

const rows_kernels_t *rows_select(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        return &rows_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return &rows_avx2;
    }
    return &rows_portable;
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

const rows_kernels_t *rows_select(void)
{
    return &rows_portable;
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
