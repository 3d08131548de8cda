/* SPDX-License-Identifier: Apache-2.0 */
/* Sending and receiving frames with file descriptors. */
#include "transport/frame.h"

#include "moxie/version.h"
#include "transport/deadline.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void frame_start(frame_t *frame, frame_kind_t kind, uint32_t sequence, int32_t rank,
                 int32_t rank_count)
{
    memset(frame, 0, sizeof(*frame));
    frame->magic = FRAME_MAGIC;
    frame->protocol = FRAME_PROTOCOL;
    frame->version = MOXIE_VERSION;
    frame->kind = (uint32_t)kind;
    frame->sequence = sequence;
    frame->rank = rank;
    frame->rank_count = rank_count;
}

int frame_is_sound(const frame_t *frame, size_t received_bytes)
{
    return received_bytes == sizeof(*frame) && frame->magic == FRAME_MAGIC &&
           frame->protocol == FRAME_PROTOCOL && frame->kind >= FRAME_HELLO &&
           frame->kind <= FRAME_REFUSAL && frame->bytes <= BOOTSTRAP_BYTES_MAX;
}

/* Waits until the socket can be read or written; 0, or -1 with errno. */
static int wait_ready(int socket_fd, short events, uint64_t deadline_ns)
{
    struct pollfd entry = {.fd = socket_fd, .events = events};
    for (;;) {
        const int ready = poll(&entry, 1, deadline_left_ms(deadline_ns));
        if (ready > 0) {
            return 0;
        }
        if (ready < 0 && errno != EINTR) {
            return -1;
        }
        if (deadline_left_ns(deadline_ns) == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
}

/* Room for the control message that carries descriptors, aligned as the kernel wants it. */
typedef union fd_message {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * BOOTSTRAP_FD_COUNT_MAX)];
} fd_message_t;

static size_t count_fds(const int *fds)
{
    size_t count = 0;
    while (fds != NULL && count < BOOTSTRAP_FD_COUNT_MAX && fds[count] >= 0) {
        count++;
    }
    return count;
}

int frame_send(int socket_fd, const frame_t *frame, const int *fds, uint64_t deadline_ns)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)frame, .iov_len = sizeof(*frame)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    fd_message_t control;
    const size_t fd_bytes = sizeof(int) * count_fds(fds);
    if (fd_bytes > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(fd_bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fd_bytes);
        memcpy(CMSG_DATA(header), fds, fd_bytes);
    }
    for (;;) {
        if (sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
            return 0;
        }
        if (errno != EAGAIN && errno != EINTR) {
            return -1;
        }
        if (wait_ready(socket_fd, POLLOUT, deadline_ns) != 0) {
            return -1;
        }
    }
}

/* Takes descriptors out of a message; closes what is more than we asked for. */
static void take_fds(struct msghdr *message, int *fds)
{
    size_t taken = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
            if (taken < BOOTSTRAP_FD_COUNT_MAX) {
                fds[taken++] = fd;
            } else {
                close(fd);
            }
        }
    }
}

int frame_receive(int socket_fd, frame_t *frame, int *fds, uint64_t deadline_ns)
{
    for (int i = 0; i < BOOTSTRAP_FD_COUNT_MAX; i++) {
        fds[i] = -1;
    }
    int was_reset = 0;
    for (;;) {
        struct iovec part = {.iov_base = frame, .iov_len = sizeof(*frame)};
        fd_message_t control;
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof(control.bytes)};
        const ssize_t received =
            recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | MSG_TRUNC);
        if (received >= 0) {
            take_fds(&message, fds);
            return (int)received;
        }
        if (errno == ECONNRESET && !was_reset) {
            was_reset = 1; /* told once, and in front of what the peer said before it closed */
            continue;
        }
        if (errno != EAGAIN && errno != EINTR) {
            return -1;
        }
        if (wait_ready(socket_fd, POLLIN, deadline_ns) != 0) {
            return -1;
        }
    }
}
