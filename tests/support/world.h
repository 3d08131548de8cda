/* SPDX-License-Identifier: Apache-2.0 */
/* A world: some ranks, as forked processes or as threads of this one, each running one function.
 * Bounded in time; every rank's failure is collected and told with the rank's number. */
#ifndef SUPPORT_WORLD_H
#define SUPPORT_WORLD_H

#include "moxie/group.h"
#include "support/device.h"

#include <stdbool.h>

typedef enum world_mode {
    WORLD_PROCESSES = 1,
    WORLD_THREADS = 2,
} world_mode_t;

typedef struct world_options {
    int32_t rank_count;
    world_mode_t mode;
    const char *backend; /* of the groups that the ranks make */
    unsigned deadline_s; /* then the world is killed and has failed */
} world_options_t;

/* What one rank knows. */
typedef struct world_rank {
    int32_t rank;
    const world_options_t *options;
    const char *folder; /* for rendezvous sockets; mode 0700 */
    void *arg;          /* of world_run() */
    device_t *device;   /* memory and stream for the library, from the rank's first group on */
    bool may_be_killed; /* set by the rank itself: that a signal ends its process is no failure */
    bool failed;
    char failure[1000]; /* the first failure */
} world_rank_t;

typedef void (*world_fn)(world_rank_t *self);

/* The mode that MOXIE_TEST_RANKS=threads|processes asks for; processes when it is not set. */
world_mode_t world_mode_from_environment(void);

/* Runs `fn` on every rank. Failures end up in cmocka's fail_msg(). */
void world_run(const world_options_t *options, world_fn fn, void *arg);

/* Records a failure of this rank, unless it has one. */
void world_fail(world_rank_t *self, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* True when `status` is the wanted one; else records the failure with the library's message. */
bool world_expect(world_rank_t *self, const char *what, moxie_status_t status,
                  moxie_status_t wanted);

/* Makes a group of all ranks that meet at a socket named `name`; NULL when that failed. */
moxie_group_t *world_group(world_rank_t *self, const char *name);

/* The same with the caller's options; rank, count, backend and socket are filled in. */
moxie_group_t *world_group_with(world_rank_t *self, const char *name,
                                const moxie_group_options_t *options);

#endif
