/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one error channel: the first detector records the details in the thread's last error and
 * returns the status; everyone above passes the status up.
 */
#ifndef MOXIE_CORE_ERROR_H
#define MOXIE_CORE_ERROR_H

#include "moxie/status.h"

/* Starts a new record: all numbers -1, the message formatted. Returns `status`. */
moxie_status_t error_set(moxie_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a refused system call; adds errno's text to the message. */
moxie_status_t error_set_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The thread's record, to fill in rank, peer, token … right after error_set(). Never NULL. */
moxie_error_t *error_detail(void);

/* Names the operation and phase in the thread's record. */
void error_set_phase(const char *op, const char *phase);

/* The same where the record has no operation, or no phase, yet. */
void error_default_phase(const char *op, const char *phase);

/* Takes over a record that another rank published. Returns its status: never MOXIE_OK, and
 * MOXIE_ERR_PROTOCOL when it is none we know. */
moxie_status_t error_adopt(const moxie_error_t *error);

#endif
