/* SPDX-License-Identifier: Apache-2.0 */
/* What the shared-memory backend is: its knobs, its group, and its table of functions. */
#include "core/error.h"
#include "exchange/shm/low_latency.h"
#include "exchange/shm/shm.h"
#include "transport/shm/collective.h"
#include "transport/shm/signal.h"
#include "transport/shm/window.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    KNOB_SPIN_COUNT,
    KNOB_YIELD_COUNT,
    KNOB_STREAM_MIN_BYTES,
    KNOB_ROW_KERNELS,
};

static const knob_t knobs[] = {
    [KNOB_SPIN_COUNT] = {"spin_count", "pauses a wait spins before it yields the processor", 20, 0,
                         1000000, 0},
    [KNOB_YIELD_COUNT] = {"yield_count", "yields of a wait before it sleeps in the kernel", 100, 0,
                          1000000, 0},
    [KNOB_STREAM_MIN_BYTES] = {"stream_min_bytes",
                               "bytes a rank sends from which rows are written past the caches",
                               4 << 20, 0, INT64_MAX, 0},
    [KNOB_ROW_KERNELS] = {"row_kernels",
                          "0: the best this processor has, 1: portable, 2: AVX2, 3: AVX-512",
                          ROWS_BEST, ROWS_BEST, ROWS_AVX512, 0},
};

static void probe(moxie_backend_info_t *out)
{
    const int memfd = memfd_create("moxie-probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const int pid_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    out->available = memfd >= 0 && pid_fd >= 0;
    if (memfd < 0) {
        snprintf(out->reason, sizeof(out->reason), "memfd_create is not allowed here");
    } else if (pid_fd < 0) {
        snprintf(out->reason, sizeof(out->reason),
                 "pidfd_open does not work here (Linux 5.3 or newer is needed)");
    }
    snprintf(out->detail, sizeof(out->detail), "row kernels: %s, the best this processor has",
             rows_select(ROWS_BEST)->name);
    if (memfd >= 0) {
        close(memfd);
    }
    if (pid_fd >= 0) {
        close(pid_fd);
    }
}

static void group_quote(int32_t rank_count, memory_account_t *out)
{
    out->host_bytes += memory_charge(sizeof(shm_exchange_t));
    shm_transport_quote(rank_count, out);
}

static moxie_status_t group_open(moxie_group_t *group, const moxie_group_options_t *options)
{
    void *memory;
    const int64_t level = group->knobs.value[KNOB_ROW_KERNELS];
    const rows_kernels_t *rows = rows_select((rows_level_t)level);
    if (rows == NULL) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "this processor does not run row_kernels %d",
                         (int)level);
    }
    moxie_status_t status =
        memory_allocate(&group->account, sizeof(shm_exchange_t), "a group", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    shm_exchange_t *shm = memory;
    status = shm_transport_open(options, &group->account, &group->counters, &shm->transport);
    if (status != MOXIE_OK) {
        memory_release(&group->account, shm, sizeof(*shm));
        return status;
    }
    shm->transport->spin_count = (int32_t)group->knobs.value[KNOB_SPIN_COUNT];
    shm->transport->yield_count = (int32_t)group->knobs.value[KNOB_YIELD_COUNT];
    shm->stream_min_bytes = group->knobs.value[KNOB_STREAM_MIN_BYTES];
    shm->rows = rows;
    group->implementation = shm;
    return MOXIE_OK;
}

static void group_close(moxie_group_t *group)
{
    shm_exchange_t *shm = shm_of(group);
    shm_transport_close(shm->transport);
    memory_release(&group->account, shm, sizeof(*shm));
}

static void peer_counters(const moxie_group_t *group, int32_t rank, moxie_peer_counters_t *out)
{
    *out = shm_of(group)->transport->recorder.peers[rank];
    out->size = sizeof(*out);
}

static void dump(const moxie_group_t *group, int fd)
{
    recorder_dump(&shm_of(group)->transport->recorder, group->rank, group->rank_count, fd);
}

static bool operation(const moxie_group_t *group, uint64_t op, moxie_operation_t *out)
{
    return recorder_read(&shm_of(group)->transport->recorder, op, out);
}

static moxie_status_t barrier(moxie_group_t *group)
{
    return shm_barrier(shm_of(group)->transport);
}

static moxie_status_t group_status(const moxie_group_t *group)
{
    return signal_check(shm_of(group)->transport, "group_status");
}

static moxie_status_t allgather(moxie_group_t *group, const void *in, size_t bytes, void *out)
{
    return shm_allgather(shm_of(group)->transport, in, bytes, out);
}

static moxie_status_t window_allocate(moxie_group_t *group, size_t bytes, moxie_window_t **out)
{
    return shm_window_allocate(shm_of(group)->transport, bytes, out);
}

static moxie_status_t window_register(moxie_group_t *group, const moxie_memory_t *memory,
                                      moxie_window_t **out)
{
    return shm_window_register(shm_of(group)->transport, memory, out);
}

const backend_t shm_backend = {
    .name = "shm",
    .capabilities = MOXIE_CAP_STANDARD | MOXIE_CAP_BACKWARD | MOXIE_CAP_RANK_MAJOR |
                    MOXIE_CAP_EXPERT_MAJOR | MOXIE_CAP_LOW_LATENCY | MOXIE_CAP_FP8 |
                    MOXIE_CAP_REGISTER_MEMORY,
    .knobs = knobs,
    .knob_count = sizeof(knobs) / sizeof(knobs[0]),
    .probe = probe,
    .group_quote = group_quote,
    .window_quote = shm_window_quote,
    .group_open = group_open,
    .group_close = group_close,
    .barrier = barrier,
    .group_status = group_status,
    .peer_counters = peer_counters,
    .dump = dump,
    .operation = operation,
    .allgather = allgather,
    .window_allocate = window_allocate,
    .window_register = window_register,
    .window_free = shm_window_free,
    .route_quote = slots_quote,
    .route_open = slots_open,
    .route_close = slots_close,
    .route_slots = slots_find,
    .route_update = shm_route_update,
    .dispatch = shm_dispatch,
    .combine = shm_combine,
    .dispatch_backward = shm_dispatch_backward,
    .combine_backward = shm_combine_backward,
    .dispatch_send = low_latency_dispatch_send,
    .dispatch_receive = low_latency_dispatch_receive,
    .combine_send = shm_combine_send,
    .combine_receive = shm_combine_receive,
    .ceiling = shm_ceiling,
};
