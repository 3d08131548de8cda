/* SPDX-License-Identifier: Apache-2.0 */
/* Which backends a test program can run on here. Looked at in a child process, since one that has
 * started CUDA must not fork. */
#ifndef SUPPORT_BACKENDS_H
#define SUPPORT_BACKENDS_H

#include "moxie/backend.h"
#include "support/world.h"

/* What a test program returns when it cannot run here. */
#define EXIT_SKIPPED 77

typedef struct found_backend {
    moxie_backend_info_t info;
    int32_t device_count;                    /* GPUs of a backend with a device, else 0 */
    char missing[MOXIE_ERROR_MESSAGE_BYTES]; /* why no group can be made with it; "" when one can */
} found_backend_t;

/* Looks at the backend with an index; false when there is none. */
bool backends_look(int32_t index, found_backend_t *out);

/* Looks at the backend with a name. */
bool backends_find(const char *name, found_backend_t *out);

/* The backend that MOXIE_TEST_BACKEND asks for, else `fallback`, which may be NULL. */
const char *backends_wanted(const char *fallback);

/* Why `rank_count` ranks cannot be had on it, in one sentence; "" when they can. Processes take a
 * GPU each; threads share them. */
const char *backends_lack(const found_backend_t *found, world_mode_t mode, int32_t rank_count,
                          char *text, size_t bytes);

/* Runs tests with the ranks as `mode` says, or without one as processes and then as threads: once
 * threads have started CUDA, the process forks no more. `run` returns the failed tests, -1 when
 * they cannot run here. Returns an exit code. */
int backends_run_modes(const char *mode, int (*run)(world_mode_t mode));

#endif
