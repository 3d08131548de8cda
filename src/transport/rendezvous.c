/* SPDX-License-Identifier: Apache-2.0 */
/* The Unix socket where the ranks of one host find each other. */
#include "transport/rendezvous.h"

#include "core/error.h"
#include "transport/deadline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_NAME "/moxie.sock"

static struct sockaddr_un address_of(const rendezvous_t *rendezvous)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, rendezvous->path, sizeof(address.sun_path));
    return address;
}

/* A folder of mode 0700 for this group alone. */
static moxie_status_t make_folder(rendezvous_t *out)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    if (base == NULL || base[0] != '/' || access(base, W_OK) != 0 || strlen(base) > 60) {
        base = "/tmp";
    }
    snprintf(out->path, sizeof(out->path), "%s/moxie-XXXXXX", base);
    if (mkdtemp(out->path) == NULL) {
        return error_set_errno("cannot make a folder in %s", base);
    }
    out->owns_folder = 1;
    strncat(out->path, SOCKET_NAME, sizeof(out->path) - strlen(out->path) - 1);
    return MOXIE_OK;
}

/* Rank 0 makes the path and the caller's allgather carries it to everyone. */
static moxie_status_t agree_on_path(const moxie_group_options_t *options, rendezvous_t *out)
{
    char mine[sizeof(out->path)] = {0};
    moxie_status_t status = MOXIE_OK;
    if (options->rank == 0) {
        status = make_folder(out);
        memcpy(mine, out->path, sizeof(mine));
    }
    char *all = calloc((size_t)options->rank_count, sizeof(mine));
    if (all == NULL) {
        return error_set(MOXIE_ERR_MEMORY, "no memory for %d paths", options->rank_count);
    }
    if (options->allgather(options->allgather_ctx, mine, all, sizeof(mine)) != 0) {
        status = error_set(MOXIE_ERR_SYSTEM, "the caller's allgather failed");
    } else if (status == MOXIE_OK && options->rank != 0) {
        memcpy(out->path, all, sizeof(out->path));
        out->path[sizeof(out->path) - 1] = '\0';
        if (out->path[0] != '/') {
            status = error_set(MOXIE_ERR_PEER_LOST, "rank 0 could not make a rendezvous");
            error_detail()->peer = 0;
        }
    }
    free(all);
    return status;
}

/* A socket file that nobody listens on is left over from a job that was killed. */
static int is_stale(const struct sockaddr_un *address)
{
    struct stat info;
    if (lstat(address->sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) {
        return 0;
    }
    const int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const int refused = probe >= 0 &&
                        connect(probe, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
                        errno == ECONNREFUSED;
    if (probe >= 0) {
        close(probe);
    }
    return refused;
}

static moxie_status_t listen_at(rendezvous_t *out)
{
    const struct sockaddr_un address = address_of(out);
    out->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (out->listener < 0) {
        return error_set_errno("cannot make a Unix socket");
    }
    int bound = bind(out->listener, (const struct sockaddr *)&address, sizeof(address));
    if (bound != 0 && errno == EADDRINUSE && is_stale(&address)) {
        unlink(address.sun_path);
        bound = bind(out->listener, (const struct sockaddr *)&address, sizeof(address));
    }
    if (bound != 0 && errno == EADDRINUSE) {
        close(out->listener);
        out->listener = -1; /* the socket at that path is not ours to remove */
        error_set(MOXIE_ERR_MISMATCH, "rank 0 is there twice: another one listens at %s",
                  out->path);
        error_detail()->peer = 0;
        return MOXIE_ERR_MISMATCH;
    }
    if (bound != 0 || chmod(out->path, S_IRUSR | S_IWUSR) != 0 ||
        listen(out->listener, MOXIE_RANK_COUNT_MAX) != 0) {
        const moxie_status_t status = error_set_errno("cannot listen at %s", out->path);
        close(out->listener);
        out->listener = -1;
        return status;
    }
    return MOXIE_OK;
}

moxie_status_t rendezvous_open(const moxie_group_options_t *options, rendezvous_t *out)
{
    memset(out, 0, sizeof(*out));
    out->listener = -1;
    moxie_status_t status = MOXIE_OK;
    if (options->rendezvous == NULL) {
        status = agree_on_path(options, out);
    } else if (options->rendezvous[0] == '\0' || strlen(options->rendezvous) >= sizeof(out->path)) {
        return error_set(MOXIE_ERR_ARGUMENT, "the rendezvous path has %zu characters, not 1 to %zu",
                         strlen(options->rendezvous), sizeof(out->path) - 1);
    } else {
        strcpy(out->path, options->rendezvous);
    }
    if (status == MOXIE_OK && options->rank == 0) {
        status = listen_at(out);
    }
    if (status != MOXIE_OK) {
        rendezvous_close(out);
    }
    return status;
}

static int is_same_user(int socket_fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof(peer);
    return getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
           peer.uid == geteuid();
}

int rendezvous_accept(const rendezvous_t *rendezvous)
{
    for (;;) {
        const int socket_fd = accept4(rendezvous->listener, NULL, NULL, SOCK_CLOEXEC);
        if (socket_fd < 0 || is_same_user(socket_fd)) {
            return socket_fd;
        }
        close(socket_fd);
    }
}

moxie_status_t rendezvous_connect(const rendezvous_t *rendezvous, uint64_t deadline_ns,
                                  int *socket_fd)
{
    const struct sockaddr_un address = address_of(rendezvous);
    const struct timespec pause = {.tv_nsec = 2000000};
    for (;;) {
        const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            return error_set_errno("cannot make a Unix socket");
        }
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
            if (is_same_user(fd)) {
                *socket_fd = fd;
                return MOXIE_OK;
            }
            close(fd);
            return error_set(MOXIE_ERR_PROTOCOL, "another user listens at %s", rendezvous->path);
        }
        const int reason = errno;
        close(fd);
        errno = reason;
        if (reason != ENOENT && reason != ECONNREFUSED && reason != EAGAIN && reason != EINTR) {
            return error_set_errno("cannot connect to %s", rendezvous->path);
        }
        if (deadline_left_ns(deadline_ns) == 0) {
            error_set(MOXIE_ERR_TIMEOUT, "rank 0 did not open %s in time", rendezvous->path);
            error_detail()->peer = 0;
            return MOXIE_ERR_TIMEOUT;
        }
        nanosleep(&pause, NULL);
    }
}

void rendezvous_close(rendezvous_t *rendezvous)
{
    if (rendezvous->listener >= 0) {
        close(rendezvous->listener);
        rendezvous->listener = -1;
        unlink(rendezvous->path);
    }
    if (rendezvous->owns_folder) {
        char folder[sizeof(rendezvous->path)];
        memcpy(folder, rendezvous->path, sizeof(folder));
        char *name = strrchr(folder, '/');
        if (name != NULL && strcmp(name, SOCKET_NAME) == 0) {
            *name = '\0';
        }
        rmdir(folder);
        rendezvous->owns_folder = 0;
    }
}
