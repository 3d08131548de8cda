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
#define HUB_GRACE_NS 150000000u

/* For as long the hub tries to tell that it gives up. */
#define REFUSAL_TIMEOUT_US 100000

/* Connections that may be waiting to be heard. */
#define LOBBY_COUNT_MAX 64

/* A deadline that has passed: what is there, and nothing more. */
#define NOT_WAITING 0

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

/* The peer whose socket has just failed, by errno. */
static moxie_status_t blame_silent(int32_t peer)
{
    return errno == ETIMEDOUT ? blame(MOXIE_ERR_TIMEOUT, peer, "did not take part in time")
                              : blame(MOXIE_ERR_PEER_LOST, peer, "closed the connection");
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

/* Judges a hello whose sender may be anybody. MOXIE_OK with hello->rank < 0: a stranger. */
static moxie_status_t judge_hello(const bootstrap_t *bootstrap, frame_t *hello, int received)
{
    if (received < (int)FRAME_PREFIX_BYTES || hello->magic != FRAME_MAGIC ||
        hello->kind != FRAME_HELLO) {
        hello->rank = -1;
        return MOXIE_OK;
    }
    if (hello->protocol != FRAME_PROTOCOL || hello->version != MOXIE_VERSION) {
        error_set(MOXIE_ERR_MISMATCH,
                  "a rank speaks protocol %u of libmoxie %d, rank 0 protocol %u of libmoxie %d",
                  hello->protocol, hello->version, FRAME_PROTOCOL, MOXIE_VERSION);
        error_detail()->expected = MOXIE_VERSION;
        error_detail()->observed = hello->version;
        return MOXIE_ERR_MISMATCH;
    }
    if (received != (int)sizeof(*hello)) {
        hello->rank = -1;
        return MOXIE_OK;
    }
    if (hello->rank_count != bootstrap->rank_count) {
        error_set(MOXIE_ERR_MISMATCH, "rank %d says there are %d ranks, rank 0 says %d",
                  hello->rank, hello->rank_count, bootstrap->rank_count);
        error_detail()->peer = hello->rank;
        error_detail()->expected = bootstrap->rank_count;
        error_detail()->observed = hello->rank_count;
        return MOXIE_ERR_MISMATCH;
    }
    if (hello->rank < 1 || hello->rank >= bootstrap->rank_count) {
        return blame(MOXIE_ERR_MISMATCH, hello->rank, "is not a rank of this group");
    }
    if (bootstrap->sockets[hello->rank] >= 0) {
        return blame(MOXIE_ERR_MISMATCH, hello->rank, "is there twice");
    }
    return MOXIE_OK;
}

/* Connections that have not said hello. Strangers may be among them, and may stay silent. */
typedef struct lobby {
    struct pollfd sockets[LOBBY_COUNT_MAX];
    nfds_t count;
} lobby_t;

static void leave_lobby(lobby_t *lobby, nfds_t index, int is_dropped)
{
    if (is_dropped) {
        close(lobby->sockets[index].fd);
    }
    lobby->count--;
    memmove(&lobby->sockets[index], &lobby->sockets[index + 1],
            sizeof(lobby->sockets[0]) * (lobby->count - index));
}

/* Takes every connection that waits. Too many strangers push out the eldest of them: a rank says
 * hello as soon as it is connected. */
static void fill_lobby(lobby_t *lobby, const rendezvous_t *rendezvous)
{
    int socket_fd;
    while ((socket_fd = rendezvous_accept(rendezvous)) >= 0) {
        if (lobby->count == LOBBY_COUNT_MAX) {
            leave_lobby(lobby, 0, 1);
        }
        lobby->sockets[lobby->count++] = (struct pollfd){.fd = socket_fd, .events = POLLIN};
    }
}

/* Reads what those in the lobby say. Ranks go to their place, strangers go away. */
static moxie_status_t hear_lobby(bootstrap_t *bootstrap, lobby_t *lobby, uint64_t *deadline_ns)
{
    for (nfds_t i = 0; i < lobby->count;) {
        frame_t hello = {0};
        int fds[BOOTSTRAP_FD_COUNT_MAX];
        const int socket_fd = lobby->sockets[i].fd;
        errno = 0;
        const int received = frame_receive(socket_fd, &hello, fds, NOT_WAITING);
        close_all(fds);
        if (received < 0 && errno == ETIMEDOUT) {
            i++; /* silent so far */
            continue;
        }
        const moxie_status_t status = judge_hello(bootstrap, &hello, received);
        if (status != MOXIE_OK) {
            frame_start(&hello, FRAME_REFUSAL, 0, 0, bootstrap->rank_count);
            hello.error = *error_detail();
            frame_send(socket_fd, &hello, NULL, NOT_WAITING);
            leave_lobby(lobby, i, 1);
            return status;
        }
        if (hello.rank >= 0) {
            bootstrap->sockets[hello.rank] = socket_fd;
            *deadline_ns = deadline_earlier(*deadline_ns, hello.deadline_ns);
        }
        leave_lobby(lobby, i, hello.rank < 0);
    }
    return MOXIE_OK;
}

/* The lowest rank that has not joined; rank_count when all have. */
static int32_t find_missing(const bootstrap_t *bootstrap)
{
    int32_t rank = 1;
    while (rank < bootstrap->rank_count && bootstrap->sockets[rank] >= 0) {
        rank++;
    }
    return rank;
}

/* Sleeps until somebody comes or speaks. Who has joined and ended since is found when all are there
 * to hear of it. */
static void watch_door(const rendezvous_t *rendezvous, const lobby_t *lobby, uint64_t deadline_ns)
{
    struct pollfd entries[1 + LOBBY_COUNT_MAX];
    entries[0] = (struct pollfd){.fd = rendezvous->listener, .events = POLLIN};
    memcpy(&entries[1], lobby->sockets, sizeof(lobby->sockets[0]) * lobby->count);
    poll(entries, 1 + lobby->count, deadline_left_ms(deadline_ns));
}

/* The hub's side: takes connections until every rank is there. The first rank to give up decides
 * when: so each hears from the hub who was missing, within its own deadline. */
static moxie_status_t gather_ranks(bootstrap_t *bootstrap, const rendezvous_t *rendezvous,
                                   uint64_t deadline_ns)
{
    lobby_t lobby = {.count = 0};
    moxie_status_t status = MOXIE_OK;
    for (;;) {
        fill_lobby(&lobby, rendezvous);
        status = hear_lobby(bootstrap, &lobby, &deadline_ns);
        const int32_t missing = find_missing(bootstrap);
        if (status != MOXIE_OK || missing == bootstrap->rank_count) {
            break;
        }
        if (deadline_left_ns(deadline_ns) == 0) {
            status = blame(MOXIE_ERR_TIMEOUT, missing, "did not join in time");
            break;
        }
        watch_door(rendezvous, &lobby, deadline_ns);
    }
    while (lobby.count > 0) {
        leave_lobby(&lobby, 0, 1);
    }
    if (status != MOXIE_OK) {
        error_default_phase("group_create", "join");
    }
    return status;
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
    hello.deadline_ns = deadline_ns;
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
            broadcast_refusal(bootstrap, deadline_after_us(REFUSAL_TIMEOUT_US));
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
        close_all(fds); /* an empty message can bring some all the same */
        return blame_silent(peer);
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

/* After these the ranks may no longer be in step; after a refusal they are. */
static int breaks_step(moxie_status_t status)
{
    return status == MOXIE_ERR_TIMEOUT || status == MOXIE_ERR_PEER_LOST ||
           status == MOXIE_ERR_PROTOCOL;
}

/* What the hub hears in one allgather. */
typedef struct hearing {
    const bootstrap_t *bootstrap;
    bootstrap_part_t *parts;
    uint64_t deadline_ns;   /* the earliest of those that are known */
    struct pollfd *entries; /* [rank_count] fd -1: heard, or not expected */
    int32_t missing_count;
    int32_t refusing_rank; /* the lowest one that refuses; rank_count: none */
    moxie_error_t refusal;
} hearing_t;

static moxie_status_t hear_peer(hearing_t *hearing, int32_t peer)
{
    frame_t frame;
    int fds[BOOTSTRAP_FD_COUNT_MAX];
    moxie_status_t status =
        receive_frame(hearing->bootstrap, peer, &frame, fds, hearing->deadline_ns);
    hearing->entries[peer].fd = -1;
    hearing->missing_count--;
    if (status == MOXIE_OK && frame.rank != peer) {
        close_all(fds);
        status = blame(MOXIE_ERR_PROTOCOL, peer, "speaks for another rank");
    }
    if (breaks_step(status)) {
        return status;
    }
    hearing->deadline_ns = deadline_earlier(hearing->deadline_ns, frame.deadline_ns);
    if (status == MOXIE_OK) {
        part_from_frame(&hearing->parts[peer], &frame, fds);
    } else if (peer < hearing->refusing_rank) { /* go on: the lowest rank's error is everyone's */
        hearing->refusing_rank = peer;
        hearing->refusal = *error_detail();
    }
    return MOXIE_OK;
}

/* Hears the peers in the order in which they speak. */
static moxie_status_t hear_all(hearing_t *hearing)
{
    const int32_t rank_count = hearing->bootstrap->rank_count;
    while (hearing->missing_count > 0) {
        if (poll(hearing->entries, (nfds_t)rank_count, deadline_left_ms(hearing->deadline_ns)) <=
            0) {
            if (deadline_left_ns(hearing->deadline_ns) > 0) {
                continue;
            }
            int32_t missing = 1;
            while (hearing->entries[missing].fd < 0) {
                missing++;
            }
            return blame(MOXIE_ERR_TIMEOUT, missing, "did not take part in time");
        }
        for (int32_t peer = 1; peer < rank_count; peer++) {
            const moxie_status_t status =
                hearing->entries[peer].revents != 0 ? hear_peer(hearing, peer) : MOXIE_OK;
            if (status != MOXIE_OK) {
                return status;
            }
        }
    }
    return MOXIE_OK;
}

static moxie_status_t gather_at_hub(const bootstrap_t *bootstrap, const moxie_error_t *refusal,
                                    uint64_t *deadline_ns, bootstrap_part_t *parts)
{
    struct pollfd entries[MOXIE_RANK_COUNT_MAX];
    hearing_t hearing = {.bootstrap = bootstrap,
                         .parts = parts,
                         .deadline_ns = *deadline_ns,
                         .entries = entries,
                         .missing_count = bootstrap->rank_count - 1,
                         .refusing_rank = bootstrap->rank_count};
    entries[0] = (struct pollfd){.fd = -1};
    for (int32_t peer = 1; peer < bootstrap->rank_count; peer++) {
        entries[peer] = (struct pollfd){.fd = bootstrap->sockets[peer], .events = POLLIN};
    }
    const moxie_status_t status = hear_all(&hearing);
    *deadline_ns = hearing.deadline_ns;
    if (status != MOXIE_OK) {
        return status;
    }
    if (refusal != NULL) {
        return error_adopt(refusal);
    }
    if (hearing.refusing_rank < bootstrap->rank_count) {
        return error_adopt(&hearing.refusal);
    }
    if (deadline_left_ns(*deadline_ns + HUB_GRACE_NS) == 0) {
        return blame(MOXIE_ERR_TIMEOUT, 0, "did not take part in time"); /* a peer has gone */
    }
    return MOXIE_OK;
}

static moxie_status_t scatter_from_hub(const bootstrap_t *bootstrap, const bootstrap_part_t *parts,
                                       uint64_t deadline_ns)
{
    for (int32_t rank = 0; rank < bootstrap->rank_count; rank++) {
        frame_t frame;
        frame_from_part(&frame, bootstrap, rank, &parts[rank]);
        for (int32_t peer = 1; peer < bootstrap->rank_count; peer++) {
            if (frame_send(bootstrap->sockets[peer], &frame, parts[rank].fds, deadline_ns) != 0) {
                return blame_silent(peer);
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
    moxie_status_t status = gather_at_hub(bootstrap, refusal, &deadline_ns, parts);
    if (status == MOXIE_OK) {
        status = scatter_from_hub(bootstrap, parts, deadline_ns + HUB_GRACE_NS);
    }
    if (status != MOXIE_OK) {
        broadcast_refusal(bootstrap, deadline_after_us(REFUSAL_TIMEOUT_US));
    }
    return status;
}

static moxie_status_t allgather_as_peer(const bootstrap_t *bootstrap, const bootstrap_part_t *mine,
                                        const moxie_error_t *refusal, uint64_t deadline_ns,
                                        bootstrap_part_t *parts)
{
    frame_t frame;
    frame_from_part(&frame, bootstrap, bootstrap->rank, mine);
    if (refusal != NULL) {
        frame_start(&frame, FRAME_REFUSAL, bootstrap->sequence, bootstrap->rank,
                    bootstrap->rank_count);
        frame.error = *refusal;
    }
    frame.deadline_ns = deadline_ns;
    deadline_ns += HUB_GRACE_NS;
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
        if (frame.rank != i) { /* twice the same would lose descriptors */
            close_all(fds);
            return blame(MOXIE_ERR_PROTOCOL, 0, "is out of step");
        }
        part_from_frame(&parts[i], &frame, fds);
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
        bootstrap->broken = breaks_step(status);
    }
    return status;
}

int bootstrap_is_broken(const bootstrap_t *bootstrap)
{
    return bootstrap->broken;
}
