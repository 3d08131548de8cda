/* SPDX-License-Identifier: Apache-2.0 */
/* Memory limits of control groups, from files as the kernel writes them: which one is found, and
 * how much it leaves. */
#include "support/check.h"

#include "core/cgroup.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "cgroup" and "mountinfo" are in it, and the mounted hierarchies. */
static char folder[32];

/* Writes a file; '@' in the text is the folder. */
static void write_file(const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (; *text != '\0'; text++)
        assert_true(*text == '@' ? fputs(folder, file) >= 0 : fputc(*text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void expect_limit(const char *name, uint64_t bytes, uint64_t left_bytes)
{
    char path[256];
    cgroup_limit_t limit;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_true(cgroup_find_limit(folder, &limit));
    assert_string_equal(limit.path, path);
    assert_int_equal(limit.bytes, bytes);
    assert_int_equal(limit.left_bytes, left_bytes);
}

static void expect_no_limit(void)
{
    cgroup_limit_t limit;
    if (cgroup_find_limit(folder, &limit))
        fail_msg("%s leaves %" PRIu64 " bytes", limit.path, limit.left_bytes);
    assert_string_equal(limit.path, "");
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/moxie-test-cgroup-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* A process in /job/step of version 2, as the host sees it. */
static void write_v2(void)
{
    write_file("cgroup", "0::/job/step\n");
    write_file("mountinfo",
               "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
               "31 23 0:27 / @/v2 rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static void test_own_limit(void **state)
{
    (void)state;
    write_v2();
    write_file("v2/job/step/memory.max", "5000000000\n");
    write_file("v2/job/step/memory.current", "1000000000\n");
    expect_limit("v2/job/step/memory.max", 5000000000, 4000000000);
    write_file("v2/job/step/memory.current", "6000000000\n");
    expect_limit("v2/job/step/memory.max", 5000000000, 0);
}

static void test_page_cache_counts_as_free(void **state)
{
    (void)state;
    write_v2();
    write_file("v2/job/memory.max", "1000\n");
    write_file("v2/job/memory.current", "900\n");
    write_file("v2/job/memory.stat",
               "anon 100\nfile 800\nshmem 90\nactive_anon 7\ninactive_file 200\n"
               "active_file 300\nworkingset_activate_file 5\n");
    expect_limit("v2/job/memory.max", 1000, 600);
    write_file("v2/job/memory.stat", "inactive_file 2000\nactive_file\nactive_file x\n");
    expect_limit("v2/job/memory.max", 1000, 1000);
}

static void test_limit_that_leaves_least(void **state)
{
    (void)state;
    write_v2();
    write_file("v2/memory.max", "900\n");
    write_file("v2/memory.current", "100\n");
    write_file("v2/job/memory.max", "1000\n");
    write_file("v2/job/memory.current", "700\n");
    write_file("v2/job/step/memory.max", "500\n");
    write_file("v2/job/step/memory.current", "100\n");
    write_file("v2/other/memory.max", "1\n");
    expect_limit("v2/job/memory.max", 1000, 300);
    write_file("v2/job/memory.max", "max\n");
    expect_limit("v2/job/step/memory.max", 500, 400);
    write_file("v2/memory.current", "899\n");
    expect_limit("v2/memory.max", 900, 1);
}

static void test_what_is_no_limit(void **state)
{
    static const char *const texts[] = {"max\n",
                                        "",
                                        "\n",
                                        "-1\n",
                                        "all\n",
                                        "18446744073709551615\n",
                                        "99999999999999999999999999999999999999\n"};
    (void)state;
    write_v2();
    expect_no_limit(); /* no files */
    write_file("v2/job/memory.current", "700\n");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_file("v2/job/memory.max", texts[i]);
        expect_no_limit();
    }
    write_file("v2/job/memory.max", "800\n");
    expect_limit("v2/job/memory.max", 800, 100);
    write_file("v2/job/memory.current", "99999999999999999999999999\n");
    expect_limit("v2/job/memory.max", 800, 0);
    write_file("v2/job/memory.current", "none\n"); /* then the limit is what is known */
    expect_limit("v2/job/memory.max", 800, 800);
}

static void test_version_1_beside_version_2(void **state)
{
    (void)state;
    write_file("cgroup",
               "9:name=memory:/wrong\n5:cpuacct,memory:/slurm/job_7\n4:cpu:/wrong\n0::/\n");
    write_file("mountinfo",
               "30 1 0:30 / @/wrong rw - cgroup cgroup rw,name=memory\n"
               "31 1 0:31 / @/wrong rw - cgroup cgroup rw,cpu\n"
               "32 1 0:32 / @/v1 rw master:3 propagate_from:2 - cgroup none rw,cpuacct,memory\n"
               "33 1 0:33 / @/v2 rw - cgroup2 cgroup2 rw\n");
    write_file("wrong/wrong/memory.limit_in_bytes", "1\n");
    write_file("wrong/slurm/job_7/memory.limit_in_bytes", "1\n");
    write_file("v1/memory.limit_in_bytes", "9223372036854771712\n");
    write_file("v1/slurm/job_7/memory.limit_in_bytes", "1000\n");
    write_file("v1/slurm/job_7/memory.usage_in_bytes", "800\n");
    write_file("v1/slurm/job_7/memory.stat", "inactive_file 1\nactive_file 2\n"
                                             "total_inactive_file 30\ntotal_active_file 70\n");
    expect_limit("v1/slurm/job_7/memory.limit_in_bytes", 1000, 300);
}

/* What a container sees: its own group as "/", or the host's paths and only a part of them mounted.
 */
static void test_part_of_a_hierarchy(void **state)
{
    static const struct {
        const char *group;
        const char *root;
        const char *found; /* NULL: no limit */
    } cases[] = {
        {"/", "/", "v2/memory.max"},
        {"/box/a", "/box/a", "v2/memory.max"},
        {"/box/a/job", "/box/a", "v2/job/memory.max"},
        {"/box/ab/job", "/box/a", NULL}, /* another group */
        {"/job", "/box", NULL},
        {"/job", "/../..", "v2/memory.max"}, /* mounted before the namespace was made */
        {"/../job", "/..", "v2/job/memory.max"},
        {"/../job", "/", NULL}, /* outside of the namespace */
        {"/job/gone (deleted)", "/", "v2/job/memory.max"},
        {"/box\\x2da/job", "/box\\134x2da", "v2/job/memory.max"},
    };
    (void)state;
    write_file("v2/memory.max", "1000\n");
    write_file("v2/job/memory.max", "900\n");
    write_file("job/memory.max", "1\n"); /* beside what is mounted */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[128];
        (void)snprintf(text, sizeof(text), "0::%s\n", cases[i].group);
        write_file("cgroup", text);
        (void)snprintf(text, sizeof(text), "31 23 0:27 %s @/v2 rw - cgroup2 cgroup2 rw\n",
                       cases[i].root);
        write_file("mountinfo", text);
        if (cases[i].found == NULL) {
            expect_no_limit();
        } else {
            const uint64_t bytes = strcmp(cases[i].found, "v2/memory.max") == 0 ? 1000 : 900;
            expect_limit(cases[i].found, bytes, bytes);
        }
    }
}

static void test_escaped_mount_point(void **state)
{
    (void)state;
    write_file("cgroup", "0::/job\n");
    write_file("mountinfo", "31 23 0:27 / @/my\\040groups\\1 rw - cgroup2 cgroup2 rw\n");
    write_file("my groups\\1/job/memory.max", "70\n");
    expect_limit("my groups\\1/job/memory.max", 70, 70);
}

static void test_odd_lines(void **state)
{
    static const char *const mounts[] = {"",
                                         "\n",
                                         " - \n",
                                         "31 23 0:27 / @/v2 rw cgroup2 cgroup2 rw\n",
                                         "31 - cgroup2 cgroup2 rw\n",
                                         "31 23 0:27 / @/v2 rw - cgroup2\n",
                                         "31 23 0:27 / @/v2 rw - cgroup2 cgroup2"};
    static const char *const groups[] = {"",      "\n",       "0\n", "0:\n",
                                         "0::\n", "0::job\n", "::",  "1:cpu:/job\n"};
    (void)state;
    expect_no_limit(); /* no files */
    write_v2();
    write_file("v2/job/memory.max", "70\n");
    expect_limit("v2/job/memory.max", 70, 70);
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        write_file("mountinfo", mounts[i]);
        expect_no_limit();
    }
    write_v2();
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        write_file("cgroup", groups[i]);
        expect_no_limit();
    }
    write_file("cgroup", "nonsense\n0::/job"); /* no newline */
    expect_limit("v2/job/memory.max", 70, 70);
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/cgroup", folder);
    assert_int_equal(unlink(path), 0);
    expect_no_limit();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_own_limit),
        TEST(test_page_cache_counts_as_free),
        TEST(test_limit_that_leaves_least),
        TEST(test_what_is_no_limit),
        TEST(test_version_1_beside_version_2),
        TEST(test_part_of_a_hierarchy),
        TEST(test_escaped_mount_point),
        TEST(test_odd_lines),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
