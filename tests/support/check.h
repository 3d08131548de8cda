/* SPDX-License-Identifier: Apache-2.0 */
/* What every cmocka test of Moxie includes: cmocka needs four headers before its own. */
#ifndef SUPPORT_CHECK_H
#define SUPPORT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "moxie/status.h"

/* Fails with the name of the status and the library's own sentence. */
#define assert_status(call, wanted)                                                                \
    do {                                                                                           \
        const moxie_status_t got_status = (call);                                                  \
        if (got_status != (wanted)) {                                                              \
            moxie_error_t got_error = MOXIE_ERROR_INIT;                                            \
            (void)moxie_last_error(&got_error);                                                    \
            fail_msg("%s: got %s (%s), not %s", #call, moxie_status_name(got_status),              \
                     got_status == MOXIE_OK ? "" : got_error.message, moxie_status_name(wanted));  \
        }                                                                                          \
    } while (0)

#define assert_ok(call) assert_status(call, MOXIE_OK)

#endif
