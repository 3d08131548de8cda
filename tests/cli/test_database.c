/* SPDX-License-Identifier: Apache-2.0 */
/* The tuning database: entries come back, several writers, and every way in which it is no use. */
#include "support/check.h"

#include "tune/database.h"

#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITER_COUNT = 4, WRITE_COUNT = 25 };

static char folder[] = "/tmp/moxie-test-database-XXXXXX";
static char own[64]; /* a folder of each test */

static int new_folder(void **state)
{
    static int count;
    (void)state;
    (void)snprintf(own, sizeof(own), "%s/%d", folder, ++count);
    return 0;
}

static settings_entry_t entry_of(int64_t tokens, int64_t value)
{
    settings_entry_t entry = {
        .key = {"shm", "Xeon,2x", "standard", "rank_major/forward", 4, tokens, 2048, 128, 8},
        .knobs = {{"spin_count", value}, {"row_kernels", 0}},
        .knob_count = 2,
        .models = {{"spin_count", {{20, 52000, 9100}, {0, 61000, 9050}}, 2}},
        .model_count = 1,
        .model_error = 31};
    return entry;
}

static database_t open_own(void)
{
    database_t database;
    failure_t failure = {.exit_code = EXIT_DONE};
    if (!database_open(&database, own, &failure))
        fail_msg("%s", failure.sentence);
    return database;
}

static bool put(database_t *database, int64_t tokens, int64_t value, failure_t *failure)
{
    settings_entry_t entry = entry_of(tokens, value);
    json_t *record = json_pack("{s:s}", "verdict", "it is");
    *failure = (failure_t){.exit_code = EXIT_DONE};
    bool is_put = database_put(database, &entry, record, failure);
    json_decref(record);
    return is_put;
}

/* The text beside it, as the library reads it. */
static void check_text(const char *wanted)
{
    char path[128];
    char text[4096] = "";
    (void)snprintf(path, sizeof(path), "%s/" SETTINGS_FILE, own);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    (void)fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    if (strcmp(text, wanted) != 0)
        fail_msg("it is:\n%s", text);
}

#define LINE(tokens, value)                                                                        \
    "backend=shm machine=Xeon,2x mode=standard variant=rank_major/forward ranks=4 tokens=" tokens  \
    " hidden=2048 experts=128 topk=8 knob.spin_count=" value " knob.row_kernels=0"                 \
    " model_error=31 model.spin_count=20:52000:9100,0:61000:9050\n"

static void test_entries_come_back_and_the_newest_are_last(void **state)
{
    failure_t failure;
    settings_entry_t wanted = entry_of(64, 3);
    settings_entry_t found;
    int64_t count = 0;
    database_t database = open_own();
    (void)state;
    assert_true(put(&database, 64, 1, &failure));
    assert_true(put(&database, 128, 2, &failure));
    assert_true(put(&database, 64, 3, &failure)); /* in place of the first */
    check_text(SETTINGS_HEADER "\n" LINE("128", "2") LINE("64", "3"));
    assert_true(database_find(&database, &wanted.key, &found, &failure));
    assert_memory_equal(&found, &wanted, sizeof(found));
    wanted.key.topk = 9;
    assert_false(database_find(&database, &wanted.key, &found, &failure));
    assert_int_equal(failure.exit_code, EXIT_DONE);
    json_t *list = database_list(&database, 0, &failure);
    assert_int_equal(json_array_size(list), 2);
    int64_t id = json_integer_value(json_object_get(json_array_get(list, 0), "id"));
    json_decref(list);
    assert_true(database_forget(&database, id, &count, &failure));
    assert_int_equal(count, 1);
    check_text(SETTINGS_HEADER "\n" LINE("64", "3"));
    assert_true(database_forget(&database, 0, &count, &failure));
    check_text(SETTINGS_HEADER "\n");
    database_close(&database);
}

static void test_writers_at_once_lose_nothing(void **state)
{
    failure_t failure;
    int status;
    (void)state;
    for (int writer = 0; writer < WRITER_COUNT; writer++) {
        if (fork() == 0) {
            database_t database = open_own();
            bool is_done = true;
            for (int i = 0; i < WRITE_COUNT; i++)
                is_done = put(&database, 1 + writer * WRITE_COUNT + i, i, &failure) && is_done;
            database_close(&database);
            _exit(is_done ? 0 : 1);
        }
    }
    for (int writer = 0; writer < WRITER_COUNT; writer++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    database_t database = open_own();
    json_t *list = database_list(&database, 0, &failure);
    assert_int_equal(json_array_size(list), WRITER_COUNT * WRITE_COUNT);
    json_decref(list);
    database_close(&database);
    char command[160]; /* and the text is that of the last one */
    (void)snprintf(command, sizeof(command), "test $(wc -l < %s/" SETTINGS_FILE ") = %d", own,
                   WRITER_COUNT * WRITE_COUNT + 1);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): our own folder, no input */
}

static void expect_refusal(int exit_code, const char *words)
{
    database_t database;
    failure_t failure = {.exit_code = EXIT_DONE};
    assert_false(database_open(&database, own, &failure));
    assert_int_equal(failure.exit_code, exit_code);
    if (strstr(failure.sentence, words) == NULL)
        fail_msg("%s", failure.sentence);
    database_close(&database);
}

static void write_database(const char *text)
{
    char path[128];
    assert_int_equal(mkdir(own, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/tuning.db", own);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_what_is_no_database_is_refused(void **state)
{
    (void)state;
    write_database("This is a letter, and far too long for the header of a database of SQLite, "
                   "which has a hundred bytes, all of which mean something.");
    expect_refusal(EXIT_USAGE, "no tuning database, or a damaged one");
}

static void test_one_of_a_newer_version_is_refused(void **state)
{
    database_t database = open_own();
    (void)state;
    assert_int_equal(sqlite3_exec(database.connection, "PRAGMA user_version = 3", NULL, NULL, NULL),
                     SQLITE_OK);
    database_close(&database);
    expect_refusal(EXIT_USAGE, "a newer Moxie wrote it (version 3, this one knows 2)");
}

/* As the program before models left it. */
static void test_one_of_an_older_version_is_brought_up_to_date(void **state)
{
    static const char older[] =
        "ALTER TABLE tuned DROP COLUMN model; PRAGMA user_version = 1;"
        "INSERT INTO tuned VALUES (1, 'shm', 'Xeon,2x', 'standard', 'rank_major/forward', 4, 64,"
        " 2048, 128, 8, '2026-11-22T00:00:00Z', '{\"spin_count\": 9}', '{}');";
    failure_t failure = {.exit_code = EXIT_DONE};
    settings_entry_t wanted = entry_of(64, 9);
    settings_entry_t found;
    database_t database = open_own();
    (void)state;
    assert_int_equal(sqlite3_exec(database.connection, older, NULL, NULL, NULL), SQLITE_OK);
    database_close(&database);
    database = open_own();
    assert_true(database_find(&database, &wanted.key, &found, &failure));
    assert_int_equal(found.knobs[0].value, 9);
    assert_int_equal(found.model_count, 0);
    assert_true(put(&database, 64, 10, &failure)); /* and it takes a model now */
    check_text(SETTINGS_HEADER "\n" LINE("64", "10"));
    database_close(&database);
}

static void test_a_folder_that_cannot_be_made_is_refused(void **state)
{
    (void)state;
    (void)snprintf(own, sizeof(own), "/dev/null/store");
    expect_refusal(EXIT_USAGE, "no such folder can be made");
}

/* Runs in a child: it may change its user and its limits. */
static void in_child(void (*work)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        work();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void write_read_only(void)
{
    database_t database;
    failure_t failure = {.exit_code = EXIT_DONE};
    if (geteuid() == 0 && setuid(65534) != 0)
        _exit(2);
    if (!database_open(&database, own, &failure)) /* reading is allowed */
        _exit(3);
    json_t *list = database_list(&database, 0, &failure);
    if (json_array_size(list) != 1 || put(&database, 1, 1, &failure))
        _exit(4);
    if (failure.exit_code != EXIT_USAGE || strstr(failure.sentence, "cannot be written") == NULL)
        _exit(5);
}

static void test_a_read_only_one_is_read(void **state)
{
    char path[128];
    failure_t failure;
    database_t database = open_own();
    (void)state;
    assert_true(put(&database, 64, 1, &failure));
    database_close(&database);
    (void)snprintf(path, sizeof(path), "%s/tuning.db", own);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(own, 0555), 0);
    in_child(write_read_only);
    assert_int_equal(chmod(own, 0755), 0);
}

/* No file may grow: what a full disk does. */
static void write_to_full_disk(void)
{
    failure_t failure;
    struct rlimit limit = {8192, 8192};
    database_t database = open_own();
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        _exit(2);
    bool is_full = false;
    for (int i = 1; i <= 100 && !is_full; i++)
        is_full = !put(&database, i, i, &failure);
    if (!is_full || failure.exit_code != EXIT_FAILED || failure.sentence[0] == '\0')
        _exit(3);
    database_close(&database);
}

static void test_a_full_disk_is_told_and_loses_nothing(void **state)
{
    failure_t failure;
    database_t database = open_own();
    (void)state;
    assert_true(put(&database, 1000, 7, &failure));
    database_close(&database);
    in_child(write_to_full_disk);
    database = open_own();
    json_t *list = database_list(&database, 0, &failure);
    assert_true(json_array_size(list) >= 1);
    json_decref(list);
    assert_true(put(&database, 1001, 7, &failure)); /* there is room again */
    database_close(&database);
}

static bool write_proc(const char *name, const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/%s", name);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    bool is_written = fputs(text, file) >= 0;
    return fclose(file) == 0 && is_written;
}

/* A mount namespace of this process, for which others than root need a user namespace. */
static bool leave_namespaces(void)
{
    char users[32];
    char groups[32];
    (void)snprintf(users, sizeof(users), "0 %u 1", geteuid());
    (void)snprintf(groups, sizeof(groups), "0 %u 1", getegid());
    if (geteuid() == 0)
        return unshare(CLONE_NEWNS) == 0;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_proc("setgroups", "deny") &&
           write_proc("uid_map", users) && write_proc("gid_map", groups);
}

/* A disk of a few pages, which only this process sees. Exit code 77: not allowed here. */
static void fill_small_disk(void)
{
    char text_path[128];
    int64_t count = 0;
    failure_t failure = {.exit_code = EXIT_DONE};
    if (!leave_namespaces() || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", own, "tmpfs", 0, "size=64k") != 0)
        _exit(77);
    database_t database = open_own();
    while (count < 1000 && put(&database, count + 1, 7, &failure))
        count++;
    if (count == 0 || count == 1000 || failure.exit_code != EXIT_FAILED ||
        strstr(failure.sentence, own) == NULL)
        _exit(2);
    database_close(&database);
    database = open_own(); /* all that was said to be stored is, in both files */
    json_t *list = database_list(&database, 0, &failure);
    if ((int64_t)json_array_size(list) != count)
        _exit(3);
    (void)snprintf(text_path, sizeof(text_path), "%s/" SETTINGS_FILE, own);
    FILE *file = fopen(text_path, "r");
    int64_t lines = 0;
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        lines += c == '\n';
    if (lines != count + 1)
        _exit(4);
}

static void test_a_disk_without_room_keeps_what_was_stored(void **state)
{
    int status;
    (void)state;
    assert_int_equal(mkdir(own, 0700), 0);
    pid_t pid = fork();
    if (pid == 0) {
        fill_small_disk();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("SKIPPED: no file system may be mounted here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void test_a_locked_one_is_told(void **state)
{
    failure_t failure;
    database_t holder = open_own();
    database_t database = open_own();
    (void)state;
    assert_int_equal(sqlite3_exec(holder.connection, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_busy_timeout(database.connection, 50);
    assert_false(put(&database, 1, 1, &failure));
    assert_int_equal(failure.exit_code, EXIT_FAILED);
    assert_non_null(strstr(failure.sentence, "locked"));
    database_close(&holder);
    assert_true(put(&database, 1, 1, &failure));
    database_close(&database);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, new_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_entries_come_back_and_the_newest_are_last),
        TEST(test_writers_at_once_lose_nothing),
        TEST(test_what_is_no_database_is_refused),
        TEST(test_one_of_a_newer_version_is_refused),
        TEST(test_one_of_an_older_version_is_brought_up_to_date),
        TEST(test_a_folder_that_cannot_be_made_is_refused),
        TEST(test_a_read_only_one_is_read),
        TEST(test_a_full_disk_is_told_and_loses_nothing),
        TEST(test_a_disk_without_room_keeps_what_was_stored),
        TEST(test_a_locked_one_is_told),
    };
    char command[64];
    if (mkdtemp(folder) == NULL)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) != 0 || failed != 0; /* NOLINT(cert-env33-c): our own folder */
}
