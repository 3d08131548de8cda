/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations over shared memory: begin, post a message, wait for the peers' messages, work, finish,
 * wait for the peers to finish. docs/protocol.md has the argument why this is race-free.
 */
#ifndef MOXIE_TRANSPORT_SHM_SIGNAL_H
#define MOXIE_TRANSPORT_SHM_SIGNAL_H

#include "transport/shm/transport.h"

/*
 * Begins an operation on a channel and returns the message to fill in through `message`; it says
 * already what it is. What follows is about that operation. Fails when the group was revoked, here
 * or by a peer.
 */
moxie_status_t signal_begin(shm_channel_t *channel, shm_op_kind_t kind, uint64_t route_id,
                            shm_message_t **message);

/*
 * Posts the message and waits for those of all peers. Then all ranks have the same messages before
 * them and come to the same verdict: ranks out of step, or the error of the lowest rank that has
 * one. `local` is this rank's own error status; its details are taken from the thread's record.
 */
moxie_status_t signal_meet(shm_transport_t *transport, moxie_status_t local);

/* The first half of signal_meet(): posts the message, waits for nobody. */
void signal_post(shm_transport_t *transport, moxie_status_t local);

/* The second half. */
moxie_status_t signal_await_posts(shm_transport_t *transport);

/* Waits until every peer has begun operation `op` of the channel, an earlier one as a rule, and
 * with it given its buffers of before free. */
moxie_status_t signal_await_credit(shm_transport_t *transport, uint32_t op);

/* The message of a rank in the operation under way. */
const shm_message_t *signal_message(const shm_transport_t *transport, int32_t rank);

/* MOXIE_ERR_PROTOCOL when a rank's message is too short for what it should say. */
moxie_status_t signal_check_bodies(const shm_transport_t *transport, size_t bytes_min);

/* In the middle of the payload: where a test build injects faults. */
void signal_at_work(const shm_transport_t *transport);

/* Says that this rank's part of the payload is done, and waits until all have said so. */
moxie_status_t signal_finish(shm_transport_t *transport);

/* The first half of signal_finish(), which waits for nobody. */
void signal_say_finished(shm_transport_t *transport);

/* Takes up an operation on a channel again, to wait for its end, after others may have been begun.
 * Fails as signal_begin() does. */
moxie_status_t signal_resume(shm_channel_t *channel, shm_op_kind_t kind, uint64_t route_id);

/* Waits for the end of an operation that was posted but did not meet, then judges the messages. */
moxie_status_t signal_receive(shm_transport_t *transport);

/* Gives the group up with the thread's error: every peer that waits, now or later, gets it too. */
moxie_status_t signal_revoke(shm_transport_t *transport);

/* For what does not go through messages: fails when the group was revoked, here or by a peer. */
moxie_status_t signal_check(shm_transport_t *transport, const char *op_name);

/* A peer whose process has ended; -1: none. */
int32_t signal_find_ended(const shm_transport_t *transport);

/* Gives the group up with the reason of a peer that did so before, else with the thread's error. */
moxie_status_t signal_fail(shm_transport_t *transport);

#endif
