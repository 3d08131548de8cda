/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control segment: what one rank tells its peers. Its owner alone writes it, the peers map it
 * for reading. Low-latency routes have a line of their own each, in a window. docs/protocol.md has
 * the protocol.
 */
#ifndef MOXIE_TRANSPORT_SHM_CONTROL_H
#define MOXIE_TRANSPORT_SHM_CONTROL_H

#include "moxie/status.h"

#include <stdatomic.h>

/* Bytes of one message, its header included: room for an update with as many experts and ranks as
 * there may be. */
#define SHM_MESSAGE_BYTES 40960u

/* What a message says; a rank that says something else than its peers is out of step. */
typedef enum shm_op_kind {
    SHM_OP_BARRIER = 1,
    SHM_OP_ALLGATHER,
    SHM_OP_CEILING,
    SHM_OP_UPDATE,
    SHM_OP_DISPATCH,
    SHM_OP_COMBINE,
    SHM_OP_DISPATCH_BACKWARD,
    SHM_OP_COMBINE_BACKWARD,
    SHM_OP_LOW_LATENCY_DISPATCH,
    SHM_OP_LOW_LATENCY_COMBINE,
} shm_op_kind_t;

typedef struct shm_message {
    uint32_t kind;       /* shm_op_kind_t */
    uint32_t body_bytes; /* used of body */
    uint64_t route_id;   /* the route's number in its group, 0 when there is none */
    uint64_t post_ns;    /* when it was posted, for the flight recorder */
    moxie_error_t error; /* status is MOXIE_OK, or why this rank can't take part */
    _Alignas(64) unsigned char body[];
} shm_message_t;

#define SHM_BODY_BYTES (SHM_MESSAGE_BYTES - sizeof(shm_message_t))

/* A word that peers wait for: the number of the newest operation that reached some point. */
typedef struct shm_word {
    _Alignas(64) _Atomic uint32_t op;
} shm_word_t;

/* What a rank tells its peers of the operations on one channel; see signal.h. */
typedef struct shm_line {
    shm_word_t posted;   /* its message is in bank op % 2 */
    shm_word_t finished; /* its payload is written, or read, by this rank */
    uint32_t gave_up;    /* 1 when it revoked the group on this channel */
    uint32_t gave_up_op; /* the operation it was in then, or had done last */
    uint64_t work_ns[2]; /* how long operation op % 2 took over its payload, for the recorder */
    _Alignas(64) unsigned char banks[2][SHM_MESSAGE_BYTES];
} shm_line_t;

typedef struct shm_control {
    shm_word_t sleeping; /* 1 while this rank may sleep on a peer's word */
    shm_word_t revoked;  /* 1 when `error` tells why this rank gave up */
    moxie_error_t error;
    shm_line_t line; /* of the group's own channel */
} shm_control_t;

#endif
