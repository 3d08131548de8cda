/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TorchTitan's default exchange: sort the slots by expert, tell every rank how many rows come and
 * wait for the answer on the CPU, gather the rows into that order, send all of them by grouped
 * ncclSend and ncclRecv, permute what arrives to expert_major; and back. A row travels once for
 * each expert. The weights stay at home, where the sum is made; it is rounded where Moxie's is, so
 * that the results are the same to the bit.
 */
#include "baseline/nccl/nccl.h"

#include "baseline/nccl/kernels.h"
#include "baseline/nccl/launch.h"
#include "baseline/nccl/library.h"
#include "driver/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SORT_THREADS = 1024, ROW_THREADS = 256, PLACE_THREADS = 256 };

/* Blocks of a kernel that has a block for each row go round from here on. */
enum { BLOCK_COUNT_MAX = 65535 };

/* Rows are copied in units of it where they can be. */
enum { UNIT_BYTES = 16 };

typedef struct kernels {
    CUmodule module;
    CUfunction sort;
    CUfunction copy;
    CUfunction place;
    CUfunction sum;
} kernels_t;

struct baseline {
    baseline_shape_t shape;
    const nccl_library_t *nccl;
    nccl_comm_t *comm;
    CUstream stream;
    kernels_t kernels;
    CUevent travel[2];
    int64_t local_count; /* experts of this rank */

    /* On the device. */
    const int32_t *topk_idx; /* the caller's, of the last route */
    const float *topk_weights;
    char *rows[2];         /* [travel_row_max]: by position, and as received */
    int32_t *slots;        /* position_of_slot, then slot_at_position */
    int32_t *counts;       /* [experts], then [ranks][local experts] */
    int32_t *place_of_row; /* [travel_row_max] */
    int32_t *rank_of_expert;

    /* On the host. */
    int32_t *pinned;     /* a copy of `counts` */
    int32_t *first;      /* [ranks + 1] the first expert of each rank */
    int64_t *send_count; /* [ranks] rows to each rank, then [ranks] rows from each */
};

static int fail_cuda(CUresult result, const char *doing, char *error)
{
    char text[160];
    if (result != CUDA_SUCCESS) {
        (void)snprintf(error, BASELINE_ERROR_BYTES, "%s: %s", doing,
                       cuda_text(result, text, sizeof(text)));
    }
    return result == CUDA_SUCCESS ? 0 : -1;
}

static int fail_nccl(const baseline_t *baseline, int result, const char *doing, char *error)
{
    if (result != 0) {
        (void)snprintf(error, BASELINE_ERROR_BYTES, "%s: NCCL says: %s", doing,
                       baseline->nccl->error_string(result));
    }
    return result == 0 ? 0 : -1;
}

static const nccl_library_t *library;

static int start(int32_t *rank, int32_t *rank_count, char *name, size_t name_bytes, char *error)
{
    int version = 0;
    (void)rank; /* NCCL has no launcher of its own: ranks are numbered as the group's */
    (void)rank_count;
    if (library->version(&version) != 0) {
        (void)snprintf(error, BASELINE_ERROR_BYTES, "NCCL does not tell its version");
        return -1;
    }
    (void)snprintf(name, name_bytes, "NCCL %d.%d.%d", version / 10000, version / 100 % 100,
                   version % 100);
    return 0;
}

static CUdeviceptr address(const void *memory)
{
    return (CUdeviceptr)(uintptr_t)memory;
}

static int allocate(size_t bytes, void *out, char *error)
{
    CUdeviceptr memory = 0;
    int status = fail_cuda(cuda()->cuMemAlloc(&memory, bytes > 0 ? bytes : 1), "memory", error);
    *(void **)out = (void *)(uintptr_t)memory;
    return status;
}

static int load_kernels(kernels_t *kernels, char *error)
{
    const struct {
        const char *name;
        CUfunction *function;
    } functions[] = {
        {"nccl_sort", &kernels->sort},
        {"nccl_copy", &kernels->copy},
        {"nccl_place", &kernels->place},
        {"nccl_sum", &kernels->sum},
    };
    int status = fail_cuda(cuda()->cuModuleLoadData(&kernels->module, nccl_kernels_image),
                           "loading kernels", error);
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]) && status == 0; i++) {
        status = fail_cuda(
            cuda()->cuModuleGetFunction(functions[i].function, kernels->module, functions[i].name),
            functions[i].name, error);
    }
    return status;
}

/* Experts of a rank are consecutive: what is sorted by expert is sorted by rank. */
static int find_ranges(baseline_t *baseline, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    for (int32_t expert = 0; expert < shape->expert_count; expert++) {
        int32_t rank = shape->rank_of_expert[expert];
        if (expert > 0 && rank < shape->rank_of_expert[expert - 1]) {
            (void)snprintf(error, BASELINE_ERROR_BYTES, "experts are not placed in blocks");
            return -1;
        }
        baseline->first[rank + 1] = expert + 1;
    }
    for (int32_t rank = 0; rank < shape->rank_count; rank++) {
        if (baseline->first[rank + 1] < baseline->first[rank]) {
            baseline->first[rank + 1] = baseline->first[rank]; /* a rank without experts */
        }
    }
    baseline->local_count = baseline->first[shape->rank + 1] - baseline->first[shape->rank];
    return 0;
}

static size_t count_total(const baseline_t *baseline)
{
    const baseline_shape_t *shape = &baseline->shape;
    return (size_t)shape->expert_count + (size_t)shape->rank_count * (size_t)baseline->local_count;
}

static int allocate_all(baseline_t *baseline, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    size_t rank_count = (size_t)shape->rank_count;
    size_t row_bytes = (size_t)shape->travel_row_max * (size_t)shape->hidden * sizeof(uint16_t);
    size_t slots = (size_t)shape->token_count * (size_t)shape->topk;
    baseline->first = calloc(rank_count + 1, sizeof(*baseline->first));
    baseline->send_count = calloc(2 * rank_count, sizeof(*baseline->send_count));
    if (baseline->first == NULL || baseline->send_count == NULL) {
        (void)snprintf(error, BASELINE_ERROR_BYTES, "not enough memory");
        return -1;
    }
    if (find_ranges(baseline, error) != 0) {
        return -1;
    }
    size_t count_bytes = count_total(baseline) * sizeof(int32_t);
    size_t expert_bytes = (size_t)shape->expert_count * sizeof(int32_t);
    if (allocate(row_bytes, &baseline->rows[0], error) != 0 ||
        allocate(row_bytes, &baseline->rows[1], error) != 0 ||
        allocate(2 * slots * sizeof(int32_t), &baseline->slots, error) != 0 ||
        allocate(count_bytes, &baseline->counts, error) != 0 ||
        allocate((size_t)shape->travel_row_max * sizeof(int32_t), &baseline->place_of_row, error) !=
            0 ||
        allocate(expert_bytes, &baseline->rank_of_expert, error) != 0) {
        return -1;
    }
    return fail_cuda(cuda()->cuMemHostAlloc((void **)&baseline->pinned, count_bytes, 0),
                     "pinned memory", error);
}

static int join(baseline_t *baseline, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    nccl_id_t id = {{0}};
    nccl_id_t *ids = calloc((size_t)shape->rank_count, sizeof(*ids));
    int status = ids == NULL ? -1 : 0;
    int made = 0;
    if (shape->rank == 0) {
        made = baseline->nccl->unique_id(&id);
    }
    if (status == 0 && moxie_group_allgather(shape->group, &id, sizeof(id), ids) != MOXIE_OK) {
        (void)snprintf(error, BASELINE_ERROR_BYTES, "the ranks could not meet");
        status = -1;
    }
    if (status == 0) {
        status = fail_nccl(baseline, made, "ncclGetUniqueId", error);
    }
    if (status == 0) {
        status = fail_nccl(
            baseline,
            baseline->nccl->comm_init(&baseline->comm, shape->rank_count, ids[0], shape->rank),
            "ncclCommInitRank", error);
    }
    free(ids);
    return status;
}

static int upload_experts(baseline_t *baseline, char *error)
{
    size_t bytes = (size_t)baseline->shape.expert_count * sizeof(int32_t);
    memcpy(baseline->pinned, baseline->shape.rank_of_expert, bytes);
    CUresult result = cuda()->cuMemcpyAsync(address(baseline->rank_of_expert),
                                            address(baseline->pinned), bytes, baseline->stream);
    if (result == CUDA_SUCCESS) {
        result = cuda()->cuStreamSynchronize(baseline->stream);
    }
    return fail_cuda(result, "upload", error);
}

static void close_baseline(baseline_t *baseline);

static int open_baseline(const baseline_shape_t *shape, baseline_t **out, char *error)
{
    baseline_t *baseline = calloc(1, sizeof(*baseline));
    if (baseline == NULL) {
        (void)snprintf(error, BASELINE_ERROR_BYTES, "not enough memory");
        return -1;
    }
    baseline->shape = *shape;
    baseline->nccl = library;
    baseline->stream = shape->stream;
    if (allocate_all(baseline, error) != 0 || load_kernels(&baseline->kernels, error) != 0 ||
        fail_cuda(cuda()->cuEventCreate(&baseline->travel[0], CU_EVENT_DEFAULT), "event", error) !=
            0 ||
        fail_cuda(cuda()->cuEventCreate(&baseline->travel[1], CU_EVENT_DEFAULT), "event", error) !=
            0 ||
        upload_experts(baseline, error) != 0 || join(baseline, error) != 0) {
        close_baseline(baseline);
        return -1;
    }
    *out = baseline;
    return 0;
}

static int launch(const baseline_t *baseline, CUfunction function, unsigned blocks_x,
                  unsigned blocks_y, unsigned threads, void *work, char *error)
{
    void *arguments[] = {work};
    CUlaunchConfig config = {.gridDimX = blocks_x,
                             .gridDimY = blocks_y,
                             .gridDimZ = 1,
                             .blockDimX = threads,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .hStream = baseline->stream};
    if (blocks_x == 0 || blocks_y == 0) {
        return 0;
    }
    return fail_cuda(cuda()->cuLaunchKernelEx(&config, function, arguments, NULL),
                     "launching a kernel", error);
}

static unsigned blocks_of(int64_t rows)
{
    return (unsigned)(rows < BLOCK_COUNT_MAX ? rows : BLOCK_COUNT_MAX);
}

static int64_t *recv_count(const baseline_t *baseline)
{
    return baseline->send_count + baseline->shape.rank_count;
}

static int64_t sum(const int64_t *counts, int32_t count)
{
    int64_t total = 0;
    for (int32_t i = 0; i < count; i++) {
        total += counts[i];
    }
    return total;
}

/* Each rank gets the counts of its experts. */
static int exchange_counts(const baseline_t *baseline, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    const nccl_library_t *nccl = baseline->nccl;
    int32_t *received = baseline->counts + shape->expert_count;
    int result = nccl->group_start();
    for (int32_t rank = 0; rank < shape->rank_count && result == 0; rank++) {
        size_t count = (size_t)(baseline->first[rank + 1] - baseline->first[rank]);
        result = nccl->send(baseline->counts + baseline->first[rank], count, NCCL_INT32, rank,
                            baseline->comm, baseline->stream);
        if (result == 0) {
            result =
                nccl->recv(received + rank * baseline->local_count, (size_t)baseline->local_count,
                           NCCL_INT32, rank, baseline->comm, baseline->stream);
        }
    }
    int ended = nccl->group_end();
    return fail_nccl(baseline, result != 0 ? result : ended, "exchange of counts", error);
}

/* ncclSend must be told how many rows go where: the CPU waits for the counts. */
static int learn_splits(baseline_t *baseline, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    CUresult result =
        cuda()->cuMemcpyAsync(address(baseline->pinned), address(baseline->counts),
                              count_total(baseline) * sizeof(int32_t), baseline->stream);
    if (result == CUDA_SUCCESS) {
        result = cuda()->cuStreamSynchronize(baseline->stream);
    }
    if (fail_cuda(result, "waiting for the counts", error) != 0) {
        return -1;
    }
    const int32_t *received = baseline->pinned + shape->expert_count;
    int64_t *recv = recv_count(baseline);
    for (int32_t rank = 0; rank < shape->rank_count; rank++) {
        baseline->send_count[rank] = 0;
        recv[rank] = 0;
        for (int32_t expert = baseline->first[rank]; expert < baseline->first[rank + 1]; expert++) {
            baseline->send_count[rank] += baseline->pinned[expert];
        }
        for (int64_t i = 0; i < baseline->local_count; i++) {
            recv[rank] += received[rank * baseline->local_count + i];
        }
    }
    if (sum(baseline->send_count, shape->rank_count) > shape->travel_row_max ||
        sum(recv, shape->rank_count) > shape->travel_row_max) {
        (void)snprintf(error, BASELINE_ERROR_BYTES, "more rows than were planned");
        return -1;
    }
    return 0;
}

static int route(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights,
                 char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    int64_t slots = shape->token_count * shape->topk;
    baseline->topk_idx = topk_idx;
    baseline->topk_weights = topk_weights;
    nccl_sort_t sort = {.topk_idx = topk_idx,
                        .slot_count = slots,
                        .counts = baseline->counts,
                        .position_of_slot = baseline->slots,
                        .slot_at_position = baseline->slots + slots};
    return launch(baseline, baseline->kernels.sort, (unsigned)shape->expert_count, 1, SORT_THREADS,
                  &sort, error) == 0 &&
                   exchange_counts(baseline, error) == 0 && learn_splits(baseline, error) == 0
               ? 0
               : -1;
}

static int copy(const baseline_t *baseline, const void *from, void *to, const int32_t *index,
                int32_t divisor, bool is_scatter, int64_t row_count, char *error)
{
    int64_t row_bytes = baseline->shape.hidden * (int64_t)sizeof(uint16_t);
    uintptr_t mixed = (uintptr_t)from | (uintptr_t)to | (uintptr_t)row_bytes;
    nccl_copy_t work = {.from = from,
                        .to = to,
                        .index = index,
                        .divisor = divisor,
                        .is_scatter = is_scatter,
                        .row_count = row_count,
                        .row_bytes = row_bytes,
                        .is_wide = mixed % UNIT_BYTES == 0};
    return launch(baseline, baseline->kernels.copy, blocks_of(row_count), 1, ROW_THREADS, &work,
                  error);
}

/* All rows to all ranks at once; `sends` and `recvs` are by rank. */
static int travel(const baseline_t *baseline, const char *from, const int64_t *sends, char *to,
                  const int64_t *recvs, bool is_timed, char *error)
{
    const nccl_library_t *nccl = baseline->nccl;
    int64_t hidden = baseline->shape.hidden;
    if (is_timed) {
        (void)cuda()->cuEventRecord(baseline->travel[0], baseline->stream);
    }
    int result = nccl->group_start();
    for (int32_t rank = 0; rank < baseline->shape.rank_count && result == 0; rank++) {
        if (sends[rank] > 0) {
            result = nccl->send(from, (size_t)(sends[rank] * hidden), NCCL_BFLOAT16, rank,
                                baseline->comm, baseline->stream);
        }
        if (recvs[rank] > 0 && result == 0) {
            result = nccl->recv(to, (size_t)(recvs[rank] * hidden), NCCL_BFLOAT16, rank,
                                baseline->comm, baseline->stream);
        }
        from += sends[rank] * hidden * (int64_t)sizeof(uint16_t);
        to += recvs[rank] * hidden * (int64_t)sizeof(uint16_t);
    }
    int ended = nccl->group_end();
    if (is_timed) {
        (void)cuda()->cuEventRecord(baseline->travel[1], baseline->stream);
    }
    return fail_nccl(baseline, result != 0 ? result : ended, "exchange of rows", error);
}

static int read_travel(const baseline_t *baseline, uint64_t *travel_ns, char *error)
{
    float ms = 0.0f;
    if (travel_ns == NULL) {
        return 0;
    }
    CUresult result = cuda()->cuEventSynchronize(baseline->travel[1]);
    if (result == CUDA_SUCCESS) {
        result = cuda()->cuEventElapsedTime(&ms, baseline->travel[0], baseline->travel[1]);
    }
    *travel_ns = (uint64_t)((double)ms * 1e6);
    return fail_cuda(result, "time of the exchange", error);
}

/* expert_start of a rank without experts is a 0 alone: nccl_place, a block an expert, has no block
 * that would write it. */
static int start_without_experts(const baseline_t *baseline, const moxie_dispatch_out_t *out,
                                 char *error)
{
    if (baseline->local_count > 0 || out->expert_start == NULL) {
        return 0;
    }
    return fail_cuda(cuda()->cuMemsetD8Async(address(out->expert_start), 0,
                                             sizeof(out->expert_start[0]), baseline->stream),
                     "expert_start", error);
}

static int dispatch(baseline_t *baseline, const void *x, const moxie_dispatch_out_t *out,
                    uint64_t *travel_ns, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    int64_t sent = sum(baseline->send_count, shape->rank_count);
    int64_t received = sum(recv_count(baseline), shape->rank_count);
    _Static_assert(sizeof(long long) == sizeof(int64_t), "kernels write int64_t");
    nccl_place_t place = {.counts = baseline->counts + shape->expert_count,
                          .place_of_row = baseline->place_of_row,
                          .expert_count = (long long *)out->expert_count,
                          .expert_start = (long long *)out->expert_start};
    if (copy(baseline, x, baseline->rows[0], baseline->slots + shape->token_count * shape->topk,
             shape->topk, false, sent, error) != 0 ||
        travel(baseline, baseline->rows[0], baseline->send_count, baseline->rows[1],
               recv_count(baseline), travel_ns != NULL, error) != 0 ||
        launch(baseline, baseline->kernels.place, (unsigned)baseline->local_count,
               (unsigned)shape->rank_count, PLACE_THREADS, &place, error) != 0 ||
        start_without_experts(baseline, out, error) != 0 ||
        copy(baseline, baseline->rows[1], out->recv_x, baseline->place_of_row, 1, true, received,
             error) != 0) {
        return -1;
    }
    return read_travel(baseline, travel_ns, error);
}

static int combine(baseline_t *baseline, const void *y, void *out, uint64_t *travel_ns, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    int64_t received = sum(recv_count(baseline), shape->rank_count);
    int64_t row_bytes = shape->hidden * (int64_t)sizeof(uint16_t);
    uintptr_t mixed = (uintptr_t)out | (uintptr_t)row_bytes;
    nccl_sum_t work = {.rows = baseline->rows[0],
                       .out = out,
                       .topk_idx = baseline->topk_idx,
                       .topk_weights = baseline->topk_weights,
                       .position_of_slot = baseline->slots,
                       .rank_of_expert = baseline->rank_of_expert,
                       .token_count = shape->token_count,
                       .hidden = shape->hidden,
                       .topk = shape->topk,
                       .is_wide = mixed % UNIT_BYTES == 0};
    if (copy(baseline, y, baseline->rows[1], baseline->place_of_row, 1, false, received, error) !=
            0 ||
        travel(baseline, baseline->rows[1], recv_count(baseline), baseline->rows[0],
               baseline->send_count, travel_ns != NULL, error) != 0 ||
        launch(baseline, baseline->kernels.sum, blocks_of(shape->token_count), 1, ROW_THREADS,
               &work, error) != 0) {
        return -1;
    }
    return read_travel(baseline, travel_ns, error);
}

static void close_baseline(baseline_t *baseline)
{
    if (baseline == NULL) {
        return;
    }
    void *const memory[] = {baseline->rows[0], baseline->rows[1],      baseline->slots,
                            baseline->counts,  baseline->place_of_row, baseline->rank_of_expert};
    (void)cuda()->cuStreamSynchronize(baseline->stream);
    if (baseline->comm != NULL) {
        (void)baseline->nccl->comm_abort(baseline->comm); /* does not wait for the peers */
    }
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++) {
        if (memory[i] != NULL) {
            (void)cuda()->cuMemFree(address(memory[i]));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        if (baseline->travel[i] != NULL) {
            (void)cuda()->cuEventDestroy(baseline->travel[i]);
        }
    }
    if (baseline->pinned != NULL) {
        (void)cuda()->cuMemFreeHost(baseline->pinned);
    }
    if (baseline->kernels.module != NULL) {
        (void)cuda()->cuModuleUnload(baseline->kernels.module);
    }
    free(baseline->first);
    free(baseline->send_count);
    free(baseline);
}

static void stop(void)
{
}

const baseline_table_t *nccl_baseline(char error[BASELINE_ERROR_BYTES])
{
    static const baseline_table_t table = {
        .version = BASELINE_VERSION,
        .start = start,
        .open = open_baseline,
        .route = route,
        .dispatch = dispatch,
        .combine = combine,
        .close = close_baseline,
        .stop = stop,
        .is_bare = true,
    };
    if (library == NULL) {
        library = nccl_library(error, BASELINE_ERROR_BYTES);
    }
    return library == NULL ? NULL : &table;
}
