/* SPDX-License-Identifier: Apache-2.0 */
/* Moving, copying and summing rows for both exchanges. Copies and sums are the row kernels of the
 * library itself, so that the baseline's are as fast as ours. */
#include "baseline/mpi_baseline.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Shorter rows do not fill the cache lines that a streamed store writes as a whole. */
enum { STREAM_ROW_BYTES_MIN = 256 };

int rows_fail(char *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error, BASELINE_ERROR_BYTES, format, arguments);
    va_end(arguments);
    return -1;
}

int rows_check(int mpi_result, const char *what, char *error)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (mpi_result == MPI_SUCCESS) {
        return 0;
    }
    (void)MPI_Error_string(mpi_result, text, &length);
    return rows_fail(error, "%s: %.160s", what, text);
}

void *rows_array(int64_t count, size_t element_bytes)
{
    return calloc((size_t)(count > 0 ? count : 1), element_bytes);
}

int rows_prepare(baseline_t *baseline, char *error)
{
    travel_t *travel = &baseline->travel;
    travel->send_total = travel->recv_total = 0;
    for (int32_t rank = 0; rank < baseline->shape.rank_count; rank++) {
        travel->send_start[rank] = (int)travel->send_total;
        travel->recv_start[rank] = (int)travel->recv_total;
        travel->send_total += travel->send_count[rank];
        travel->recv_total += travel->recv_count[rank];
    }
    if (travel->send_total <= baseline->shape.travel_row_max &&
        travel->recv_total <= baseline->shape.travel_row_max) {
        return 0;
    }
    return rows_fail(error, "rows to send (%lld) or receive (%lld) do not fit into %lld",
                     (long long)travel->send_total, (long long)travel->recv_total,
                     (long long)baseline->shape.travel_row_max);
}

int rows_send_meta(baseline_t *baseline, char *error)
{
    const travel_t *travel = &baseline->travel;
    return rows_check(MPI_Alltoallv(baseline->send_meta, travel->send_count, travel->send_start,
                                    baseline->meta_type, baseline->recv_meta, travel->recv_count,
                                    travel->recv_start, baseline->meta_type, MPI_COMM_WORLD),
                      "MPI_Alltoallv of metadata", error);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int rows_go(baseline_t *baseline, const void *send, void *recv, uint64_t *travel_ns, char *error)
{
    const travel_t *travel = &baseline->travel;
    const uint64_t start_ns = now_ns();
    const int result =
        MPI_Alltoallv(send, travel->send_count, travel->send_start, baseline->row_type, recv,
                      travel->recv_count, travel->recv_start, baseline->row_type, MPI_COMM_WORLD);
    *travel_ns = now_ns() - start_ns;
    return rows_check(result, "MPI_Alltoallv of rows", error);
}

int rows_return(baseline_t *baseline, const void *send, void *recv, uint64_t *travel_ns,
                char *error)
{
    const travel_t *travel = &baseline->travel;
    const uint64_t start_ns = now_ns();
    const int result =
        MPI_Alltoallv(send, travel->recv_count, travel->recv_start, baseline->row_type, recv,
                      travel->send_count, travel->send_start, baseline->row_type, MPI_COMM_WORLD);
    *travel_ns = now_ns() - start_ns;
    return rows_check(result, "MPI_Alltoallv of rows", error);
}

int rows_are_streamed(const baseline_t *baseline, int64_t row_count)
{
    return baseline->row_bytes >= STREAM_ROW_BYTES_MIN &&
           row_count * (int64_t)baseline->row_bytes >= baseline->shape.stream_min_bytes;
}

void rows_copy(const baseline_t *baseline, int is_streamed, void *to, const void *from,
               int64_t row_count)
{
    const size_t bytes = (size_t)row_count * baseline->row_bytes;
    if (is_streamed) {
        baseline->kernels->copy_stream(to, from, bytes);
    } else {
        memcpy(to, from, bytes);
    }
}

static void collect(const baseline_t *baseline, const term_t *terms, int64_t count, const char *own,
                    const char *travelled, rows_sum_t *out)
{
    out->count = (int32_t)count;
    for (int64_t i = 0; i < count; i++) {
        const char *base = terms[i].is_own ? own : travelled;
        out->rows[i] = base + (size_t)terms[i].place * baseline->row_bytes;
        out->weights[i] = terms[i].weight;
        out->ends_partial[i] = (unsigned char)terms[i].is_end;
    }
}

void rows_sum(const baseline_t *baseline, const int64_t *start, const term_t *terms, int64_t first,
              int64_t last, const char *own, const char *travelled, char *out)
{
    const rows_types_t types = {.in = MOXIE_DTYPE_BF16,
                                .wire = MOXIE_DTYPE_BF16,
                                .out = MOXIE_DTYPE_BF16,
                                .is_plain = baseline->shape.layout == MOXIE_LAYOUT_RANK_MAJOR,
                                .is_streamed = rows_are_streamed(baseline, last - first)};
    const rows_modes_t modes = rows_enter_modes();
    rows_sum_t sums[2]; /* of a row, and of the one after it */
    sums[first % 2].count = 0;
    if (first < last) {
        collect(baseline, terms + start[first], start[first + 1] - start[first], own, travelled,
                &sums[first % 2]);
    }
    for (int64_t i = first; i < last; i++) {
        rows_sum_t *next = &sums[(i + 1) % 2];
        next->count = 0;
        if (i + 1 < last) {
            collect(baseline, terms + start[i + 1], start[i + 2] - start[i + 1], own, travelled,
                    next);
        }
        baseline->kernels->sum(&sums[i % 2], next, &types, out + (size_t)i * baseline->row_bytes,
                               (size_t)baseline->shape.hidden);
    }
    rows_leave_modes(modes);
    rows_fence();
}

void rows_write_counts(const baseline_t *baseline, const moxie_dispatch_out_t *out)
{
    const size_t count = (size_t)baseline->local_count;
    memcpy(out->expert_count, baseline->expert_count, count * sizeof(int64_t));
    if (out->expert_start != NULL) {
        memcpy(out->expert_start, baseline->expert_start, (count + 1) * sizeof(int64_t));
    }
}
