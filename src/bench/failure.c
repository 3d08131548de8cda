/* SPDX-License-Identifier: Apache-2.0 */
/* Records why a tool does not succeed. */
#include "bench/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool failure_set(failure_t *failure, int exit_code, const char *format, ...)
{
    *failure = (failure_t){.exit_code = exit_code, .detected_by = -1};
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(failure->sentence, sizeof(failure->sentence), format, arguments);
    va_end(arguments);
    return false;
}

static int exit_code_of(moxie_status_t status)
{
    switch (status) {
    case MOXIE_ERR_TIMEOUT:
    case MOXIE_ERR_PEER_LOST:
    case MOXIE_ERR_REVOKED:
        return EXIT_PEER;
    case MOXIE_ERR_UNAVAILABLE:
    case MOXIE_ERR_UNSUPPORTED:
        return EXIT_UNAVAILABLE;
    case MOXIE_ERR_MEMORY:
        return EXIT_USAGE;
    default:
        return EXIT_FAILED;
    }
}

bool failure_from_library(failure_t *failure, int32_t rank, const char *doing)
{
    moxie_error_t error = MOXIE_ERROR_INIT;
    moxie_status_t status = moxie_last_error(&error);
    bool has_op = error.op[0] != '\0'; /* then the message begins with it */
    failure_set(failure, exit_code_of(status), "rank %d: %s%s%s (%s)", rank, has_op ? "" : doing,
                has_op ? "" : ": ", error.message, moxie_status_name(status));
    failure->status = status;
    failure->detected_by = error.rank;
    if (error.peer >= 0)
        failure_blame(failure, error.peer, 0);
    memcpy(failure->op, error.op, sizeof(failure->op));
    memcpy(failure->phase, error.phase, sizeof(failure->phase));
    return false;
}

void failure_blame(failure_t *failure, int32_t rank, pid_t pid)
{
    for (int32_t i = 0; i < failure->peer_count; i++) {
        if (failure->peers[i].rank != rank)
            continue;
        failure->peers[i].pid = pid;
        return;
    }
    if (failure->peer_count < FAILURE_PEER_COUNT_MAX)
        failure->peers[failure->peer_count++] = (failure_peer_t){rank, pid};
}
