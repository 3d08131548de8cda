/* SPDX-License-Identifier: Apache-2.0 */
/* Runs another program without a shell, and keeps what it says. */
#ifndef MOXIE_SUITE_SUBPROCESS_H
#define MOXIE_SUITE_SUBPROCESS_H

#include "bench/failure.h"

typedef struct subprocess {
    int exit_code; /* 128 + N: signal N ended it */
    char *out;     /* what it wrote on standard output; owned */
    char *err;     /* and on standard error, without the newline at its end; owned */
} subprocess_t;

/* Runs a program of PATH to its end, with no standard input and no signal blocked; a terminal's
 * stop signals do not reach it.
 *
 * @param arguments  its name first, NULL last
 * @param[out] out   release it with subprocess_release() when this succeeds
 * @return false when it could not be started; exit code 77 when there is no such program */
bool subprocess_run(const char *const arguments[], subprocess_t *out, failure_t *failure);

void subprocess_release(subprocess_t *subprocess);

#endif
