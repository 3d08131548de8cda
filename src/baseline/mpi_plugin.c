/* SPDX-License-Identifier: Apache-2.0 */
/* The plug-in moxie_mpi.so: joining MPI, memory, and the table. */
#include "baseline/mpi_baseline.h"

#include "moxie/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int start(int32_t *rank, int32_t *rank_count, char *library, size_t library_bytes,
                 char *error)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    int own = 0;
    int count = 0;
    int threads = 0; /* only one thread calls MPI, but the process may have others */
    if (rows_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &threads), "MPI_Init", error) !=
        0) {
        return -1;
    }
    if (rows_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI", error) != 0 ||
        rows_check(MPI_Comm_rank(MPI_COMM_WORLD, &own), "MPI_Comm_rank", error) != 0 ||
        rows_check(MPI_Comm_size(MPI_COMM_WORLD, &count), "MPI_Comm_size", error) != 0 ||
        rows_check(MPI_Get_library_version(text, &length), "MPI_Get_library_version", error) != 0) {
        return -1;
    }
    *rank = own;
    *rank_count = count;
    text[strcspn(text, ",\n")] = '\0'; /* "Open MPI v4.1.4, package: …" */
    (void)snprintf(library, library_bytes, "%s", text);
    return 0;
}

/* Experts in (rank, local) order. */
static int place_experts(baseline_t *baseline)
{
    const baseline_shape_t *shape = &baseline->shape;
    baseline->position_start = rows_array(shape->rank_count + 1, sizeof(int32_t));
    baseline->position_of = rows_array(shape->expert_count, sizeof(int32_t));
    if (baseline->position_start == NULL || baseline->position_of == NULL) {
        return -1;
    }
    for (int32_t expert = 0; expert < shape->expert_count; expert++) {
        baseline->position_start[shape->rank_of_expert[expert] + 1]++;
    }
    for (int32_t rank = 0; rank < shape->rank_count; rank++) {
        baseline->position_start[rank + 1] += baseline->position_start[rank];
    }
    for (int32_t expert = 0; expert < shape->expert_count; expert++) {
        baseline->position_of[expert] = baseline->position_start[shape->rank_of_expert[expert]] +
                                        shape->local_of_expert[expert];
    }
    baseline->local_count =
        baseline->position_start[shape->rank + 1] - baseline->position_start[shape->rank];
    return 0;
}

/* Rows begin on a page, as an allocator of tensors would place them. */
static char *row_memory(const baseline_t *baseline)
{
    enum { PAGE = 4096 };
    const size_t bytes = (size_t)baseline->shape.travel_row_max * baseline->row_bytes;
    char *rows = aligned_alloc(PAGE, (bytes + PAGE) / PAGE * PAGE);
    if (rows != NULL) {
        memset(rows, 0, bytes); /* the first touch of a page costs more than a copy */
    }
    return rows;
}

static int allocate(baseline_t *baseline)
{
    const baseline_shape_t *shape = &baseline->shape;
    travel_t *travel = &baseline->travel;
    travel->send_count = rows_array(shape->rank_count, sizeof(int));
    travel->send_start = rows_array(shape->rank_count, sizeof(int));
    travel->recv_count = rows_array(shape->rank_count, sizeof(int));
    travel->recv_start = rows_array(shape->rank_count, sizeof(int));
    baseline->send_meta = rows_array(shape->travel_row_max, baseline->meta_bytes);
    baseline->recv_meta = rows_array(shape->travel_row_max, baseline->meta_bytes);
    baseline->home_start = rows_array(shape->token_count + 1, sizeof(int64_t));
    baseline->home = rows_array(shape->token_count * shape->topk, sizeof(term_t));
    baseline->expert_count = rows_array(baseline->local_count, sizeof(int64_t));
    baseline->expert_start = rows_array(baseline->local_count + 1, sizeof(int64_t));
    baseline->send_rows = row_memory(baseline);
    baseline->recv_rows = row_memory(baseline);
    return travel->send_count != NULL && travel->send_start != NULL && travel->recv_count != NULL &&
                   travel->recv_start != NULL && baseline->send_meta != NULL &&
                   baseline->recv_meta != NULL && baseline->home_start != NULL &&
                   baseline->home != NULL && baseline->expert_count != NULL &&
                   baseline->expert_start != NULL && baseline->send_rows != NULL &&
                   baseline->recv_rows != NULL
               ? 0
               : -1;
}

static int commit_types(baseline_t *baseline, char *error)
{
    if (rows_check(MPI_Type_contiguous((int)baseline->row_bytes, MPI_BYTE, &baseline->row_type),
                   "MPI_Type_contiguous", error) != 0 ||
        rows_check(MPI_Type_contiguous((int)baseline->meta_bytes, MPI_BYTE, &baseline->meta_type),
                   "MPI_Type_contiguous", error) != 0 ||
        rows_check(MPI_Type_commit(&baseline->row_type), "MPI_Type_commit", error) != 0) {
        return -1;
    }
    return rows_check(MPI_Type_commit(&baseline->meta_type), "MPI_Type_commit", error);
}

static void close_baseline(baseline_t *baseline)
{
    if (baseline == NULL) {
        return;
    }
    void *const memory[] = {baseline->travel.send_count,
                            baseline->travel.send_start,
                            baseline->travel.recv_count,
                            baseline->travel.recv_start,
                            baseline->position_start,
                            baseline->position_of,
                            baseline->send_rows,
                            baseline->recv_rows,
                            baseline->send_meta,
                            baseline->recv_meta,
                            baseline->home_start,
                            baseline->home,
                            baseline->hop_start,
                            baseline->hop,
                            baseline->expert_count,
                            baseline->expert_start,
                            baseline->source_count,
                            baseline->part_start,
                            baseline->part};
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++) {
        free(memory[i]);
    }
    if (baseline->row_type != MPI_DATATYPE_NULL) {
        (void)MPI_Type_free(&baseline->row_type);
    }
    if (baseline->meta_type != MPI_DATATYPE_NULL) {
        (void)MPI_Type_free(&baseline->meta_type);
    }
    free(baseline);
}

static int open_baseline(const baseline_shape_t *shape, baseline_t **out, char *error)
{
    baseline_t *baseline = calloc(1, sizeof(*baseline));
    if (baseline == NULL) {
        return rows_fail(error, "not enough memory");
    }
    baseline->shape = *shape;
    baseline->kernels = rows_select(ROWS_BEST);
    baseline->row_bytes = (size_t)shape->hidden * moxie_dtype_bytes(MOXIE_DTYPE_BF16);
    baseline->row_type = baseline->meta_type = MPI_DATATYPE_NULL;
    int status = place_experts(baseline) != 0         ? rows_fail(error, "not enough memory")
                 : shape->kind == BASELINE_KIND_PLAIN ? plain_open(baseline, error)
                                                      : dedup_open(baseline, error);
    if (status == 0 && allocate(baseline) != 0) {
        status = rows_fail(error, "not enough memory for %lld rows",
                           2 * (long long)shape->travel_row_max);
    }
    if (status == 0) {
        status = commit_types(baseline, error);
    }
    if (status != 0) {
        close_baseline(baseline);
        return status;
    }
    *out = baseline;
    return 0;
}

static int route(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights,
                 char *error)
{
    return baseline->shape.kind == BASELINE_KIND_PLAIN
               ? plain_route(baseline, topk_idx, topk_weights, error)
               : dedup_route(baseline, topk_idx, topk_weights, error);
}

static int dispatch(baseline_t *baseline, const void *x, const moxie_dispatch_out_t *out,
                    uint64_t *travel_ns, char *error)
{
    return baseline->shape.kind == BASELINE_KIND_PLAIN
               ? plain_dispatch(baseline, x, out, travel_ns, error)
               : dedup_dispatch(baseline, x, out, travel_ns, error);
}

static int combine(baseline_t *baseline, const void *y, void *out, uint64_t *travel_ns, char *error)
{
    return baseline->shape.kind == BASELINE_KIND_PLAIN
               ? plain_combine(baseline, y, out, travel_ns, error)
               : dedup_combine(baseline, y, out, travel_ns, error);
}

static void stop(void)
{
    (void)MPI_Finalize();
}

MOXIE_API const baseline_table_t moxie_baseline_table;
const baseline_table_t moxie_baseline_table = {
    .version = BASELINE_VERSION,
    .start = start,
    .open = open_baseline,
    .route = route,
    .dispatch = dispatch,
    .combine = combine,
    .close = close_baseline,
    .stop = stop,
};
