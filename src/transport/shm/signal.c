/* SPDX-License-Identifier: Apache-2.0 */
/* Posting, waiting, finishing: the protocol of one operation. */
#include "transport/shm/signal.h"

#include "core/error.h"
#include "transport/deadline.h"
#include "transport/fault.h"

#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How long a sleeper sleeps at most before it looks after its peers and its deadline. */
#define SLEEP_SLICE_NS 5000000u

/* After so many yields a waiter looks at the clock: each may take long on a busy machine. */
#define YIELDS_PER_LOOK 64

#define PHASE_MEET    "meet"
#define PHASE_CREDIT  "credit"
#define PHASE_FINISH  "finish"
#define PHASE_RECEIVE "receive"

static const char *const op_names[] = {
    [SHM_OP_BARRIER] = "barrier",
    [SHM_OP_ALLGATHER] = "allgather",
    [SHM_OP_CEILING] = "ceiling",
    [SHM_OP_UPDATE] = "route_update",
    [SHM_OP_DISPATCH] = "dispatch",
    [SHM_OP_COMBINE] = "combine",
    [SHM_OP_DISPATCH_BACKWARD] = "dispatch_backward",
    [SHM_OP_COMBINE_BACKWARD] = "combine_backward",
    [SHM_OP_LOW_LATENCY_DISPATCH] = "low_latency_dispatch",
    [SHM_OP_LOW_LATENCY_COMBINE] = "low_latency_combine",
};

static const char *op_name_of(uint32_t kind)
{
    return kind >= 1 && kind < sizeof(op_names) / sizeof(op_names[0]) ? op_names[kind] : "nothing";
}

static inline void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static shm_control_t *own_control(const shm_transport_t *transport)
{
    return transport->peers[transport->rank].control;
}

static shm_line_t *own_line(const shm_transport_t *transport)
{
    return transport->channel->lines[transport->rank];
}

static void futex_wake_all(shm_word_t *word)
{
    syscall(SYS_futex, &word->op, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void futex_sleep(const shm_word_t *word, uint32_t seen, uint64_t at_most_ns)
{
    const struct timespec timeout = {.tv_sec = (time_t)(at_most_ns / 1000000000u),
                                     .tv_nsec = (long)(at_most_ns % 1000000000u)};
    syscall(SYS_futex, &word->op, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

/* Operations are numbered round the clock. */
static int has_reached(uint32_t op, uint32_t wanted)
{
    return (int32_t)(op - wanted) >= 0;
}

/*
 * Publishes a new operation number and wakes who may be asleep on the word. The store and the look
 * at the sleepers must not change places, nor must a sleeper's mark and its last look at the word
 * (wait_asleep): hence the four sequentially consistent accesses.
 */
static void publish(const shm_transport_t *transport, shm_word_t *word, uint32_t op)
{
    atomic_store_explicit(&word->op, op, memory_order_seq_cst);
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        if (rank != transport->rank &&
            atomic_load_explicit(&transport->peers[rank].control->sleeping.op,
                                 memory_order_seq_cst) != 0) {
            futex_wake_all(word);
            return;
        }
    }
}

moxie_status_t signal_revoke(shm_transport_t *transport)
{
    shm_control_t *own = own_control(transport);
    moxie_error_t *error = error_detail();
    if (error->rank < 0) {
        error->rank = transport->rank;
    }
    recorder_current(&transport->recorder)->status = error->status;
    if (!transport->revoked) {
        if (getenv("MOXIE_LOG") != NULL) {
            recorder_dump(&transport->recorder, transport->rank, transport->rank_count,
                          STDERR_FILENO);
        }
        transport->revoked = 1;
        own->error = *error;
        own_line(transport)->gave_up_op = transport->channel->op;
        own_line(transport)->gave_up = 1;
        atomic_store_explicit(&own->revoked.op, 1, memory_order_release);
        futex_wake_all(&own_line(transport)->posted);
        futex_wake_all(&own_line(transport)->finished);
    }
    return error->status;
}

static int has_revoked(const shm_control_t *control)
{
    return atomic_load_explicit(&control->revoked.op, memory_order_acquire) != 0 &&
           control->error.status != MOXIE_OK;
}

/* Takes over the error of a peer that gave the group up; MOXIE_OK when none did. */
static moxie_status_t look_for_revokers(shm_transport_t *transport)
{
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        const shm_control_t *control = transport->peers[rank].control;
        if (has_revoked(control)) {
            error_adopt(&control->error);
            return signal_revoke(transport);
        }
    }
    return MOXIE_OK;
}

/*
 * All have come: but a rank that was stopped, and comes late, must not take for done what others
 * have given up. One that gave up in a later operation had done this one.
 */
static moxie_status_t look_for_quitters(shm_transport_t *transport)
{
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        const shm_line_t *line = transport->channel->lines[rank];
        if (has_revoked(transport->peers[rank].control) && line->gave_up &&
            has_reached(transport->channel->op, line->gave_up_op)) {
            return look_for_revokers(transport);
        }
    }
    return MOXIE_OK;
}

static int has_ended(const shm_peer_t *peer)
{
    struct pollfd entry = {.fd = peer->pid_fd, .events = POLLIN};
    return poll(&entry, 1, 0) > 0;
}

int32_t signal_find_ended(const shm_transport_t *transport)
{
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        if (rank != transport->rank && has_ended(&transport->peers[rank])) {
            return rank;
        }
    }
    return -1;
}

static moxie_status_t give_up_on(shm_transport_t *transport, int32_t rank, moxie_status_t status,
                                 const char *phase, const char *what)
{
    error_set(status, "%s: rank %d (process %d) %s", transport->op_name, rank,
              transport->peers[rank].pid, what);
    error_set_phase(transport->op_name, phase);
    error_detail()->rank = transport->rank;
    error_detail()->peer = rank;
    return signal_revoke(transport);
}

/* What a rank waits for: that each peer has posted, or finished, an operation of the channel. */
typedef struct awaited {
    const char *phase;
    int is_finish;
    uint32_t op;
} awaited_t;

static const shm_word_t *word_of(const shm_transport_t *transport, int32_t rank,
                                 const awaited_t *awaited)
{
    const shm_line_t *line = transport->channel->lines[rank];
    return awaited->is_finish ? &line->finished : &line->posted;
}

static uint32_t read_word(const shm_word_t *word)
{
    return atomic_load_explicit(&word->op, memory_order_acquire);
}

/*
 * What a waiting rank looks after from time to time. Only ranks that have not come yet can be
 * missing: one that did its part and ended since takes nothing away from this operation.
 */
static moxie_status_t look_after_peers(shm_transport_t *transport, const awaited_t *awaited)
{
    const moxie_status_t status = look_for_revokers(transport);
    if (status != MOXIE_OK) {
        return status;
    }
    const int is_late = deadline_left_ns(transport->deadline_ns) == 0;
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        const shm_word_t *word = word_of(transport, rank, awaited);
        if (rank == transport->rank || has_reached(read_word(word), awaited->op)) {
            continue;
        }
        if (has_ended(&transport->peers[rank])) {
            /* It may have published just before it ended. */
            if (has_reached(read_word(word), awaited->op)) {
                continue;
            }
            /* Or it ended because another one was lost: then it has said which. */
            const moxie_status_t reason = look_for_revokers(transport);
            if (reason != MOXIE_OK) {
                return reason;
            }
            return give_up_on(transport, rank, MOXIE_ERR_PEER_LOST, awaited->phase, "has ended");
        }
        if (is_late) {
            const shm_word_t *posted = &transport->channel->lines[rank]->posted;
            return give_up_on(transport, rank, MOXIE_ERR_TIMEOUT, awaited->phase,
                              has_reached(read_word(posted), awaited->op) ? "did not finish in time"
                                                                          : "did not call in time");
        }
    }
    return MOXIE_OK;
}

/* Sleeps until the word changes, but never longer than a slice. */
static void wait_asleep(shm_transport_t *transport, const shm_word_t *word, uint32_t wanted)
{
    shm_word_t *sleeping = &own_control(transport)->sleeping;
    atomic_store_explicit(&sleeping->op, 1, memory_order_seq_cst);
    const uint32_t seen = atomic_load_explicit(&word->op, memory_order_seq_cst);
    if (!has_reached(seen, wanted)) {
        transport->counters->sleep_count++;
        futex_sleep(word, seen, SLEEP_SLICE_NS);
    }
    atomic_store_explicit(&sleeping->op, 0, memory_order_relaxed);
}

/* Waits for one peer's word: spins briefly, then gives the processor away, then sleeps. */
static moxie_status_t wait_for_word(shm_transport_t *transport, int32_t rank,
                                    const awaited_t *awaited)
{
    const shm_word_t *word = word_of(transport, rank, awaited);
    const uint32_t wanted = awaited->op;
    for (int32_t i = 0; i < transport->spin_count; i++) {
        if (has_reached(read_word(word), wanted)) {
            return MOXIE_OK;
        }
        pause_briefly();
    }
    for (int32_t i = 0; i < transport->yield_count; i++) {
        if (has_reached(read_word(word), wanted)) {
            return MOXIE_OK;
        }
        if (i % YIELDS_PER_LOOK == 0 && deadline_left_ns(transport->deadline_ns) == 0) {
            break;
        }
        sched_yield();
    }
    while (!has_reached(read_word(word), wanted)) {
        const moxie_status_t status = look_after_peers(transport, awaited);
        if (status != MOXIE_OK) {
            return status;
        }
        wait_asleep(transport, word, wanted);
    }
    return MOXIE_OK;
}

static moxie_status_t wait_for_all(shm_transport_t *transport, awaited_t awaited)
{
    const uint64_t start_ns = clock_now_ns();
    moxie_status_t status = MOXIE_OK;
    for (int32_t i = 1; i < transport->rank_count && status == MOXIE_OK; i++) {
        /* Each rank starts with its neighbour, so that they do not all read the same line. */
        status = wait_for_word(transport, (transport->rank + i) % transport->rank_count, &awaited);
    }
    transport->counters->wait_ns += clock_now_ns() - start_ns;
    return status == MOXIE_OK ? look_for_quitters(transport) : status;
}

moxie_status_t signal_check(shm_transport_t *transport, const char *op_name)
{
    if (transport->revoked) {
        return error_set(MOXIE_ERR_REVOKED,
                         "%s: the group failed earlier and can only be destroyed", op_name);
    }
    return look_for_revokers(transport);
}

moxie_status_t signal_fail(shm_transport_t *transport)
{
    const moxie_error_t mine = *error_detail();
    const moxie_status_t status = look_for_revokers(transport);
    if (status != MOXIE_OK) {
        return status;
    }
    error_adopt(&mine);
    return signal_revoke(transport);
}

static shm_message_t *own_message(const shm_transport_t *transport)
{
    return (shm_message_t *)own_line(transport)->banks[transport->channel->op % 2];
}

/* The next call of this rank is about the channel, named so and until its deadline. */
static moxie_status_t take_up(shm_channel_t *channel, shm_op_kind_t kind, uint64_t route_id)
{
    shm_transport_t *transport = channel->transport;
    transport->channel = channel;
    transport->op_name = op_name_of(kind);
    recorder_begin(&transport->recorder, transport->op_name, route_id);
    const moxie_status_t status = signal_check(transport, transport->op_name);
    if (status != MOXIE_OK) {
        recorder_current(&transport->recorder)->status = status;
        return status;
    }
    transport->deadline_ns = deadline_after_us(
        transport->first_timeout_us > 0 ? transport->first_timeout_us : transport->timeout_us);
    transport->first_timeout_us = 0;
    return MOXIE_OK;
}

moxie_status_t signal_begin(shm_channel_t *channel, shm_op_kind_t kind, uint64_t route_id,
                            shm_message_t **message)
{
    shm_transport_t *transport = channel->transport;
    const moxie_status_t status = take_up(channel, kind, route_id);
    if (status != MOXIE_OK) {
        return status;
    }
    channel->op++;
    fault_point(transport->rank, transport->op_name, "begin");
    shm_message_t *mine = own_message(transport);
    mine->kind = kind;
    mine->route_id = route_id;
    mine->body_bytes = 0;
    *message = mine;
    return MOXIE_OK;
}

moxie_status_t signal_resume(shm_channel_t *channel, shm_op_kind_t kind, uint64_t route_id)
{
    const moxie_status_t status = take_up(channel, kind, route_id);
    recorder_entry_t *entry = recorder_current(&channel->transport->recorder);
    entry->post_ns = entry->met_ns = entry->finish_ns = entry->begin_ns;
    return status;
}

const shm_message_t *signal_message(const shm_transport_t *transport, int32_t rank)
{
    const shm_channel_t *channel = transport->channel;
    return (const shm_message_t *)channel->lines[rank]->banks[channel->op % 2];
}

static moxie_status_t refuse_message(int32_t rank, const char *what, uint32_t observed)
{
    error_set(MOXIE_ERR_PROTOCOL, "rank %d sent a message %s %u", rank, what, observed);
    error_detail()->peer = rank;
    error_detail()->observed = observed;
    return MOXIE_ERR_PROTOCOL;
}

/* What a message says of itself must be possible before anyone looks into it. */
static moxie_status_t check_headers(const shm_transport_t *transport)
{
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        const shm_message_t *message = signal_message(transport, rank);
        if (message->kind < SHM_OP_BARRIER || message->kind > SHM_OP_LOW_LATENCY_COMBINE) {
            return refuse_message(rank, "of the unknown kind", message->kind);
        }
        if (message->body_bytes > SHM_BODY_BYTES) {
            return refuse_message(rank, "of more bytes than there can be:", message->body_bytes);
        }
    }
    return MOXIE_OK;
}

moxie_status_t signal_check_bodies(const shm_transport_t *transport, size_t bytes_min)
{
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        const shm_message_t *message = signal_message(transport, rank);
        if (message->body_bytes < bytes_min) {
            return refuse_message(rank, "of fewer bytes than it must have:", message->body_bytes);
        }
    }
    return MOXIE_OK;
}

/* The verdict on the messages of all ranks: a pure function of them, so the same everywhere. */
static moxie_status_t judge_messages(const shm_transport_t *transport)
{
    const moxie_status_t status = check_headers(transport);
    if (status != MOXIE_OK) {
        return status;
    }
    const shm_message_t *first = signal_message(transport, 0);
    for (int32_t rank = 1; rank < transport->rank_count; rank++) {
        const shm_message_t *message = signal_message(transport, rank);
        if (message->kind != first->kind || message->route_id != first->route_id) {
            error_set(MOXIE_ERR_MISMATCH,
                      "rank %d called %s on route %llu while rank 0 called %s on route %llu", rank,
                      op_name_of(message->kind), (unsigned long long)message->route_id,
                      op_name_of(first->kind), (unsigned long long)first->route_id);
            error_detail()->rank = 0;
            error_detail()->peer = rank;
            return MOXIE_ERR_MISMATCH;
        }
    }
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        const shm_message_t *message = signal_message(transport, rank);
        if (message->error.status != MOXIE_OK) {
            return error_adopt(&message->error);
        }
    }
    return MOXIE_OK;
}

/* This rank's own error goes into its message, with what it lacks filled in. */
static void write_error(const shm_transport_t *transport, moxie_status_t local,
                        shm_message_t *message)
{
    memset(&message->error, 0, sizeof(message->error));
    if (local == MOXIE_OK) {
        return;
    }
    moxie_error_t *error = error_detail();
    if (error->rank < 0) {
        error->rank = transport->rank;
    }
    if (error->peer < 0) {
        error->peer = transport->rank; /* its own arguments are the cause */
    }
    if (error->op[0] == '\0') {
        error_set_phase(transport->op_name, PHASE_MEET);
    }
    message->error = *error;
}

void signal_post(shm_transport_t *transport, moxie_status_t local)
{
    const uint32_t op = transport->channel->op;
    shm_line_t *own = own_line(transport);
    shm_message_t *mine = own_message(transport);
    write_error(transport, local, mine);
    /* Not every operation has a second half: keep its word from falling half a clock behind. */
    atomic_store_explicit(&own->finished.op, op - 1, memory_order_release);
    recorder_entry_t *entry = recorder_current(&transport->recorder);
    entry->post_ns = mine->post_ns = clock_now_ns();
    publish(transport, &own->posted, op);
    fault_point(transport->rank, transport->op_name, "post");
}

/* All messages of the operation are there. */
static moxie_status_t read_messages(shm_transport_t *transport)
{
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        transport->times_ns[rank] = signal_message(transport, rank)->post_ns;
    }
    recorder_note_posts(&transport->recorder, transport->times_ns, transport->rank_count);
    transport->counters->op_count++;
    const moxie_status_t status = judge_messages(transport);
    recorder_current(&transport->recorder)->status = status;
    return status;
}

moxie_status_t signal_await_posts(shm_transport_t *transport)
{
    const awaited_t posts = {.phase = PHASE_MEET, .op = transport->channel->op};
    const moxie_status_t status = wait_for_all(transport, posts);
    if (status != MOXIE_OK) {
        return status;
    }
    recorder_current(&transport->recorder)->met_ns = clock_now_ns();
    return read_messages(transport);
}

moxie_status_t signal_meet(shm_transport_t *transport, moxie_status_t local)
{
    signal_post(transport, local);
    return signal_await_posts(transport);
}

moxie_status_t signal_await_credit(shm_transport_t *transport, uint32_t op)
{
    const awaited_t credit = {.phase = PHASE_CREDIT, .op = op};
    const moxie_status_t status = wait_for_all(transport, credit);
    recorder_current(&transport->recorder)->met_ns = clock_now_ns();
    return status;
}

void signal_say_finished(shm_transport_t *transport)
{
    const uint32_t op = transport->channel->op;
    recorder_entry_t *entry = recorder_current(&transport->recorder);
    shm_line_t *own = own_line(transport);
    fault_point(transport->rank, transport->op_name, "finish");
    entry->finish_ns = clock_now_ns();
    own->work_ns[op % 2] = entry->finish_ns - (entry->met_ns != 0 ? entry->met_ns : entry->post_ns);
    publish(transport, &own->finished, op);
    fault_point(transport->rank, transport->op_name, "leave");
}

/* Waits until all have finished, and takes note of how long each worked. */
static moxie_status_t await_finished(shm_transport_t *transport, const char *phase)
{
    const uint32_t op = transport->channel->op;
    const awaited_t finish = {.phase = phase, .is_finish = 1, .op = op};
    const moxie_status_t status = wait_for_all(transport, finish);
    if (status != MOXIE_OK) {
        return status;
    }
    recorder_current(&transport->recorder)->leave_ns = clock_now_ns();
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        transport->times_ns[rank] = transport->channel->lines[rank]->work_ns[op % 2];
    }
    recorder_note_work(&transport->recorder, transport->times_ns, transport->rank_count);
    return MOXIE_OK;
}

moxie_status_t signal_finish(shm_transport_t *transport)
{
    signal_say_finished(transport);
    return await_finished(transport, PHASE_FINISH);
}

moxie_status_t signal_receive(shm_transport_t *transport)
{
    const moxie_status_t status = await_finished(transport, PHASE_RECEIVE);
    return status != MOXIE_OK ? status : read_messages(transport);
}

void signal_at_work(const shm_transport_t *transport)
{
    fault_point(transport->rank, transport->op_name, "work");
}
