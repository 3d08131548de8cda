/* SPDX-License-Identifier: Apache-2.0 */
/* Joining and leaving: control segments and process handles of all ranks. */
#include "transport/shm/transport.h"

#include "core/error.h"
#include "transport/deadline.h"
#include "transport/fault.h"
#include "transport/shm/segment.h"
#include "transport/shm/sharing.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(SHM_BODY_BYTES >= sizeof(int64_t) * (4096 + MOXIE_RANK_COUNT_MAX) + 256,
               "an update with all experts and ranks fits into a message");

/* A transport's arrays by rank: one allocation, laid out here. */
typedef struct transport_arrays {
    uint64_t parts_offset;
    uint64_t counters_offset;
    uint64_t times_offset;
    uint64_t lines_offset;
    uint64_t bytes;
} transport_arrays_t;

static transport_arrays_t plan_arrays(int32_t rank_count)
{
    const uint64_t count = (uint64_t)rank_count;
    transport_arrays_t arrays;
    arrays.parts_offset = memory_charge(sizeof(shm_peer_t) * count);
    arrays.counters_offset = arrays.parts_offset + memory_charge(sizeof(bootstrap_part_t) * count);
    arrays.times_offset =
        arrays.counters_offset + memory_charge(sizeof(moxie_peer_counters_t) * count);
    arrays.lines_offset = arrays.times_offset + memory_charge(sizeof(uint64_t) * count);
    arrays.bytes = arrays.lines_offset + memory_charge(sizeof(shm_line_t *) * count);
    return arrays;
}

void shm_transport_quote(int32_t rank_count, memory_account_t *out)
{
    out->host_bytes += memory_charge(sizeof(shm_transport_t)) + plan_arrays(rank_count).bytes +
                       memory_charge(bootstrap_bytes(rank_count));
    out->window_bytes += segment_round_up(sizeof(shm_control_t));
}

/* What a rank tells the others of itself when it joins. */
typedef struct shm_introduction {
    int32_t pid;
    int32_t reserved;
    uint64_t control_address; /* for ranks of the same process, see sharing.h */
} shm_introduction_t;

/* Takes over one rank's part of the joining allgather. */
static moxie_status_t meet_peer(shm_transport_t *transport, int32_t rank, bootstrap_part_t *part)
{
    shm_peer_t *peer = &transport->peers[rank];
    shm_introduction_t introduction;
    if (part->bytes != sizeof(introduction) || part->fds[0] < 0 || part->fds[1] < 0) {
        error_set(MOXIE_ERR_PROTOCOL, "rank %d introduced itself wrongly", rank);
        error_detail()->peer = rank;
        return MOXIE_ERR_PROTOCOL;
    }
    memcpy(&introduction, part->data, sizeof(introduction));
    peer->pid = introduction.pid;
    peer->pid_fd = part->fds[1];
    part->fds[1] = -1;
    if (rank == transport->rank) {
        return MOXIE_OK;
    }
    const uint64_t bytes = segment_round_up(sizeof(shm_control_t));
    const moxie_status_t status = segment_check(part->fds[0], 0, bytes);
    if (status != MOXIE_OK) {
        return status;
    }
    void *mapped;
    const moxie_status_t mapping = sharing_map(introduction.pid, introduction.control_address,
                                               part->fds[0], 0, bytes, 0, &mapped);
    peer->control = mapped;
    if (mapping == MOXIE_OK) {
        transport->group_channel.lines[rank] = &peer->control->line;
    }
    return mapping;
}

/* Exchanges control segments; the barrier at the end means that every rank has mapped them. */
static moxie_status_t introduce(shm_transport_t *transport, int control_fd, uint64_t deadline_ns)
{
    const int pid_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (pid_fd < 0) {
        return error_set_errno("cannot open a handle of this process");
    }
    const shm_introduction_t introduction = {
        .pid = getpid(),
        .control_address = (uint64_t)(uintptr_t)transport->peers[transport->rank].control};
    bootstrap_part_t mine = {.bytes = sizeof(introduction), .fds = {control_fd, pid_fd}};
    memcpy(mine.data, &introduction, sizeof(introduction));
    moxie_status_t status =
        bootstrap_allgather(transport->bootstrap, &mine, NULL, deadline_ns, transport->parts);
    close(pid_fd);
    if (status != MOXIE_OK) {
        return status;
    }
    for (int32_t rank = 0; rank < transport->rank_count && status == MOXIE_OK; rank++) {
        status = meet_peer(transport, rank, &transport->parts[rank]);
    }
    bootstrap_close_fds(transport->parts, transport->rank_count);
    const bootstrap_part_t ready = {.fds = {-1, -1}};
    const moxie_error_t failure = *error_detail();
    return bootstrap_allgather(transport->bootstrap, &ready, status == MOXIE_OK ? NULL : &failure,
                               deadline_ns, transport->parts);
}

/* The transport and its arrays. What was allocated before a failure is left to close. */
static moxie_status_t allocate(memory_account_t *account, int32_t rank_count, shm_transport_t **out)
{
    void *memory;
    moxie_status_t status =
        memory_allocate(account, sizeof(shm_transport_t), "a transport", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    shm_transport_t *transport = memory;
    transport->account = account;
    transport->rank_count = rank_count;
    *out = transport;
    const transport_arrays_t arrays = plan_arrays(rank_count);
    status = memory_allocate(account, arrays.bytes, "peers", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    char *base = memory;
    transport->peers = memory;
    transport->parts = (void *)(base + arrays.parts_offset);
    transport->recorder.peers = (void *)(base + arrays.counters_offset);
    transport->times_ns = (void *)(base + arrays.times_offset);
    transport->group_channel.transport = transport;
    transport->group_channel.lines = (void *)(base + arrays.lines_offset);
    transport->channel = &transport->group_channel;
    for (int32_t rank = 0; rank < rank_count; rank++) {
        transport->peers[rank].pid_fd = -1;
    }
    return MOXIE_OK;
}

/* This rank's own control segment, which nobody else can map for writing. */
static moxie_status_t create_control(shm_transport_t *transport, int *control_fd)
{
    const uint64_t bytes = segment_round_up(sizeof(shm_control_t));
    moxie_status_t status = segment_create(bytes, control_fd);
    if (status != MOXIE_OK) {
        return status;
    }
    void *base;
    status = segment_map(*control_fd, 0, bytes, 1, &base);
    if (status == MOXIE_OK) {
        transport->peers[transport->rank].control = base;
        transport->group_channel.lines[transport->rank] =
            &transport->peers[transport->rank].control->line;
        transport->account->window_bytes += bytes;
        status = segment_seal_writing(*control_fd);
    }
    return status;
}

moxie_status_t shm_transport_open(const moxie_group_options_t *options, memory_account_t *account,
                                  moxie_group_counters_t *counters, shm_transport_t **out)
{
    shm_transport_t *transport = NULL;
    moxie_status_t status = allocate(account, options->rank_count, &transport);
    const uint64_t deadline_ns = deadline_after_us(options->first_timeout_us);
    const char *phase = "prepare";
    int control_fd = -1;
    if (status == MOXIE_OK) {
        transport->rank = options->rank;
        transport->counters = counters;
        transport->timeout_us = options->timeout_us;
        transport->first_timeout_us = options->first_timeout_us;
        status = create_control(transport, &control_fd);
    }
    if (status == MOXIE_OK) {
        fault_point(options->rank, NULL, "join");
        phase = "join";
        status = bootstrap_open(options, account, deadline_ns, &transport->bootstrap);
    }
    if (status == MOXIE_OK) {
        fault_point(options->rank, NULL, "introduce");
        phase = "introduce";
        status = introduce(transport, control_fd, deadline_ns);
    }
    if (control_fd >= 0) {
        close(control_fd);
    }
    if (status != MOXIE_OK) {
        error_default_phase("group_create", phase);
        shm_transport_close(transport);
        return status;
    }
    *out = transport;
    return MOXIE_OK;
}

void shm_transport_close(shm_transport_t *transport)
{
    if (transport == NULL) {
        return;
    }
    memory_account_t *account = transport->account;
    const int32_t rank_count = transport->rank_count;
    const uint64_t control_bytes = segment_round_up(sizeof(shm_control_t));
    for (int32_t rank = 0; rank < rank_count && transport->peers != NULL; rank++) {
        shm_peer_t *peer = &transport->peers[rank];
        if (rank == transport->rank && peer->control != NULL) {
            sharing_unmap_own(peer->control, control_bytes);
            account->window_bytes -= control_bytes;
        } else if (peer->control != NULL) {
            sharing_unmap(peer->pid, peer->control, control_bytes);
        }
        if (peer->pid_fd >= 0) {
            close(peer->pid_fd);
        }
    }
    bootstrap_close(transport->bootstrap, account);
    memory_release(account, transport->peers, plan_arrays(rank_count).bytes);
    memory_release(account, transport, sizeof(shm_transport_t));
}
