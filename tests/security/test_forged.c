/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that has joined and then sends what cannot be: the others refuse it and do not crash. And
 * what a peer can reach of a rank: its windows, and nothing else. */
#include "support/check.h"
#include "support/world.h"

#include "core/error.h"
#include "exchange/shm/offer.h"
#include "exchange/shm/shm.h"
#include "moxie/moxie.h"
#include "transport/deadline.h"
#include "transport/shm/segment.h"
#include "transport/shm/signal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 3, FORGER = 1, TOKENS = 4, HIDDEN = 16, EXPERTS = 6, ROWS = RANKS * TOKENS };

typedef struct rows {
    float rows[ROWS][HIDDEN];
} rows_t;

/* Changes a message before it is posted. */
typedef void (*forge_fn)(shm_message_t *message);

/* One message that is forged, and what everyone must make of it. */
typedef struct forgery {
    const char *name;
    shm_op_kind_t kind;
    forge_fn forge;
    moxie_status_t wanted; /* MOXIE_OK: no crash is enough */
} forgery_t;

typedef struct member {
    moxie_group_t *group;
    moxie_window_t *window;
    moxie_route_t *route;
    float x[TOKENS][HIDDEN];
} member_t;

static void forge_kind(shm_message_t *message)
{
    message->kind = 77;
}

static void forge_length(shm_message_t *message)
{
    message->body_bytes = UINT32_MAX;
}

static void forge_no_body(shm_message_t *message)
{
    message->body_bytes = 0;
}

static void forge_status(shm_message_t *message)
{
    message->error.status = (moxie_status_t)12345;
    memset(message->error.message, 'x', sizeof(message->error.message));
    memset(message->error.op, 'x', sizeof(message->error.op));
}

/* An update's counts stand at the end of its body. */
static int64_t *last_count(shm_message_t *message)
{
    return (int64_t *)(void *)(message->body + message->body_bytes) - 1;
}

static void forge_negative_count(shm_message_t *message)
{
    *last_count(message) = -1;
}

static void forge_large_count(shm_message_t *message)
{
    *last_count(message) = INT64_MAX;
}

static shm_buffer_t *first_buffer(shm_message_t *message)
{
    return ((shm_offer_t *)message->body)->buffers;
}

static void forge_window(shm_message_t *message)
{
    first_buffer(message)->window = 999;
}

static void forge_offset(shm_message_t *message)
{
    first_buffer(message)->offset = sizeof(rows_t) - 1;
}

static void forge_large_offset(shm_message_t *message)
{
    first_buffer(message)->offset = UINT64_MAX;
}

static void forge_absence(shm_message_t *message)
{
    first_buffer(message)->present = 0;
}

/* As the ceiling's message begins. */
typedef struct ceiling_start {
    shm_buffer_t destination;
    int64_t row_count;
    int64_t row_bytes;
    int64_t flags;
    int64_t rows_to_peer[RANKS];
} ceiling_start_t;

static void forge_no_rows(shm_message_t *message)
{
    ((ceiling_start_t *)message->body)->row_count = 0;
}

static void forge_negative_rows(shm_message_t *message)
{
    ((ceiling_start_t *)message->body)->row_count = -5;
}

static void forge_many_rows(shm_message_t *message)
{
    ((ceiling_start_t *)message->body)->row_count = INT64_MAX / 2;
}

static void forge_negative_to_peers(shm_message_t *message)
{
    ((ceiling_start_t *)message->body)->rows_to_peer[0] = INT64_MIN;
}

static void forge_many_to_peers(shm_message_t *message)
{
    ((ceiling_start_t *)message->body)->rows_to_peer[0] = INT64_MAX;
    ((ceiling_start_t *)message->body)->rows_to_peer[2] = INT64_MAX;
}

static const forgery_t forgeries[] = {
    {"kind", SHM_OP_BARRIER, forge_kind, MOXIE_ERR_PROTOCOL},
    {"status", SHM_OP_BARRIER, forge_status, MOXIE_ERR_PROTOCOL},
    {"length", SHM_OP_UPDATE, forge_length, MOXIE_ERR_PROTOCOL},
    {"no body", SHM_OP_UPDATE, forge_no_body, MOXIE_ERR_PROTOCOL},
    {"negative count", SHM_OP_UPDATE, forge_negative_count, MOXIE_ERR_PROTOCOL},
    {"large count", SHM_OP_UPDATE, forge_large_count, MOXIE_ERR_PROTOCOL},
    {"length", SHM_OP_DISPATCH, forge_length, MOXIE_ERR_PROTOCOL},
    {"no body", SHM_OP_DISPATCH, forge_no_body, MOXIE_ERR_PROTOCOL},
    {"window", SHM_OP_DISPATCH, forge_window, MOXIE_ERR_WINDOW},
    {"offset", SHM_OP_DISPATCH, forge_offset, MOXIE_ERR_WINDOW},
    {"large offset", SHM_OP_DISPATCH, forge_large_offset, MOXIE_ERR_WINDOW},
    {"absence", SHM_OP_DISPATCH, forge_absence, MOXIE_ERR_PROTOCOL},
    {"window", SHM_OP_COMBINE, forge_window, MOXIE_ERR_WINDOW},
    {"absence", SHM_OP_COMBINE, forge_absence, MOXIE_ERR_PROTOCOL},
    {"no body", SHM_OP_ALLGATHER, forge_no_body, MOXIE_ERR_PROTOCOL},
    {"no body", SHM_OP_CEILING, forge_no_body, MOXIE_ERR_PROTOCOL},
    {"no rows", SHM_OP_CEILING, forge_no_rows, MOXIE_ERR_PROTOCOL},
    {"negative rows", SHM_OP_CEILING, forge_negative_rows, MOXIE_ERR_PROTOCOL},
    {"many rows", SHM_OP_CEILING, forge_many_rows, MOXIE_ERR_PROTOCOL},
    {"negative rows to peers", SHM_OP_CEILING, forge_negative_to_peers, MOXIE_ERR_ARGUMENT},
    {"many rows to peers", SHM_OP_CEILING, forge_many_to_peers, MOXIE_OK},
};

static moxie_status_t update(member_t *member)
{
    static const int32_t expert[TOKENS] = {0, 2, 4, 5};
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS;
    routing.topk_idx = expert;
    return moxie_route_update(member->route, &routing, NULL);
}

static bool open_member(world_rank_t *self, const char *name, member_t *member)
{
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.expert_count = EXPERTS;
    shape.topk = 1;
    shape.hidden = HIDDEN;
    shape.token_count_max = TOKENS;
    member->group = world_group(self, name);
    return member->group != NULL &&
           world_expect(self, "window",
                        moxie_window_allocate(member->group, sizeof(rows_t), &member->window),
                        MOXIE_OK) &&
           world_expect(self, "route", moxie_route_create(member->group, &shape, &member->route),
                        MOXIE_OK) &&
           world_expect(self, "update", update(member), MOXIE_OK);
}

static void close_member(member_t *member)
{
    moxie_route_destroy(member->route);
    moxie_window_free(member->window);
    moxie_group_destroy(member->group);
}

static moxie_status_t measure_ceiling(member_t *member)
{
    static const int64_t rows_to_peer[RANKS] = {2, 2, 2};
    moxie_ceiling_in_t in = MOXIE_CEILING_IN_INIT;
    uint64_t time_ns;
    in.source = member->x;
    in.source_row_count = TOKENS;
    in.rows_to_peer = rows_to_peer;
    in.row_bytes = sizeof(member->x[0]);
    in.destination = moxie_window_base(member->window);
    in.destination_row_count = ROWS;
    return moxie_ceiling_measure(member->group, &in, &time_ns);
}

static moxie_status_t call(member_t *member, shm_op_kind_t kind)
{
    rows_t *rows = moxie_window_base(member->window);
    float out[TOKENS][HIDDEN];
    int64_t mine = 1;
    int64_t all[RANKS];
    moxie_dispatch_in_t send = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    moxie_combine_out_t get = MOXIE_COMBINE_OUT_INIT;
    send.x = member->x;
    receive.row_capacity = ROWS;
    receive.recv_x = rows->rows;
    give.y = rows->rows;
    get.out = out;
    send.dtype = give.dtype = get.dtype = MOXIE_DTYPE_FP32;
    switch (kind) {
    case SHM_OP_BARRIER:
        return moxie_group_barrier(member->group);
    case SHM_OP_UPDATE:
        return update(member);
    case SHM_OP_DISPATCH:
        return moxie_dispatch(member->route, &send, &receive, NULL);
    case SHM_OP_COMBINE:
        return moxie_combine(member->route, &give, &get, NULL);
    case SHM_OP_ALLGATHER:
        return moxie_group_allgather(member->group, &mine, sizeof(mine), all);
    default:
        return measure_ceiling(member);
    }
}

/* A message of the kind as the rank has sent it before, changed and posted. */
static void post_forged(member_t *member, const forgery_t *forgery)
{
    shm_transport_t *transport = shm_of(member->group)->transport;
    shm_message_t *before = malloc(SHM_MESSAGE_BYTES);
    shm_message_t *message;
    if (before == NULL) {
        return;
    }
    memcpy(before, signal_message(transport, FORGER), SHM_MESSAGE_BYTES);
    if (signal_begin(&transport->group_channel, forgery->kind, before->route_id, &message) ==
        MOXIE_OK) {
        memcpy(message, before, SHM_MESSAGE_BYTES);
        /* signal_meet() clears the error: a forged one goes in by way of this rank's own. */
        forgery->forge(message);
        moxie_status_t local = MOXIE_OK;
        if (message->error.status != MOXIE_OK) {
            local = error_set(MOXIE_ERR_SYSTEM, "x");
            *error_detail() = message->error;
        }
        /* Where the others refuse it they do not come to the end. */
        if (signal_meet(transport, local) == MOXIE_OK && forgery->wanted == MOXIE_OK) {
            (void)signal_finish(transport);
        }
    }
    free(before);
}

static void play_forgery(world_rank_t *self, const forgery_t *forgery, int index)
{
    char name[32];
    member_t member = {.group = NULL};
    (void)snprintf(name, sizeof(name), "forged%d", index);
    if (open_member(self, name, &member) &&
        world_expect(self, forgery->name, call(&member, forgery->kind), MOXIE_OK)) {
        if (self->rank == FORGER) {
            post_forged(&member, forgery);
        } else if (forgery->wanted == MOXIE_OK) {
            (void)call(&member, forgery->kind);
        } else {
            world_expect(self, forgery->name, call(&member, forgery->kind), forgery->wanted);
        }
    }
    close_member(&member);
}

static void play_forgeries(world_rank_t *self)
{
    for (size_t i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]) && !self->failed; i++) {
        play_forgery(self, &forgeries[i], (int)i);
    }
}

/* A word that says "revoked", with an error that is none. */
static void play_forged_revocation(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "revocation");
    if (group == NULL) {
        return;
    }
    if (self->rank == FORGER) {
        shm_control_t *own = shm_of(group)->transport->peers[FORGER].control;
        memset(&own->error, 0xFF, sizeof(own->error));
        atomic_store(&own->revoked.op, 1);
    } else {
        world_expect(self, "revocation", moxie_group_barrier(group), MOXIE_ERR_PROTOCOL);
    }
    moxie_group_destroy(group);
}

/* What a rank says of its part of a window, as transport/shm/window.c has it. */
typedef struct notice {
    uint64_t bytes;
    uint64_t fd_offset;
    uint64_t address;
} notice_t;

/* Memory that is no good for a window of a page. */
typedef struct bad_memory {
    const char *name;
    int (*make)(void);
    notice_t notice;
    uint32_t notice_bytes;
    moxie_status_t wanted;
} bad_memory_t;

static int make_nothing(void)
{
    return -1;
}

static int make_pipe(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return -1;
    }
    (void)close(ends[1]);
    return ends[0];
}

static int make_unsealed(void)
{
    const int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return ftruncate(fd, 65536) == 0 ? fd : -1;
}

static int make_small(void)
{
    int fd = -1;
    (void)segment_create(segment_round_up(1), &fd);
    return fd;
}

static const bad_memory_t bad_memories[] = {
    {"no descriptor", make_nothing, {4096, 0, 0}, sizeof(notice_t), MOXIE_ERR_WINDOW},
    {"a pipe", make_pipe, {4096, 0, 0}, sizeof(notice_t), MOXIE_ERR_WINDOW},
    {"not sealed", make_unsealed, {4096, 0, 0}, sizeof(notice_t), MOXIE_ERR_WINDOW},
    {"too small", make_small, {1 << 20, 0, 0}, sizeof(notice_t), MOXIE_ERR_WINDOW},
    {"beyond", make_small, {4096, UINT64_MAX, 0}, sizeof(notice_t), MOXIE_ERR_WINDOW},
    {"endless", make_small, {UINT64_MAX, 1, 0}, sizeof(notice_t), MOXIE_ERR_WINDOW},
    {"cut off", make_small, {4096, 0, 0}, 3, MOXIE_ERR_PROTOCOL},
};

/* A window's four rounds over the bootstrap, by hand. */
static void share_bad_memory(shm_transport_t *transport, const bad_memory_t *bad)
{
    const uint64_t deadline_ns = deadline_after_us(10000000);
    const int fd = bad->make();
    for (int round = 0; round < 4; round++) {
        const notice_t wish = {.bytes = 4096};
        bootstrap_part_t part = {.bytes = sizeof(notice_t), .fds = {-1, -1}};
        memcpy(part.data, &wish, sizeof(wish));
        if (round == 2) {
            part.bytes = bad->notice_bytes;
            part.fds[0] = fd;
            memcpy(part.data, &bad->notice, sizeof(bad->notice));
        }
        if (bootstrap_allgather(transport->bootstrap, &part, NULL, deadline_ns, transport->parts) ==
            MOXIE_OK) {
            bootstrap_close_fds(transport->parts, transport->rank_count);
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void play_bad_memory(world_rank_t *self)
{
    for (size_t i = 0; i < sizeof(bad_memories) / sizeof(bad_memories[0]) && !self->failed; i++) {
        char name[32];
        moxie_window_t *window = NULL;
        (void)snprintf(name, sizeof(name), "memory%zu", i);
        moxie_group_t *group = world_group(self, name);
        if (group == NULL) {
            return;
        }
        if (self->rank == FORGER) {
            share_bad_memory(shm_of(group)->transport, &bad_memories[i]);
        } else {
            world_expect(self, bad_memories[i].name, moxie_window_allocate(group, 4096, &window),
                         bad_memories[i].wanted);
        }
        moxie_group_destroy(group);
    }
}

static void run(world_fn play, world_mode_t mode)
{
    const world_options_t options = {
        .rank_count = RANKS, .mode = mode, .backend = "shm", .deadline_s = 60};
    world_run(&options, play, NULL);
}

static void test_forged_messages(void **state)
{
    (void)state;
    run(play_forgeries, world_mode_from_environment());
}

static void test_a_forged_revocation(void **state)
{
    (void)state;
    run(play_forged_revocation, world_mode_from_environment());
}

static void test_bad_memory_for_windows(void **state)
{
    (void)state;
    run(play_bad_memory, world_mode_from_environment());
}

/* A process of its own tries to write into what a peer says. */
static void write_to_peer(world_rank_t *self, shm_control_t *control)
{
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        atomic_store(&control->line.posted.op, 12345);
        _exit(0);
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) {
        world_fail(self, "a peer's control segment was written to");
    }
    if (mprotect(control, segment_round_up(1), PROT_READ | PROT_WRITE) == 0 || errno != EACCES) {
        world_fail(self, "a peer's control segment can be made writable");
    }
}

/* No descriptor is left that another process could be given, and nothing has a name. */
static void check_no_names(world_rank_t *self)
{
    char target[PATH_MAX];
    DIR *entries = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        const ssize_t length =
            readlinkat(dirfd(entries), entry->d_name, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = '\0';
        if (strstr(target, "memfd:moxie") != NULL || strstr(target, "/dev/shm") != NULL) {
            world_fail(self, "descriptor %s is still open: %s", entry->d_name, target);
        }
    }
    if (entries != NULL) {
        (void)closedir(entries);
    }
}

static void play_private(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "private");
    moxie_window_t *window = NULL;
    if (group == NULL ||
        !world_expect(self, "window", moxie_window_allocate(group, 4096, &window), MOXIE_OK)) {
        return;
    }
    check_no_names(self);
    write_to_peer(self, shm_of(group)->transport->peers[(self->rank + 1) % RANKS].control);
    world_expect(self, "barrier", moxie_group_barrier(group), MOXIE_OK);
    moxie_window_free(window);
    moxie_group_destroy(group);
}

static void test_peers_read_and_cannot_write(void **state)
{
    (void)state;
    run(play_private, WORLD_PROCESSES);
}

static void test_segments_cannot_be_cut_off(void **state)
{
    (void)state;
    int fd = -1;
    assert_ok(segment_create(segment_round_up(1), &fd));
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 1 << 20), -1);
    assert_int_equal(errno, EPERM);
    assert_ok(segment_seal_writing(fd));
    void *base = mmap(NULL, segment_round_up(1), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_equal(base, MAP_FAILED);
    assert_int_equal(errno, EPERM);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forged_messages),
        cmocka_unit_test(test_a_forged_revocation),
        cmocka_unit_test(test_bad_memory_for_windows),
        cmocka_unit_test(test_peers_read_and_cannot_write),
        cmocka_unit_test(test_segments_cannot_be_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
