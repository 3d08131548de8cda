/* SPDX-License-Identifier: Apache-2.0 */
/* Bootstrap: a star of sockets around rank 0, and an allgather over it. */
#include "transport/bootstrap.h"

#include "core/error.h"
#include "moxie/version.h"
#include "transport/deadline.h"
#include "transport/frame.h"
#include "transport/rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The hub's word on who is missing comes at the deadline: the others wait this much longer for it.
 */
#define HUB_GRACE_NS 100000000u

/* A connection that says nothing for so long is not one of ours. */
#define HELLO_TIMEOUT_US 1000000

struct bootstrap {
    int32_t rank;
    int32_t rank_count;
    uint32_t sequence; /* allgathers so far */
    int broken;        /* one failed: the ranks may no longer be in step */
    int sockets[];     /* [rank_count] hub: of each peer; others: [0] only; -1 elsewhere */
};

uint64_t bootstrap_bytes(int32_t rank_count)
{
    return sizeof(bootstrap_t) + sizeof(int) * (uint64_t)rank_count;
}

static moxie_status_t blame(moxie_status_t status, int32_t peer, const char *what)
{
    error_set(status, "rank %d %s", peer, what);
    error_detail()->peer = peer;
    return status;
}

/* Tells a connection the error of this thread. */
static void refuse(const bootstrap_t *bootstrap, int socket_fd)
{
    frame_t frame;
    frame_start(&frame, FRAME_REFUSAL, bootstrap->sequence, 0, bootstrap->rank_count);
    frame.error = *error_detail();
    frame_send(socket_fd, &frame, NULL, deadline_after_us(HELLO_TIMEOUT_US));
}

/* Tells every connected peer the error of this thread. The hub does so before it gives up. */
static void broadcast_refusal(const bootstrap_t *bootstrap, uint64_t deadline_ns)
{
    frame_t frame;
    frame_start(&frame, FRAME_REFUSAL, bootstrap->sequence, 0, bootstrap->rank_count);
    frame.error = *error_detail();
    for (int32_t peer = 1; peer < bootstrap->rank_count; peer++) {
        if (bootstrap->sockets[peer] >= 0) {
            frame_send(bootstrap->sockets[peer], &frame, NULL, deadline_ns);
        }
    }
}

static void close_all(const int *fds)
{
    for (int i = 0; i < BOOTSTRAP_FD_COUNT_MAX; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* Judges a hello. MOXIE_OK with *rank < 0: a stranger, to be ignored. */
static moxie_status_t read_hello(const bootstrap_t *bootstrap, int socket_fd, int32_t *rank)
{
    frame_t hello = {0};
    int fds[BOOTSTRAP_FD_COUNT_MAX];
    const int received = frame_receive(socket_fd, &hello, fds, deadline_after_us(HELLO_TIMEOUT_US));
    close_all(fds);
    *rank = -1;
    if (received != (int)sizeof(hello) || hello.magic != FRAME_MAGIC || hello.kind != FRAME_HELLO) {
        return MOXIE_OK;
    }
    if (hello.protocol != FRAME_PROTOCOL || hello.version != MOXIE_VERSION) {
        error_set(MOXIE_ERR_MISMATCH, "rank %d runs version %d of libmoxie and rank 0 version %d",
                  hello.rank, hello.version, MOXIE_VERSION);
        error_detail()->peer = hello.rank;
        return MOXIE_ERR_MISMATCH;
    }
    if (hello.rank_count != bootstrap->rank_count) {
        error_set(MOXIE_ERR_MISMATCH, "rank %d says there are %d ranks, rank 0 says %d", hello.rank,
                  hello.rank_count, bootstrap->rank_count);
        error_detail()->peer = hello.rank;
        error_detail()->expected = bootstrap->rank_count;
        error_detail()->observed = hello.rank_count;
        return MOXIE_ERR_MISMATCH;
    }
    if (hello.rank < 1 || hello.rank >= bootstrap->rank_count) {
        return blame(MOXIE_ERR_MISMATCH, hello.rank, "is not a rank of this group");
    }
    if (bootstrap->sockets[hello.rank] >= 0) {
        return blame(MOXIE_ERR_MISMATCH, hello.rank, "is there twice");
    }
    *rank = hello.rank;
    return MOXIE_OK;
}

/* The hub's side: takes connections until every rank is there. */
static moxie_status_t gather_ranks(bootstrap_t *bootstrap, const rendezvous_t *rendezvous,
                                   uint64_t deadline_ns)
{
    int32_t missing_count = bootstrap->rank_count - 1;
    while (missing_count > 0) {
        const int socket_fd = rendezvous_accept(rendezvous, deadline_ns);
        if (socket_fd < 0) {
            int32_t missing = 1;
            while (bootstrap->sockets[missing] >= 0) {
                missing++;
            }
            return blame(MOXIE_ERR_TIMEOUT, missing, "did not join in time");
        }
        int32_t rank;
        const moxie_status_t status = read_hello(bootstrap, socket_fd, &rank);
        if (rank < 0) {
            if (status != MOXIE_OK) {
                refuse(bootstrap, socket_fd);
            }
            close(socket_fd);
        } else {
            bootstrap->sockets[rank] = socket_fd;
            missing_count--;
        }
        if (status != MOXIE_OK) {
            return status;
        }
    }
    return MOXIE_OK;
}

static moxie_status_t join_hub(bootstrap_t *bootstrap, const rendezvous_t *rendezvous,
                               uint64_t deadline_ns)
{
    const moxie_status_t status =
        rendezvous_connect(rendezvous, deadline_ns, &bootstrap->sockets[0]);
    if (status != MOXIE_OK) {
        return status;
    }
    frame_t hello;
    frame_start(&hello, FRAME_HELLO, 0, bootstrap->rank, bootstrap->rank_count);
    if (frame_send(bootstrap->sockets[0], &hello, NULL, deadline_ns) != 0) {
        return blame(MOXIE_ERR_PEER_LOST, 0, "closed the connection");
    }
    return MOXIE_OK;
}

moxie_status_t bootstrap_open(const moxie_group_options_t *options, memory_account_t *account,
                              uint64_t deadline_ns, bootstrap_t **out)
{
    void *memory;
    moxie_status_t status =
        memory_allocate(account, bootstrap_bytes(options->rank_count), "a bootstrap", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    bootstrap_t *bootstrap = memory;
    bootstrap->rank = options->rank;
    bootstrap->rank_count = options->rank_count;
    for (int32_t rank = 0; rank < options->rank_count; rank++) {
        bootstrap->sockets[rank] = -1;
    }
    if (options->rank_count > 1) {
        rendezvous_t rendezvous;
        status = rendezvous_open(options, &rendezvous);
        if (status == MOXIE_OK) {
            status = options->rank == 0 ? gather_ranks(bootstrap, &rendezvous, deadline_ns)
                                        : join_hub(bootstrap, &rendezvous, deadline_ns);
            rendezvous_close(&rendezvous);
        }
    }
    if (status != MOXIE_OK) {
        if (options->rank == 0) {
            broadcast_refusal(bootstrap, deadline_after_us(HELLO_TIMEOUT_US));
        }
        bootstrap_close(bootstrap, account);
        return status;
    }
    *out = bootstrap;
    return MOXIE_OK;
}

void bootstrap_close(bootstrap_t *bootstrap, memory_account_t *account)
{
    if (bootstrap == NULL) {
        return;
    }
    for (int32_t rank = 0; rank < bootstrap->rank_count; rank++) {
        if (bootstrap->sockets[rank] >= 0) {
            close(bootstrap->sockets[rank]);
        }
    }
    memory_release(account, bootstrap, bootstrap_bytes(bootstrap->rank_count));
}

void bootstrap_close_fds(bootstrap_part_t *parts, int32_t count)
{
    for (int32_t rank = 0; rank < count; rank++) {
        close_all(parts[rank].fds);
        for (int i = 0; i < BOOTSTRAP_FD_COUNT_MAX; i++) {
            parts[rank].fds[i] = -1;
        }
    }
}

static void frame_from_part(frame_t *frame, const bootstrap_t *bootstrap, int32_t rank,
                            const bootstrap_part_t *part)
{
    frame_start(frame, FRAME_PART, bootstrap->sequence, rank, bootstrap->rank_count);
    frame->bytes = part->bytes;
    memcpy(frame->data, part->data, part->bytes);
}

static void part_from_frame(bootstrap_part_t *part, const frame_t *frame, const int *fds)
{
    part->bytes = frame->bytes;
    memcpy(part->data, frame->data, frame->bytes);
    memcpy(part->fds, fds, sizeof(part->fds));
}

/* Receives one frame of this allgather from `peer`. A refusal becomes this thread's error. */
static moxie_status_t receive_frame(const bootstrap_t *bootstrap, int32_t peer, frame_t *frame,
                                    int *fds, uint64_t deadline_ns)
{
    errno = 0;
    const int received = frame_receive(bootstrap->sockets[peer], frame, fds, deadline_ns);
    if (received <= 0) {
        return errno == ETIMEDOUT ? blame(MOXIE_ERR_TIMEOUT, peer, "did not take part in time")
                                  : blame(MOXIE_ERR_PEER_LOST, peer, "closed the connection");
    }
    moxie_status_t status = MOXIE_OK;
    if (!frame_is_sound(frame, (size_t)received)) {
        status = blame(MOXIE_ERR_PROTOCOL, peer, "sent a message that makes no sense");
    } else if (frame->kind == FRAME_REFUSAL && frame->error.status != MOXIE_OK) {
        status = error_adopt(&frame->error);
    } else if (frame->kind != FRAME_PART || frame->sequence != bootstrap->sequence ||
               frame->rank < 0 || frame->rank >= bootstrap->rank_count) {
        status = blame(MOXIE_ERR_PROTOCOL, peer, "is out of step");
    }
    if (status != MOXIE_OK) {
        close_all(fds);
    }
    return status;
}

static moxie_status_t gather_at_hub(const bootstrap_t *bootstrap, bootstrap_part_t *parts,
                                    uint64_t deadline_ns)
{
    moxie_status_t first = MOXIE_OK;
    moxie_error_t first_error = {0};
    for (int32_t peer = 1; peer < bootstrap->rank_count; peer++) {
        frame_t frame;
        int fds[BOOTSTRAP_FD_COUNT_MAX];
        moxie_status_t status = receive_frame(bootstrap, peer, &frame, fds, deadline_ns);
        if (status == MOXIE_OK && frame.rank != peer) {
            close_all(fds);
            status = blame(MOXIE_ERR_PROTOCOL, peer, "speaks for another rank");
        }
        if (status == MOXIE_OK) {
            part_from_frame(&parts[peer], &frame, fds);
        } else if (first == MOXIE_OK) { /* go on: the lowest rank's error is everyone's */
            first = status;
            first_error = *error_detail();
        }
    }
    return first == MOXIE_OK ? MOXIE_OK : error_adopt(&first_error);
}

static moxie_status_t scatter_from_hub(const bootstrap_t *bootstrap, const bootstrap_part_t *parts,
                                       uint64_t deadline_ns)
{
    for (int32_t rank = 0; rank < bootstrap->rank_count; rank++) {
        frame_t frame;
        frame_from_part(&frame, bootstrap, rank, &parts[rank]);
        for (int32_t peer = 1; peer < bootstrap->rank_count; peer++) {
            if (frame_send(bootstrap->sockets[peer], &frame, parts[rank].fds, deadline_ns) != 0) {
                return blame(MOXIE_ERR_PEER_LOST, peer, "closed the connection");
            }
        }
    }
    return MOXIE_OK;
}

static void copy_own_part(const bootstrap_part_t *mine, bootstrap_part_t *part)
{
    *part = *mine;
    for (int i = 0; i < BOOTSTRAP_FD_COUNT_MAX; i++) {
        part->fds[i] = mine->fds[i] >= 0 ? fcntl(mine->fds[i], F_DUPFD_CLOEXEC, 0) : -1;
    }
}

static moxie_status_t allgather_as_hub(const bootstrap_t *bootstrap, const bootstrap_part_t *mine,
                                       const moxie_error_t *refusal, uint64_t deadline_ns,
                                       bootstrap_part_t *parts)
{
    copy_own_part(mine, &parts[0]);
    moxie_status_t status = gather_at_hub(bootstrap, parts, deadline_ns);
    if (refusal != NULL) {
        status = error_adopt(refusal);
    }
    if (status == MOXIE_OK) {
        status = scatter_from_hub(bootstrap, parts, deadline_ns);
    }
    if (status != MOXIE_OK) {
        broadcast_refusal(bootstrap, deadline_after_us(HELLO_TIMEOUT_US));
    }
    return status;
}

static moxie_status_t allgather_as_peer(const bootstrap_t *bootstrap, const bootstrap_part_t *mine,
                                        const moxie_error_t *refusal, uint64_t deadline_ns,
                                        bootstrap_part_t *parts)
{
    frame_t frame;
    deadline_ns += HUB_GRACE_NS;
    frame_from_part(&frame, bootstrap, bootstrap->rank, mine);
    if (refusal != NULL) {
        frame_start(&frame, FRAME_REFUSAL, bootstrap->sequence, bootstrap->rank,
                    bootstrap->rank_count);
        frame.error = *refusal;
    }
    if (frame_send(bootstrap->sockets[0], &frame, refusal == NULL ? mine->fds : NULL,
                   deadline_ns) != 0) {
        /* The hub may have told us why before it closed: its word is in the receive queue. */
        int fds[BOOTSTRAP_FD_COUNT_MAX];
        return receive_frame(bootstrap, 0, &frame, fds, deadline_ns);
    }
    for (int32_t i = 0; i < bootstrap->rank_count; i++) {
        int fds[BOOTSTRAP_FD_COUNT_MAX];
        const moxie_status_t status = receive_frame(bootstrap, 0, &frame, fds, deadline_ns);
        if (status != MOXIE_OK) {
            return status;
        }
        part_from_frame(&parts[frame.rank], &frame, fds);
    }
    return MOXIE_OK;
}

moxie_status_t bootstrap_allgather(bootstrap_t *bootstrap, const bootstrap_part_t *mine,
                                   const moxie_error_t *refusal, uint64_t deadline_ns,
                                   bootstrap_part_t *parts)
{
    if (bootstrap->broken) {
        return error_set(MOXIE_ERR_REVOKED, "an earlier collective call of this group failed");
    }
    bootstrap->sequence++;
    for (int32_t rank = 0; rank < bootstrap->rank_count; rank++) {
        memset(&parts[rank], 0, sizeof(parts[rank]));
        for (int i = 0; i < BOOTSTRAP_FD_COUNT_MAX; i++) {
            parts[rank].fds[i] = -1;
        }
    }
    const moxie_status_t status =
        bootstrap->rank == 0 ? allgather_as_hub(bootstrap, mine, refusal, deadline_ns, parts)
                             : allgather_as_peer(bootstrap, mine, refusal, deadline_ns, parts);
    if (status != MOXIE_OK) {
        bootstrap_close_fds(parts, bootstrap->rank_count);
        /* A refusal leaves everyone in step; anything else may not. */
        bootstrap->broken = status == MOXIE_ERR_TIMEOUT || status == MOXIE_ERR_PEER_LOST ||
                            status == MOXIE_ERR_PROTOCOL;
    }
    return status;
}
