/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rendezvous: the Unix socket where ranks find each other. Rank 0 listens, the others connect;
 * whoever is not this user is turned away before a byte of his is read.
 */
#ifndef MOXIE_TRANSPORT_RENDEZVOUS_H
#define MOXIE_TRANSPORT_RENDEZVOUS_H

#include "moxie/group.h"

#include <sys/un.h>

typedef struct rendezvous {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int owns_folder; /* rank 0 made the folder for this group only */
    int listener;    /* rank 0's, else -1 */
} rendezvous_t;

/* Settles on the path: the caller's, or one that rank 0 makes and tells through `allgather`. */
moxie_status_t rendezvous_open(const moxie_group_options_t *options, rendezvous_t *out);

/* Rank 0: the next connection of this user that waits, as a socket; -1 when there is none. */
int rendezvous_accept(const rendezvous_t *rendezvous);

/* The others: a connection to rank 0; tries until the deadline. */
moxie_status_t rendezvous_connect(const rendezvous_t *rendezvous, uint64_t deadline_ns,
                                  int *socket_fd);

/* Rank 0 stops listening and removes what it made. The others have nothing to close. */
void rendezvous_close(rendezvous_t *rendezvous);

#endif
