/* SPDX-License-Identifier: Apache-2.0 */
/* Element types and scales of a dispatch. */
#include "core/dispatch_rows.h"

#include "core/error.h"

static moxie_status_t refuse_types(int32_t rank, moxie_dtype_t dtype, moxie_dtype_t wire_dtype)
{
    const int is_known = moxie_dtype_bytes(dtype) != 0 && moxie_dtype_bytes(wire_dtype) != 0;
    return error_set(is_known ? MOXIE_ERR_UNSUPPORTED : MOXIE_ERR_ARGUMENT,
                     "rank %d: rows of type %d (%s) cannot arrive as type %d (%s)", rank,
                     (int)dtype, moxie_dtype_name(dtype), (int)wire_dtype,
                     moxie_dtype_name(wire_dtype));
}

moxie_status_t dispatch_rows_read(const moxie_dispatch_in_t *in, const route_shape_t *shape,
                                  dispatch_rows_t *out)
{
    const moxie_dtype_t wire_dtype = in->wire_dtype == 0 ? in->dtype : in->wire_dtype;
    const int is_quantised = in->dtype == MOXIE_DTYPE_BF16 && wire_dtype == MOXIE_DTYPE_FP8_E4M3;
    *out = (dispatch_rows_t){
        .dtype = in->dtype,
        .wire_dtype = wire_dtype,
        .is_quantised = is_quantised,
        .home_row_bytes = shape->hidden * (int64_t)moxie_dtype_bytes(in->dtype),
        .row_bytes = shape->hidden * (int64_t)moxie_dtype_bytes(wire_dtype),
    };
    if (out->row_bytes == 0 || (wire_dtype != in->dtype && !is_quantised)) {
        return refuse_types(shape->rank, in->dtype, wire_dtype);
    }
    if (wire_dtype != MOXIE_DTYPE_FP8_E4M3) {
        return MOXIE_OK;
    }
    out->scale_type = in->scale_type;
    out->has_column_scales = in->scale_layout == MOXIE_SCALES_COLUMN_MAJOR;
    out->scale_words = moxie_scale_words(in->scale_type, shape->hidden);
    out->scale_row_bytes = out->scale_words * (int64_t)sizeof(uint32_t);
    if (out->scale_words == 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: scale_type %d is no type of scales",
                         shape->rank, (int)in->scale_type);
    }
    if (!out->has_column_scales && in->scale_layout != MOXIE_SCALES_ROW_MAJOR) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: scale_layout %d is no layout of scales",
                         shape->rank, (int)in->scale_layout);
    }
    return MOXIE_OK;
}

static moxie_status_t check_scales(int32_t rank, const char *name, const void *scales,
                                   moxie_dtype_t dtype, int64_t row_count)
{
    if (scales != NULL && dtype != MOXIE_DTYPE_FP8_E4M3) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: %s are of fp8 rows, these are %s", rank,
                         name, moxie_dtype_name(dtype));
    }
    if (scales == NULL && dtype == MOXIE_DTYPE_FP8_E4M3 && row_count > 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: %s is NULL", rank, name);
    }
    if ((uintptr_t)scales % sizeof(uint32_t) != 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: %s is not aligned to %zu bytes", rank, name,
                         sizeof(uint32_t));
    }
    return MOXIE_OK;
}

moxie_status_t dispatch_rows_check_scales(const dispatch_rows_t *rows, int32_t rank,
                                          const void *x_scales, int64_t token_count,
                                          const void *recv_scales, int64_t recv_row_count)
{
    const moxie_status_t status =
        check_scales(rank, "x_scales", x_scales, rows->dtype, token_count);
    return status != MOXIE_OK
               ? status
               : check_scales(rank, "recv_scales", recv_scales, rows->wire_dtype, recv_row_count);
}
