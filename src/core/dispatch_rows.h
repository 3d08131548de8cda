/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rows of a dispatch are, at home, on the way and where they arrive: read from the
 * caller's structs and checked alike for every backend.
 */
#ifndef MOXIE_CORE_DISPATCH_ROWS_H
#define MOXIE_CORE_DISPATCH_ROWS_H

#include "core/route.h"
#include "moxie/exchange.h"

typedef struct dispatch_rows {
    moxie_dtype_t dtype;      /* at home */
    moxie_dtype_t wire_dtype; /* on the way and in recv_x */
    moxie_scale_type_t scale_type;
    int is_quantised;        /* on the way */
    int has_column_scales;   /* column-major */
    int64_t home_row_bytes;  /* of x */
    int64_t row_bytes;       /* of recv_x */
    int64_t scale_words;     /* of a row's scales, 32 bits each; 0: rows have none */
    int64_t scale_row_bytes; /* the same in bytes */
} dispatch_rows_t;

/* Refuses what no dispatch moves. The errors name `rank`, whose arguments these are. */
moxie_status_t dispatch_rows_read(const moxie_dispatch_in_t *in, const route_shape_t *shape,
                                  dispatch_rows_t *out);

/* Refuses scales that rows do not have, and lacking or misaligned ones where rows go or come. */
moxie_status_t dispatch_rows_check_scales(const dispatch_rows_t *rows, int32_t rank,
                                          const void *x_scales, int64_t token_count,
                                          const void *recv_scales, int64_t recv_row_count);

/* Bytes from the start of recv_scales to a row's word. `stride`: rows of a column; where there are
 * more rows, each so many have columns of their own. */
static inline size_t dispatch_rows_scale_offset(const dispatch_rows_t *rows, int64_t stride,
                                                int64_t row, int64_t word)
{
    const int64_t index = rows->has_column_scales
                              ? (row / stride * rows->scale_words + word) * stride + row % stride
                              : row * rows->scale_words + word;
    return (size_t)index * sizeof(uint32_t);
}

#endif
