/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * What a call returns, and where the details of a failure are.
 *
 * Every call that can fail returns a ::moxie_status_t. The first function that detects a failure
 * records the details in the calling thread's last error; everyone else passes the code up. The
 * library never exits, never aborts and prints nothing unless the environment variable MOXIE_LOG
 * asks for it.
 */
#ifndef MOXIE_STATUS_H
#define MOXIE_STATUS_H

#include "moxie/export.h"

#include <stddef.h>
#include <stdint.h>

MOXIE_BEGIN_DECLS

/** One row a status: X(name, number, one-line meaning). The numbers are ABI and never change. */
#define MOXIE_STATUS_TABLE(X)                                                                      \
    X(OK, 0, "success")                                                                            \
    X(ERR_ARGUMENT, 1, "an argument is not allowed")                                               \
    X(ERR_ROUTING, 2, "the routing names an expert wrongly")                                       \
    X(ERR_MISMATCH, 3, "ranks disagree about a call or its shapes")                                \
    X(ERR_CAPACITY, 4, "a row capacity is too small for this routing")                             \
    X(ERR_WINDOW, 5, "a buffer does not lie in a window of the group")                             \
    X(ERR_MEMORY, 6, "not enough memory")                                                          \
    X(ERR_TIMEOUT, 7, "a deadline passed")                                                         \
    X(ERR_PEER_LOST, 8, "a peer's process ended")                                                  \
    X(ERR_REVOKED, 9, "the group failed earlier and can only be destroyed")                        \
    X(ERR_UNSUPPORTED, 10, "the backend does not do this")                                         \
    X(ERR_UNAVAILABLE, 11, "the backend does not work on this machine")                            \
    X(ERR_SYSTEM, 12, "the operating system refused a call")                                       \
    X(ERR_PROTOCOL, 13, "a message from a peer makes no sense")                                    \
    X(ERR_INTERNAL, 14, "a bug in Moxie")

/** Result of a call. */
typedef enum moxie_status {
#define MOXIE_STATUS_ENUMERATOR(name, number, text) MOXIE_##name = number,
    MOXIE_STATUS_TABLE(MOXIE_STATUS_ENUMERATOR)
#undef MOXIE_STATUS_ENUMERATOR
} moxie_status_t;

/** The name of a status, "MOXIE_ERR_TIMEOUT". Static; "MOXIE_ERR_UNKNOWN" for any other number. */
MOXIE_API const char *moxie_status_name(moxie_status_t status);

/** The one-line meaning of a status. Static, never NULL. */
MOXIE_API const char *moxie_status_text(moxie_status_t status);

/** Bytes of the message in ::moxie_error_t, its terminating NUL included. */
#define MOXIE_ERROR_MESSAGE_BYTES 256

/** Details of a failure. Numbers that do not apply are -1. */
typedef struct moxie_error {
    size_t size;           /**< sizeof(moxie_error_t), set by the caller */
    moxie_status_t status; /**< what the failing call returned */
    int32_t rank;          /**< the rank where the failure was detected */
    int32_t peer;          /**< the rank that caused it or was missing */
    int32_t slot;          /**< top-k slot in the routing */
    int64_t token;         /**< token index on #peer in the routing */
    int64_t expected;      /**< the need, limit or value that would have been right */
    int64_t observed;      /**< what was there instead */
    int32_t system_errno;  /**< errno of a refused system call, else 0 */
    int32_t reserved;      /**< 0 */
    char op[24];           /**< the operation, "dispatch"; "" when none */
    char phase[24];        /**< the phase of the operation, "payload"; "" when none */
    char message[MOXIE_ERROR_MESSAGE_BYTES]; /**< one sentence for a person */
} moxie_error_t;

/** Initialiser of a ::moxie_error_t. */
#define MOXIE_ERROR_INIT                                                                           \
    {                                                                                              \
        .size = sizeof(moxie_error_t)                                                              \
    }

/**
 * Copies the details of the calling thread's last failure.
 *
 * @param[out] out  caller's memory with `size` set; written in full
 * @return the status of that failure; MOXIE_OK when nothing failed in this thread yet
 */
MOXIE_API moxie_status_t moxie_last_error(moxie_error_t *out);

MOXIE_END_DECLS

#endif
