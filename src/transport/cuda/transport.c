/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing, and what the host does when a group is lost. */
#include "transport/cuda/transport.h"

#include "core/error.h"
#include "transport/deadline.h"
#include "transport/shm/signal.h"

#include <string.h>

/* Offsets in the group's memory are multiples of it. */
#define PIECE_BYTES 1024u

static const char *op_name(uint32_t kind)
{
    static const char *const names[] = {
        [CUDA_OP_BARRIER] = "stream_barrier",
        [CUDA_OP_UPDATE] = "route_update",
        [CUDA_OP_DISPATCH] = "dispatch",
        [CUDA_OP_COMBINE] = "combine",
        [CUDA_OP_DISPATCH_BACKWARD] = "dispatch_backward",
        [CUDA_OP_COMBINE_BACKWARD] = "combine_backward",
        [CUDA_OP_CEILING] = "ceiling",
        [CUDA_OP_SLOTS_DISPATCH] = "dispatch",
        [CUDA_OP_SLOTS_COMBINE] = "combine",
        [CUDA_OP_DISPATCH_ROUTING] = "dispatch_routing",
    };
    return kind > 0 && kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "an operation";
}

uint64_t cuda_transport_table_offset(void)
{
    return PIECE_BYTES;
}

uint64_t cuda_transport_channel_offset(int32_t rank_count)
{
    return memory_round_up(cuda_transport_table_offset() + sizeof(cuda_window_part_t) *
                                                               CUDA_WINDOW_COUNT_MAX *
                                                               (uint64_t)rank_count,
                           PIECE_BYTES);
}

static uint64_t memory_bytes(int32_t rank_count, uint64_t channel_bytes)
{
    return cuda_transport_channel_offset(rank_count) + channel_bytes;
}

void cuda_transport_quote(int32_t rank_count, uint64_t channel_bytes, memory_account_t *out)
{
    shm_transport_quote(rank_count, out);
    out->host_bytes +=
        memory_charge(sizeof(cuda_transport_t)) + memory_charge(sizeof(cuda_group_report_t));
    out->device_bytes += memory_round_up(memory_bytes(rank_count, channel_bytes), CUDA_PAGE_BYTES);
}

cuda_sharing_call_t cuda_transport_call(const cuda_transport_t *transport, const char *name)
{
    return (cuda_sharing_call_t){.host = transport->host,
                                 .device = &transport->device,
                                 .stream = transport->stream,
                                 .name = name};
}

/* How many ranks have kernels on this rank's GPU. Processes take turns on a GPU, and a rank that
 * waits for another would hold up the one that it waits for. */
static moxie_status_t count_ranks_on_device(cuda_transport_t *transport)
{
    shm_transport_t *host = transport->host;
    bootstrap_part_t mine = {.bytes = sizeof(CUuuid), .fds = {-1, -1}};
    CUuuid uuid = {0};
    cuda()->cuDeviceGetUuid(&uuid, transport->device.device);
    memcpy(mine.data, &uuid, sizeof(uuid));
    const moxie_status_t status =
        bootstrap_allgather(host->bootstrap, &mine, NULL, host->deadline_ns, host->parts);
    if (status != MOXIE_OK) {
        return status;
    }
    for (int32_t rank = 0; rank < host->rank_count; rank++) {
        if (memcmp(host->parts[rank].data, &uuid, sizeof(uuid)) != 0) {
            continue;
        }
        transport->ranks_on_device++;
        if (host->peers[rank].pid != host->peers[host->rank].pid) {
            error_set(MOXIE_ERR_UNSUPPORTED,
                      "ranks %d and %d are processes on the same GPU, which would take turns; give "
                      "each a GPU of its own, or make them threads of one process",
                      host->rank, rank);
            error_detail()->peer = rank;
            return MOXIE_ERR_UNSUPPORTED;
        }
    }
    return MOXIE_OK;
}

static moxie_status_t open_memory(cuda_transport_t *transport, uint64_t channel_bytes)
{
    void *pinned = NULL;
    moxie_status_t status = cuda_check(
        cuda()->cuStreamCreateWithPriority(&transport->stream, CU_STREAM_NON_BLOCKING, 0),
        "a stream");
    if (status == MOXIE_OK) {
        status =
            cuda_pinned_allocate(transport->host->account, sizeof(cuda_group_report_t), &pinned);
        transport->report = pinned;
    }
    const cuda_sharing_call_t call = cuda_transport_call(transport, "group_create");
    return cuda_sharing_allocate(&call, memory_bytes(transport->host->rank_count, channel_bytes),
                                 status, &transport->memory);
}

moxie_status_t cuda_transport_open(const moxie_group_options_t *options, memory_account_t *account,
                                   moxie_group_counters_t *counters, uint64_t channel_bytes,
                                   cuda_transport_t **out)
{
    void *memory;
    moxie_status_t status =
        memory_allocate(account, sizeof(cuda_transport_t), "a transport", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_transport_t *transport = memory;
    status = cuda_device_open(options->device, options->rank, &transport->device);
    if (status == MOXIE_OK) {
        status = shm_transport_open(options, account, counters, &transport->host);
    }
    if (status == MOXIE_OK) {
        status = cuda_device_enter(&transport->device);
    }
    if (status == MOXIE_OK) {
        transport->host->deadline_ns = deadline_after_us(options->first_timeout_us);
        status = count_ranks_on_device(transport);
        if (status == MOXIE_OK) {
            status = open_memory(transport, channel_bytes);
        }
        cuda_device_leave();
    }
    if (status != MOXIE_OK) {
        const moxie_error_t error = *error_detail();
        if (transport->host == NULL) { /* not even met: only the device is open */
            cuda_device_close(&transport->device);
            memory_release(account, transport, sizeof(*transport));
        } else {
            cuda_transport_close(transport);
        }
        return error_adopt(&error);
    }
    *out = transport;
    return MOXIE_OK;
}

void cuda_transport_close(cuda_transport_t *transport)
{
    memory_account_t *account = transport->host->account;
    const cuda_sharing_call_t call = cuda_transport_call(transport, "group_destroy");
    if (cuda_device_enter(&transport->device) == MOXIE_OK) {
        cuda_sharing_close(&call, &transport->memory);
        cuda_pinned_release(account, transport->report, sizeof(cuda_group_report_t));
        if (transport->stream != NULL) {
            cuda()->cuStreamDestroy(transport->stream);
        }
        cuda_device_leave();
    }
    cuda_device_close(&transport->device);
    shm_transport_close(transport->host);
    memory_release(account, transport, sizeof(*transport));
}

/* The reason that a kernel gave, as an error of this thread. */
static moxie_status_t tell_reason(const cuda_transport_t *transport, uint64_t reason)
{
    const uint32_t status = (uint32_t)(reason >> 48);
    const uint32_t kind = reason >> 40 & 0xFF;
    const uint32_t phase = reason >> 32 & 0xFF;
    const int32_t peer = (int32_t)(reason >> 16 & 0xFFFF);
    const int32_t rank = (int32_t)(reason & 0xFFFF);
    const int is_lost = status == MOXIE_ERR_PEER_LOST;
    const int32_t pid = peer < transport->host->rank_count ? transport->host->peers[peer].pid : 0;
    error_set(is_lost ? MOXIE_ERR_PEER_LOST : MOXIE_ERR_TIMEOUT, "%s: rank %d (process %d) %s",
              op_name(kind), peer, pid,
              is_lost                    ? "has ended"
              : phase == CUDA_PHASE_MEET ? "did not call in time"
                                         : "did not finish in time");
    error_set_phase(op_name(kind), phase == CUDA_PHASE_MEET ? "meet" : "finish");
    error_detail()->rank = rank;
    error_detail()->peer = peer;
    return error_detail()->status;
}

moxie_status_t cuda_transport_check(cuda_transport_t *transport, const char *name)
{
    shm_transport_t *host = transport->host;
    const uint64_t reason = *(volatile uint64_t *)&transport->report->revoked;
    if (reason != 0 && !host->revoked) {
        host->op_name = name;
        tell_reason(transport, reason);
        return signal_revoke(host);
    }
    return signal_check(host, name);
}

void cuda_transport_abandon(cuda_transport_t *transport, int32_t peer)
{
    const uint64_t reason =
        CUDA_REVOKED(MOXIE_ERR_PEER_LOST, 0, CUDA_PHASE_MEET, peer, transport->host->rank);
    const cuda_part_t *own = &transport->memory.parts[transport->host->rank];
    transport->report->revoked = reason;
    /* On a stream of its own: the one that the kernel waits in does not get to it. */
    cuda()->cuMemcpyAsync((CUdeviceptr)(uintptr_t)own->base,
                          (CUdeviceptr)(uintptr_t)&transport->report->revoked, sizeof(reason),
                          transport->stream);
    cuda()->cuStreamSynchronize(transport->stream);
}
