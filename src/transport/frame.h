/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: the messages of the bootstrap. One frame is one packet of a SOCK_SEQPACKET socket, of
 * fixed size, with up to two file descriptors.
 */
#ifndef MOXIE_TRANSPORT_FRAME_H
#define MOXIE_TRANSPORT_FRAME_H

#include "transport/bootstrap.h"

/* Changes whenever a frame or the layout of shared memory does. */
#define FRAME_PROTOCOL 1u
#define FRAME_MAGIC    0x4549584Fu

typedef enum frame_kind {
    FRAME_HELLO = 1,   /* a rank to the hub: who I am */
    FRAME_PART = 2,    /* one rank's part of an allgather */
    FRAME_REFUSAL = 3, /* the error that every rank is to return */
} frame_kind_t;

typedef struct frame {
    uint32_t magic;
    uint32_t protocol;
    int32_t version;   /* MOXIE_VERSION of the sender */
    uint32_t kind;     /* frame_kind_t */
    uint32_t sequence; /* number of the allgather */
    int32_t rank;      /* whose part, or who says hello */
    int32_t rank_count;
    uint32_t bytes;       /* of data */
    uint64_t deadline_ns; /* when the sender gives up, by the clock of this host */
    union {
        unsigned char data[BOOTSTRAP_BYTES_MAX];
        moxie_error_t error;
    };
} frame_t;

/* What every version of a hello begins with: a stranger is known by less. */
#define FRAME_PREFIX_BYTES offsetof(frame_t, sequence)

/* Fills in everything but the payload and the deadline. */
void frame_start(frame_t *frame, frame_kind_t kind, uint32_t sequence, int32_t rank,
                 int32_t rank_count);

/* 1 when magic, protocol, lengths and kind can be trusted; a hostile sender gets 0. */
int frame_is_sound(const frame_t *frame, size_t received_bytes);

/* Sends a frame before the deadline; 0, or -1 with errno (ETIMEDOUT at the deadline). */
int frame_send(int socket_fd, const frame_t *frame, const int *fds, uint64_t deadline_ns);

/*
 * Receives one frame. Returns its bytes (more than a frame has when it was longer and got cut), 0
 * when the peer closed the connection, -1 with errno.
 * `fds` gets what came along, -1 elsewhere; the caller closes them.
 */
int frame_receive(int socket_fd, frame_t *frame, int *fds, uint64_t deadline_ns);

#endif
