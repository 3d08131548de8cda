/* SPDX-License-Identifier: Apache-2.0 */
/* Status names and the thread's last error. */
#include "core/error.h"

#include "core/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local moxie_error_t last_error;

const char *moxie_status_name(moxie_status_t status)
{
    switch (status) {
#define CASE(name, number, text)                                                                   \
    case MOXIE_##name:                                                                             \
        return "MOXIE_" #name;
        MOXIE_STATUS_TABLE(CASE)
#undef CASE
    }
    return "MOXIE_ERR_UNKNOWN";
}

const char *moxie_status_text(moxie_status_t status)
{
    switch (status) {
#define CASE(name, number, text)                                                                   \
    case MOXIE_##name:                                                                             \
        return text;
        MOXIE_STATUS_TABLE(CASE)
#undef CASE
    }
    return "unknown status";
}

moxie_error_t *error_detail(void)
{
    return &last_error;
}

static void start_record(moxie_status_t status)
{
    memset(&last_error, 0, sizeof(last_error));
    last_error.size = sizeof(last_error);
    last_error.status = status;
    last_error.rank = -1;
    last_error.peer = -1;
    last_error.slot = -1;
    last_error.token = -1;
    last_error.expected = -1;
    last_error.observed = -1;
}

moxie_status_t error_set(moxie_status_t status, const char *format, ...)
{
    start_record(status);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error.message, sizeof(last_error.message), format, arguments);
    va_end(arguments);
    return status;
}

moxie_status_t error_set_errno(const char *format, ...)
{
    const int system_errno = errno;
    start_record(MOXIE_ERR_SYSTEM);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error.message, sizeof(last_error.message), format, arguments);
    va_end(arguments);
    const size_t used = strlen(last_error.message);
    snprintf(last_error.message + used, sizeof(last_error.message) - used, ": %s",
             strerrordesc_np(system_errno) != NULL ? strerrordesc_np(system_errno)
                                                   : "unknown error");
    last_error.system_errno = system_errno;
    return MOXIE_ERR_SYSTEM;
}

void error_set_phase(const char *op, const char *phase)
{
    snprintf(last_error.op, sizeof(last_error.op), "%s", op);
    snprintf(last_error.phase, sizeof(last_error.phase), "%s", phase);
}

void error_default_phase(const char *op, const char *phase)
{
    if (last_error.op[0] == '\0') {
        snprintf(last_error.op, sizeof(last_error.op), "%s", op);
    }
    if (last_error.phase[0] == '\0') {
        snprintf(last_error.phase, sizeof(last_error.phase), "%s", phase);
    }
}

moxie_status_t error_adopt(const moxie_error_t *error)
{
    last_error = *error;
    last_error.size = sizeof(last_error);
    if (last_error.status <= MOXIE_OK || last_error.status > MOXIE_ERR_INTERNAL) {
        last_error.status = MOXIE_ERR_PROTOCOL; /* a failure that is none we know */
    }
    last_error.op[sizeof(last_error.op) - 1] = '\0';
    last_error.phase[sizeof(last_error.phase) - 1] = '\0';
    last_error.message[sizeof(last_error.message) - 1] = '\0';
    return last_error.status;
}

moxie_status_t moxie_last_error(moxie_error_t *out)
{
    if (out != NULL) {
        options_write(out, &last_error, sizeof(last_error));
    }
    return last_error.status;
}
