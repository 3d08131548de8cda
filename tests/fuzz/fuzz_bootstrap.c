/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes over the sockets on which ranks meet: hellos of strangers, and frames of peers in an
 * allgather, with descriptors. Whatever they are, no call hangs, no descriptor stays open, and a
 * failure has a message that ends.
 */
#include "fuzz/fuzz.h"
/* The functions that judge are static. NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "transport/bootstrap.c"

#include <sys/socket.h>

enum { RANKS = 3, PACKET_COUNT_MAX = 6, PACKET_BYTES_MAX = 1024 };

/* Both ends of each rank's connection; those of rank 0 are where hellos arrive. */
typedef struct star {
    int ours[RANKS];
    int theirs[RANKS];
} star_t;

/* One packet to one rank's socket: raw bytes, or a frame whose head is right. */
static void send_packet(const star_t *star, fuzz_input_t *input, int32_t rank_count)
{
    uint8_t control[4];
    uint8_t packet[PACKET_BYTES_MAX];
    fuzz_take(input, control, sizeof(control));
    const int32_t to = control[0] % rank_count;
    size_t bytes = (size_t)control[1] * 4 + control[2] % 4;
    if ((control[2] & 0x80) != 0) {
        frame_t frame;
        frame_start(&frame, (frame_kind_t)(FRAME_HELLO + (control[2] >> 2) % 3), 1,
                    control[3] % RANKS, RANKS);
        frame.bytes = control[1];
        fuzz_take(input, (char *)&frame + offsetof(frame_t, data), control[1]);
        bytes = sizeof(frame);
        memcpy(packet, &frame, bytes);
    } else {
        fuzz_take(input, packet, bytes);
    }
    int fds[BOOTSTRAP_FD_COUNT_MAX + 1] = {-1, -1, -1};
    for (int32_t i = 0; i < (control[3] >> 4) % (BOOTSTRAP_FD_COUNT_MAX + 1); i++) {
        fds[i] = star->theirs[0];
    }
    struct iovec part = {.iov_base = packet, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * BOOTSTRAP_FD_COUNT_MAX)];
    } ancillary = {0};
    const size_t fd_bytes = sizeof(int) * (size_t)((fds[0] >= 0) + (fds[1] >= 0));
    if (fd_bytes > 0) {
        message.msg_control = ancillary.bytes;
        message.msg_controllen = CMSG_SPACE(fd_bytes);
        ancillary.header = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fd_bytes)};
        memcpy(CMSG_DATA(&ancillary.header), fds, fd_bytes);
    }
    (void)sendmsg(star->theirs[to], &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void check_failure(moxie_status_t status)
{
    const moxie_error_t *error = error_detail();
    if (status != MOXIE_OK) {
        FUZZ_REQUIRE(memchr(error->message, '\0', sizeof(error->message)) != NULL);
        FUZZ_REQUIRE(memchr(error->op, '\0', sizeof(error->op)) != NULL);
        FUZZ_REQUIRE(memchr(error->phase, '\0', sizeof(error->phase)) != NULL);
    }
}

/* All hellos that there are, as the hub would judge them. */
static void hear_hellos(const bootstrap_t *bootstrap, int socket_fd)
{
    for (;;) {
        frame_t hello = {0};
        int fds[BOOTSTRAP_FD_COUNT_MAX];
        const int received = frame_receive(socket_fd, &hello, fds, 0);
        close_all(fds);
        if (received <= 0) {
            return;
        }
        const moxie_status_t status = judge_hello(bootstrap, &hello, received);
        check_failure(status);
        if (status == MOXIE_OK && hello.rank >= 0) {
            FUZZ_REQUIRE(hello.rank >= 1 && hello.rank < bootstrap->rank_count);
        }
    }
}

static void gather(bootstrap_t *bootstrap)
{
    static const bootstrap_part_t mine = {.bytes = 3, .data = "abc", .fds = {-1, -1}};
    bootstrap_part_t parts[RANKS];
    const moxie_status_t status =
        bootstrap_allgather(bootstrap, &mine, NULL, deadline_after_us(200000), parts);
    check_failure(status);
    if (status == MOXIE_OK) {
        for (int32_t rank = 0; rank < RANKS; rank++) {
            FUZZ_REQUIRE(parts[rank].bytes <= BOOTSTRAP_BYTES_MAX);
        }
        bootstrap_close_fds(parts, RANKS);
    }
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 64; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    fuzz_input_t input = {bytes, count};
    const int before = count_descriptors();
    star_t star;
    bootstrap_t *bootstrap = calloc(1, bootstrap_bytes(RANKS));
    FUZZ_REQUIRE(bootstrap != NULL);
    bootstrap->rank = fuzz_take_byte(&input) % 2; /* the hub, or a rank */
    bootstrap->rank_count = RANKS;
    for (int32_t rank = 0; rank < RANKS; rank++) {
        int ends[2];
        FUZZ_REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
        star.ours[rank] = ends[0];
        star.theirs[rank] = ends[1];
        bootstrap->sockets[rank] = -1;
    }
    for (int i = 0; i < PACKET_COUNT_MAX && input.count > 0; i++) {
        send_packet(&star, &input, RANKS);
    }
    for (int32_t rank = 0; rank < RANKS; rank++) {
        (void)shutdown(star.theirs[rank], SHUT_WR);
    }
    if (bootstrap->rank == 0) {
        hear_hellos(bootstrap, star.ours[0]);
        memcpy(bootstrap->sockets + 1, star.ours + 1, sizeof(int) * (RANKS - 1));
    } else {
        bootstrap->sockets[0] = star.ours[0];
    }
    gather(bootstrap);
    gather(bootstrap);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        close(star.ours[rank]);
        close(star.theirs[rank]);
    }
    free(bootstrap);
    FUZZ_REQUIRE(count_descriptors() == before);
    return 0;
}
