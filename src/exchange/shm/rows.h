/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Row kernels: copying, summing, scaling and multiplying rows, compiled once an instruction set
 * from the same source (rows_kernels.h) and chosen at run time by cpuid.
 */
#ifndef MOXIE_EXCHANGE_SHM_ROWS_H
#define MOXIE_EXCHANGE_SHM_ROWS_H

#include "moxie/dtype.h"
#include "moxie/route.h"

#include <stddef.h>
#include <stdint.h>

/* The rows that make one token's output, ascending by (rank, slot). */
typedef struct rows_sum {
    const void *rows[MOXIE_TOPK_MAX];
    float weights[MOXIE_TOPK_MAX];
    unsigned char ends_partial[MOXIE_TOPK_MAX]; /* 1: the last row of its rank */
    int32_t count;
} rows_sum_t;

/* Element types of a sum. */
typedef struct rows_types {
    moxie_dtype_t in;
    moxie_dtype_t wire;
    moxie_dtype_t out;
    int is_plain;    /* every partial is one row of weight 1 that its wire type holds exactly */
    int is_streamed; /* the result goes past the caches where it is aligned */
} rows_types_t;

typedef struct rows_kernels {
    const char *name;

    /* Copies past the caches; rows_fence() before anyone is told. */
    void (*copy_stream)(void *destination, const void *source, size_t bytes);

    /*
     * out = Σ over ranks of round_wire(Σ fmaf(weight, row)), in fp32, rounded once. Fetches the
     * rows of `next` meanwhile: rows lie a page apart, where the processor's own prefetching stops.
     */
    void (*sum)(const rows_sum_t *terms, const rows_sum_t *next, const rows_types_t *types,
                void *out, size_t columns);

    /* destination = weight · source, one rounding. */
    void (*scale)(void *destination, const void *source, float weight, moxie_dtype_t dtype,
                  size_t columns);

    /* 256 strided partials, then pairwise halving. Fetches the row `next`, when not NULL. */
    float (*dot)(const void *a, const void *b, const void *next, moxie_dtype_t dtype,
                 size_t columns);

    /* bf16 to fp8 with scales, as moxie_scale_type_t says; `row` begins with a group. Writes
     * moxie_scale_words(type, columns) words. */
    void (*quantise)(const void *row, size_t columns, moxie_scale_type_t type, uint8_t *fp8,
                     uint32_t *words);
} rows_kernels_t;

extern const rows_kernels_t rows_portable;
extern const rows_kernels_t rows_avx2;
extern const rows_kernels_t rows_avx512;

/* Which kernels: the values of the knob row_kernels. */
typedef enum rows_level {
    ROWS_BEST = 0,
    ROWS_PORTABLE = 1,
    ROWS_AVX2 = 2,
    ROWS_AVX512 = 3,
} rows_level_t;

/* The kernels of a level, or the best ones; NULL when this processor does not run them. */
const rows_kernels_t *rows_select(rows_level_t level);

/* Makes streamed copies visible before what is stored next. */
void rows_fence(void);

/* The floating-point modes that the arithmetic is defined in, whatever the caller has set. */
typedef struct rows_modes {
    uint32_t saved;
} rows_modes_t;

rows_modes_t rows_enter_modes(void);
void rows_leave_modes(rows_modes_t modes);

#endif
