/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever finds the socket where the ranks meet: strangers are dropped and the group forms; who
 * claims to be a rank and cannot be ends the attempt for all alike; another user is not let in. */
#include "support/check.h"
#include "support/world.h"

#include "moxie/moxie.h"
#include "transport/deadline.h"
#include "transport/frame.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The world's last member is the stranger. */
enum { RANKS = 3, MEMBERS = RANKS + 1, STRANGER = RANKS, NOBODY = 65534 };

/* A socket's state in /proc/net/unix: SS_CONNECTED of linux/net.h. */
enum { CONNECTED = 3 };

typedef struct scene {
    void (*mischief)(world_rank_t *self, const char *path);
    moxie_status_t wanted; /* of every rank that comes */
    int32_t rank_count;    /* ranks that come; the last ones wait until the mischief is done */
    const char *message;   /* part of the error's message */
    atomic_int is_done;
} scene_t;

static void nap(void)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    (void)nanosleep(&pause, NULL);
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    return address;
}

/* A connection to rank 0, once it listens; -1 with errno when it is refused. */
static int come_in(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    for (int try = 0; try < 2000; try++, nap()) {
        const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
            return fd;
        }
        const int reason = errno;
        (void)close(fd);
        errno = reason;
        if (reason != ENOENT && reason != ECONNREFUSED && reason != EAGAIN) {
            return -1;
        }
    }
    return -1;
}

/* Rank 0 turns some strangers away before they have said a word. */
static bool is_turned_away(void)
{
    return errno == EPIPE || errno == ECONNRESET;
}

/* The other side has closed, within 5 s; what it said before is read. */
static bool is_closed(int fd)
{
    frame_t frame;
    int fds[BOOTSTRAP_FD_COUNT_MAX];
    const uint64_t deadline_ns = deadline_after_us(5000000);
    for (;;) {
        errno = 0;
        if (frame_receive(fd, &frame, fds, deadline_ns) <= 0) {
            return errno != ETIMEDOUT;
        }
    }
}

static void say(world_rank_t *self, const char *path, const void *bytes, size_t count)
{
    const int fd = come_in(path);
    if (fd < 0) {
        world_fail(self, "cannot come in: %s", strerror(errno));
        return;
    }
    const bool has_spoken = send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count;
    if (has_spoken ? !is_closed(fd) : !is_turned_away()) {
        world_fail(self, "%zu bytes of nonsense were not refused: %s", count, strerror(errno));
    }
    (void)close(fd);
}

static frame_t hello_of(int32_t rank)
{
    frame_t hello;
    frame_start(&hello, FRAME_HELLO, 0, rank, RANKS);
    hello.deadline_ns = UINT64_MAX;
    return hello;
}

/* More silent connections than rank 0 listens to at a time; they stay until the end. */
static void be_silent(world_rank_t *self, const char *path)
{
    for (int i = 0; i < 100; i++) {
        if (come_in(path) < 0) {
            world_fail(self, "connection %d: %s", i, strerror(errno));
        }
    }
}

static void talk_nonsense(world_rank_t *self, const char *path)
{
    unsigned char noise[sizeof(frame_t)];
    unsigned seed = 7;
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (unsigned char)rand_r(&seed);
    }
    say(self, path, "", 0);
    say(self, path, noise, 1);
    say(self, path, noise, 100);
    say(self, path, noise, sizeof(noise));
    frame_t hello = hello_of(1);
    hello.magic++;
    say(self, path, &hello, sizeof(hello));
    hello = hello_of(1);
    hello.kind = FRAME_PART;
    say(self, path, &hello, sizeof(hello));
    hello = hello_of(1); /* cut off */
    say(self, path, &hello, sizeof(hello) - 1);
    say(self, path, &hello, 4);
}

static void talk_too_much(world_rank_t *self, const char *path)
{
    static unsigned char packet[100000];
    const frame_t hello = hello_of(1);
    memcpy(packet, &hello, sizeof(hello));
    say(self, path, packet, sizeof(packet));
}

static void bring_descriptors(world_rank_t *self, const char *path)
{
    enum { COUNT = 200 };
    static char control[CMSG_SPACE(sizeof(int) * COUNT)] __attribute__((aligned(16)));
    char text[] = "take these";
    struct iovec part = {.iov_base = text, .iov_len = sizeof(text)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * COUNT);
    memset(CMSG_DATA(header), 0, sizeof(int) * COUNT); /* its standard input, 200 times */
    const int fd = come_in(path);
    if (fd < 0 || sendmsg(fd, &message, MSG_NOSIGNAL) < 0 || !is_closed(fd)) {
        world_fail(self, "200 descriptors were not refused: %s", strerror(errno));
    }
    (void)close(fd);
}

static void speak_another_protocol(world_rank_t *self, const char *path)
{
    frame_t hello = hello_of(2);
    hello.protocol++;
    say(self, path, &hello, sizeof(hello));
}

static void be_no_rank(world_rank_t *self, const char *path)
{
    const frame_t hello = hello_of(RANKS + 4);
    say(self, path, &hello, sizeof(hello));
}

static void be_rank_1_too(world_rank_t *self, const char *path)
{
    const frame_t hello = hello_of(1);
    say(self, path, &hello, sizeof(hello));
}

static bool become_nobody(world_rank_t *self)
{
    if (setgid(NOBODY) == 0 && setuid(NOBODY) == 0) {
        return true;
    }
    world_fail(self, "cannot become another user: %s", strerror(errno));
    return false;
}

/* Rank 0 listens, so that it has set the mode of its socket. To it this is a stranger, who goes. */
static void wait_for_listener(world_rank_t *self, const char *path)
{
    const int fd = come_in(path);
    if (fd < 0) {
        world_fail(self, "rank 0 does not listen: %s", strerror(errno));
        return;
    }
    (void)close(fd);
}

/* Connections at a socket's path that have been accepted, by /proc/net/unix: number, references,
 * protocol, flags, type, state, inode, path. */
static int count_connections(const char *path)
{
    char line[512];
    char at[256];
    unsigned state = 0;
    int count = 0;
    FILE *sockets = fopen("/proc/net/unix", "r");
    while (sockets != NULL && fgets(line, sizeof(line), sockets) != NULL) {
        count += sscanf(line, "%*s %*s %*s %*s %*s %x %*s %255s", &state, at) == 2 &&
                 state == CONNECTED && strcmp(at, path) == 0;
    }
    if (sockets != NULL) {
        (void)fclose(sockets);
    }
    return count;
}

/* Until rank 1 has come, and then a little, in which it says hello. */
static void wait_for_rank_1(const char *path)
{
    for (int try = 0; try < 2000 && count_connections(path) == 0; try++) {
        nap();
    }
    for (int i = 0; i < 50; i++) {
        nap();
    }
}

static void be_outside_the_folder(world_rank_t *self, const char *path)
{
    wait_for_listener(self, path);
    if (become_nobody(self) && (come_in(path) >= 0 || errno != EACCES)) {
        world_fail(self, "another user came in");
    }
}

static void be_another_user(world_rank_t *self, const char *path)
{
    wait_for_listener(self, path);
    if (chmod(self->folder, 0755) != 0 || chmod(path, 0666) != 0 || !become_nobody(self)) {
        world_fail(self, "the folder cannot be opened to all");
    }
    const frame_t hello = hello_of(1);
    say(self, path, &hello, sizeof(hello));
}

static int32_t count_fds(void)
{
    int32_t count = 0;
    DIR *entries = opendir("/proc/self/fd");
    while (entries != NULL && readdir(entries) != NULL) {
        count++;
    }
    if (entries != NULL) {
        (void)closedir(entries);
    }
    return count;
}

static void be_rank(world_rank_t *self, scene_t *scene, const char *path)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    moxie_error_t error = MOXIE_ERROR_INIT;
    moxie_group_t *group = NULL;
    const int32_t fd_count = count_fds();
    options.rank = self->rank;
    options.rank_count = RANKS;
    options.backend = "shm";
    options.rendezvous = path;
    options.first_timeout_us = 10000000;
    /* Where all join they do so afterwards; where nobody can, rank 1 has done so before. */
    while (scene->wanted == MOXIE_OK && self->rank > 0 && !atomic_load(&scene->is_done)) {
        nap();
    }
    world_expect(self, "group_create", moxie_group_create(&options, &group), scene->wanted);
    (void)moxie_last_error(&error);
    if (scene->wanted == MOXIE_OK) {
        world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    } else if (strstr(error.message, scene->message) == NULL) {
        world_fail(self, "the error is: %s", error.message);
    }
    moxie_group_destroy(group);
    if (count_fds() != fd_count) {
        world_fail(self, "%d descriptors, %d before", count_fds(), fd_count);
    }
}

static void play(world_rank_t *self)
{
    char path[256];
    scene_t *scene = self->arg;
    (void)snprintf(path, sizeof(path), "%s/meet", self->folder);
    if (self->rank == STRANGER) {
        if (scene->wanted != MOXIE_OK) {
            wait_for_rank_1(path); /* which is to be refused too */
        }
        scene->mischief(self, path);
        atomic_store(&scene->is_done, 1);
        for (int try = 0; try < 2000 && access(path, F_OK) == 0; try++) {
            nap();
        }
    } else if (self->rank < scene->rank_count) {
        be_rank(self, scene, path);
    }
}

static void run(void (*mischief)(world_rank_t *self, const char *path), moxie_status_t wanted,
                const char *message)
{
    const world_options_t options = {
        .rank_count = MEMBERS, .mode = WORLD_PROCESSES, .backend = "shm", .deadline_s = 30};
    scene_t *scene =
        mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(scene != MAP_FAILED);
    scene->mischief = mischief;
    scene->wanted = wanted;
    scene->rank_count = wanted == MOXIE_OK ? RANKS : RANKS - 1;
    scene->message = message;
    world_run(&options, play, scene);
    (void)munmap(scene, sizeof(*scene));
}

static void test_silent_strangers(void **state)
{
    (void)state;
    run(be_silent, MOXIE_OK, "");
}

static void test_nonsense(void **state)
{
    (void)state;
    run(talk_nonsense, MOXIE_OK, "");
}

static void test_an_oversized_packet(void **state)
{
    (void)state;
    run(talk_too_much, MOXIE_OK, "");
}

static void test_descriptors(void **state)
{
    (void)state;
    run(bring_descriptors, MOXIE_OK, "");
}

static void test_another_protocol(void **state)
{
    (void)state;
    run(speak_another_protocol, MOXIE_ERR_MISMATCH, "protocol 2");
}

static void test_a_rank_out_of_range(void **state)
{
    (void)state;
    run(be_no_rank, MOXIE_ERR_MISMATCH, "rank 7 is not a rank of this group");
}

static void test_a_doubled_rank(void **state)
{
    (void)state;
    run(be_rank_1_too, MOXIE_ERR_MISMATCH, "rank 1 is there twice");
}

static void skip_unless_root(void)
{
    if (geteuid() != 0) {
        print_message("only root can become another user\n");
        skip();
    }
}

static void test_another_user_and_a_closed_folder(void **state)
{
    (void)state;
    skip_unless_root();
    run(be_outside_the_folder, MOXIE_OK, "");
}

static void test_another_user_and_an_open_folder(void **state)
{
    (void)state;
    skip_unless_root();
    run(be_another_user, MOXIE_OK, "");
}

/* The other way round: another user listens where rank 0 should, and says nothing. */
static void listen_as_nobody(world_rank_t *self)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/meet", self->folder);
    if (self->rank == 0) {
        const struct sockaddr_un address = address_of(path);
        const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (chmod(self->folder, 0777) != 0 || !become_nobody(self) ||
            bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
            listen(fd, 1) != 0) {
            world_fail(self, "cannot listen: %s", strerror(errno));
        }
        const int guest = accept(fd, NULL, NULL);
        char byte;
        if (recv(guest, &byte, 1, 0) > 0) {
            world_fail(self, "a rank spoke to another user");
        }
        (void)unlink(path);
        return;
    }
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    moxie_group_t *group = NULL;
    options.rank = 1;
    options.rank_count = 2;
    options.backend = "shm";
    options.rendezvous = path;
    options.first_timeout_us = 10000000;
    world_expect(self, "group_create", moxie_group_create(&options, &group), MOXIE_ERR_PROTOCOL);
}

static void test_another_user_as_rank_0(void **state)
{
    (void)state;
    skip_unless_root();
    const world_options_t options = {
        .rank_count = 2, .mode = WORLD_PROCESSES, .backend = "shm", .deadline_s = 30};
    world_run(&options, listen_as_nobody, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_strangers),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_an_oversized_packet),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_another_protocol),
        cmocka_unit_test(test_a_rank_out_of_range),
        cmocka_unit_test(test_a_doubled_rank),
        cmocka_unit_test(test_another_user_and_a_closed_folder),
        cmocka_unit_test(test_another_user_and_an_open_folder),
        cmocka_unit_test(test_another_user_as_rank_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
