/* SPDX-License-Identifier: Apache-2.0 */
/* The status table, the thread's last error and the version. */
#include "support/check.h"

#include "moxie/placement.h"
#include "moxie/version.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void test_every_status_has_a_name_and_a_text(void **state)
{
    (void)state;
#define CHECK(name, number, text)                                                                  \
    assert_int_equal(MOXIE_##name, number);                                                        \
    assert_string_equal(moxie_status_name(MOXIE_##name), "MOXIE_" #name);                          \
    assert_string_equal(moxie_status_text(MOXIE_##name), text);
    MOXIE_STATUS_TABLE(CHECK)
#undef CHECK
    assert_string_equal(moxie_status_name((moxie_status_t)999), "MOXIE_ERR_UNKNOWN");
    assert_non_null(moxie_status_text((moxie_status_t)999));
}

/* Makes this thread's calls fail once. */
static void fail_once(void)
{
    moxie_placement_t *placement = NULL;
    assert_status(moxie_placement_create_block(0, 1, &placement), MOXIE_ERR_ARGUMENT);
    assert_null(placement);
}

static void *error_of_another_thread(void *status)
{
    moxie_error_t error = MOXIE_ERROR_INIT;
    *(moxie_status_t *)status = moxie_last_error(&error);
    return NULL;
}

static void test_last_error_belongs_to_a_thread(void **state)
{
    (void)state;
    fail_once();
    moxie_error_t error = MOXIE_ERROR_INIT;
    assert_int_equal(moxie_last_error(&error), MOXIE_ERR_ARGUMENT);
    assert_int_equal(error.status, MOXIE_ERR_ARGUMENT);
    assert_true(strlen(error.message) > 0);

    moxie_status_t other = MOXIE_ERR_INTERNAL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, error_of_another_thread, &other), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(other, MOXIE_OK);
}

/* A caller compiled with a shorter struct gets no byte more than it has. */
static void test_last_error_respects_the_callers_size(void **state)
{
    (void)state;
    fail_once();
    moxie_error_t error;
    memset(&error, 0xA5, sizeof(error));
    error.size = offsetof(moxie_error_t, token);
    assert_int_equal(moxie_last_error(&error), MOXIE_ERR_ARGUMENT);
    assert_int_equal(error.status, MOXIE_ERR_ARGUMENT);
    const unsigned char *tail = (const unsigned char *)&error + offsetof(moxie_error_t, token);
    for (size_t i = 0; i < sizeof(error) - offsetof(moxie_error_t, token); i++) {
        assert_int_equal(tail[i], 0xA5);
    }
}

static void test_version_of_library_and_headers_agree(void **state)
{
    (void)state;
    assert_int_equal(moxie_version(), MOXIE_VERSION);
    char text[32];
    snprintf(text, sizeof(text), "%d.%d.%d", MOXIE_VERSION_MAJOR, MOXIE_VERSION_MINOR,
             MOXIE_VERSION_PATCH);
    assert_string_equal(moxie_version_text(), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_a_name_and_a_text),
        cmocka_unit_test(test_last_error_belongs_to_a_thread),
        cmocka_unit_test(test_last_error_respects_the_callers_size),
        cmocka_unit_test(test_version_of_library_and_headers_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
