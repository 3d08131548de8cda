/* SPDX-License-Identifier: Apache-2.0 */
/* What a value in the files of a suite means: times, nodes, numbers, names, options; how values are
 * quoted where they are written; and what the state of a job and its complaints mean. */
#include "support/check.h"

#include "suite/complaint.h"
#include "suite/keys.h"
#include "suite/name.h"
#include "suite/nodes.h"
#include "suite/outcome.h"
#include "suite/quote.h"
#include "suite/time_limit.h"
#include "suite/words.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_time_limits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds; /* 0: it is no time */
    } cases[] = {{"00:30:00", 1800},
                 {"1:30", 5400},
                 {"2-03:04:05", 183845},
                 {"30m", 1800},
                 {"90s", 90},
                 {"2h", 7200},
                 {"1d", 86400},
                 {"1w", 604800},
                 {"366d", 31622400},
                 {"", 0},
                 {"30", 0},
                 {"1:60", 0},
                 {"1:00:60", 0},
                 {"1:2:3:4", 0},
                 {"-1:00", 0},
                 {"0s", 0},
                 {"367d", 0},
                 {"1-", 0},
                 {"1-2", 0},
                 {"30 m", 0},
                 {"1:", 0},
                 {"9999999999s", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t seconds = 0;
        bool is_read = time_limit_read(cases[i].text, &seconds);
        if (is_read != (cases[i].seconds != 0) || (is_read && seconds != cases[i].seconds))
            fail_msg("'%s': %lld", cases[i].text, (long long)seconds);
    }
}

/* The names with a space behind each; "" when the text is refused. */
static void expand(const char *text, char *out, size_t size)
{
    char why[NODES_WHY_BYTES] = "";
    node_list_t list = {0};
    size_t used = 0;
    bool is_read = nodes_add_hosts(&list, text, why);
    out[0] = '\0';
    for (int32_t i = 0; i < list.count && is_read; i++)
        used += (size_t)snprintf(out + used, size - used, "%s ", list.names[i]);
    assert_int_equal(is_read, why[0] == '\0' || strcmp(why, "not enough memory") == 0);
    nodes_release(&list);
}

static void test_hosts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"n7", "n7 "},
        {"n[0-2,8]", "n0 n1 n2 n8 "},
        {"n[08-11]-gpu", "n08-gpu n09-gpu n10-gpu n11-gpu "},
        {"a,b[1-2],c", "a b1 b2 c "},
        {"n[3-1]", ""},
        {"n[1", ""},
        {"n1]", ""},
        {"n[]", ""},
        {"n[1-2][3-4]", ""},
        {"", ""},
        {"a,,b", ""},
        {"a b", ""},
        {"$(reboot)", ""},
        {"-n", ""},
        {"n1,n1", ""},
        {"n[1-2,2]", ""},
        {"n[0-999999999]", ""},
        {"n[99999999999]", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char names[256];
        expand(cases[i][0], names, sizeof(names));
        if (strcmp(names, cases[i][1]) != 0)
            fail_msg("'%s': '%s'", cases[i][0], names);
    }
}

static void test_groups(void **state)
{
    (void)state;
    char why[NODES_WHY_BYTES];
    node_want_t want;
    assert_true(nodes_is_group("P:g:2") && !nodes_is_group("n[1-2]"));
    assert_true(nodes_read_group("P:g:2", &want, why));
    assert_string_equal(want.partition, "P");
    assert_string_equal(want.group, "g");
    assert_int_equal(want.count, 2);
    assert_true(nodes_read_group("P:g:max_avail", &want, why));
    assert_int_equal(want.count, 0);
    static const char *const wrong[] = {"P:g",    ":g:2",   "P::2",    "P:g:0",
                                        "P:g:2x", "P:g:-1", "P:g:2:3", "P:g:9999"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(nodes_read_group(wrong[i], &want, why));
}

/* The first value of a document. */
static toml_document_t *parse(const char *text, const toml_node_t **node)
{
    toml_error_t error;
    toml_document_t *document = toml_parse(text, strlen(text), &error);
    assert_non_null(document);
    *node = &toml_root(document)->children[0];
    return document;
}

static void test_numbers_and_switches(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int is_number;
        int64_t number;
        int is_switch;
        int64_t on;
    } cases[] = {{"a = 1024", 1, 1024, 0, 0},
                 {"a = '1024'", 1, 1024, 0, 0},
                 {"a = 1024.0", 1, 1024, 0, 0},
                 {"a = '7.00'", 1, 7, 0, 0},
                 {"a = 1.5", 0, 0, 0, 0},
                 {"a = '7.5'", 0, 0, 0, 0},
                 {"a = ''", 0, 0, 0, 0},
                 {"a = nan", 0, 0, 0, 0},
                 {"a = 1e300", 0, 0, 0, 0},
                 {"a = '0x10'", 0, 0, 0, 0},
                 {"a = true", 0, 0, 1, 1},
                 {"a = 1", 1, 1, 1, 1},
                 {"a = 'Yes'", 0, 0, 1, 1},
                 {"a = 'off'", 0, 0, 1, 0},
                 {"a = 'maybe'", 0, 0, 0, 0},
                 {"a = 0.0", 1, 0, 1, 0},
                 {"a = [1]", 0, 0, 0, 0},
                 {"a = '-3'", 1, -3, 0, 0},
                 {"a = '99999999999999999999'", 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const toml_node_t *node;
        int64_t value = 0;
        toml_document_t *document = parse(cases[i].text, &node);
        if (value_number(node, &value) != cases[i].is_number ||
            (cases[i].is_number && value != cases[i].number))
            fail_msg("%s is the number %lld", cases[i].text, (long long)value);
        if (value_switch(node, &value) != cases[i].is_switch ||
            (cases[i].is_switch && value != cases[i].on))
            fail_msg("%s is the switch %lld", cases[i].text, (long long)value);
        toml_release(document);
    }
}

static void test_names_of_folders(void **state)
{
    (void)state;
    char why[NAME_WHY_BYTES];
    static const char *const wrong[] = {"", ".", "..", "../up", "/root", "a/b", "a\nb", ".hidden"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(name_check(wrong[i], why));
    assert_true(name_check("Tests.1 with $(words) and \"quotes\"", why));
}

static char *quoted(void (*quote)(FILE *, const char *), const char *text)
{
    char *out = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&out, &bytes);
    assert_non_null(stream);
    quote(stream, text);
    assert_int_equal(fclose(stream), 0);
    return out;
}

static void test_quotes(void **state)
{
    (void)state;
    static const struct {
        void (*quote)(FILE *, const char *);
        const char *text;
        const char *quoted;
    } cases[] = {
        {quote_shell, "a \"b\" $(c) `d` \\ 'e'", "\"a \\\"b\\\" \\$(c) \\`d\\` \\\\ 'e'\""},
        {quote_word, "plain-1.2", "plain-1.2"},
        {quote_word, "two words", "\"two words\""},
        {quote_word, "", "\"\""},
        {quote_directive, "n1,n2", "n1,n2"},
        {quote_directive, "a \"b\" $(c) \\", "\"a \\\"b\\\" $(c) \\\\\""},
        {quote_string, "a\"b\\c\nd\x7f", "\"a\\\"b\\\\c\\u000ad\\u007f\""},
        {quote_csv, "plain", "plain"},
        {quote_csv, "a,\"b\"\n", "\"a,\"\"b\"\"\n\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *out = quoted(cases[i].quote, cases[i].text);
        assert_string_equal(out, cases[i].quoted);
        free(out);
    }
}

static void test_words(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t count; /* -1: it has no words */
        const char *words[4];
    } cases[] = {
        {"", 0, {NULL}},
        {" \n\t ", 0, {NULL}},
        {"--a --b=c", 2, {"--a", "--b=c"}},
        {" 'a b'c \"d'\\\"e\" \\ f ", 3, {"a bc", "d'\"e", " f"}},
        {"$(a) `b` *", 3, {"$(a)", "`b`", "*"}},
        {"'' \"\"", 2, {"", ""}},
        {"'a\\' b", 2, {"a\\", "b"}},
        {"'a", -1, {NULL}},
        {"a \"b\\\"", -1, {NULL}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        words_t words = {0};
        const char *why = NULL;
        bool is_read = words_add(&words, cases[i].text, &why);
        assert_int_equal(is_read, cases[i].count >= 0);
        assert_int_equal(why == NULL, is_read);
        for (int32_t at = 0; is_read && at < cases[i].count; at++)
            assert_string_equal(words.list[at], cases[i].words[at]);
        assert_true(!is_read || words.count == cases[i].count);
        words_release(&words);
    }
}

/* What job 7 wrote on standard error: whether its memory was the end, and its last words. */
static void test_complaints(void **state)
{
    (void)state;
    static const char killed[] = "StepId=7.1 exceeded memory limit (200 > 100), being killed";
    static const struct {
        const char *text;
        const char *memory;
        const char *words;
    } cases[] = {
        {"", "", ""},
        {"one\n\ntwo\ntwo\nthree", "", "two; three"},
        {"a\tb\nsrun: error: n1: task 0: Exited with exit code 2\n", "", "a b"},
        {"srun: error: n1: task 0: Killed\n", "", "srun: error: n1: task 0: Killed"},
        {"srun: Job 7 step creation temporarily disabled, retrying (Requested nodes are busy)\n"
         "srun: Step created for job 7\nwhy\n0: slurmstepd-n1: error: *** STEP 7.1 ON n1 "
         "CANCELLED AT 2026-11-22T17:35:20 ***\n",
         "", "why"},
        /* What Slurm 22.05 was seen to write, and 23.02 and later ones have. */
        {"slurmstepd-n1: error: StepId=7.1 exceeded memory limit (200 > 100), being killed\n"
         "slurmstepd-n1: error: Exceeded job memory limit\nlater\n",
         killed, "slurmstepd-n1: error: Exceeded job memory limit; later"},
        {"12: slurmstepd: error: StepId=7.1 exceeded memory limit (200 > 100), being killed",
         killed, NULL},
        {"slurmstepd: error: StepId=7.batch exceeded virtual memory limit (2 > 1), being killed\n",
         "StepId=7.batch exceeded virtual memory limit (2 > 1), being killed", NULL},
        {"slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0. Some of your processes "
         "may "
         "have been killed by the cgroup out-of-memory handler.\n",
         "Detected 1 oom-kill event(s) in StepId=7.0. Some of your processes may have been killed "
         "by the cgroup out-of-memory handler.",
         NULL},
        {"slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks "
         "have been OOM Killed.\n",
         "Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks have been OOM "
         "Killed.",
         NULL},
        {"slurmstepd: error: Detected 12 oom_kill events in StepId=7.1. Some\n",
         "Detected 12 oom_kill events in StepId=7.1. Some", NULL},
        /* Another job, and what a program says that only talks of it. */
        {"slurmstepd: error: StepId=77.1 exceeded memory limit (200 > 100), being killed\n", "",
         NULL},
        {"slurmstepd: error: Detected 1 oom_kill event in StepId=70.0. Some\n", "", NULL},
        {"StepId=7.1 exceeded memory limit (200 > 100), being killed\n", "", NULL},
        {"error: StepId=7.1 exceeded memory limit (200 > 100), being killed\n", "", NULL},
        {"log: slurmstepd: error: StepId=7.1 exceeded memory limit (200 > 100), being killed\n", "",
         NULL},
        {"slurmstepd: error: StepId=7.1 exceeded memory limit (200 > 100), being killed?\n", "",
         NULL},
        {"slurmstepd: error: StepId=7.1 exceeded memory limit\n", "", NULL},
        {"slurmstepd: StepId=7.1 exceeded memory limit (200 > 100), being killed\n", "", NULL},
        {"slurmstepd: error: no oom_kill event in StepId=7.1.\n", "", NULL},
        {"slurmstepd: error: Exceeded job memory limit\n", "", NULL},
    };
    char folder[] = "/tmp/moxie-complaint-XXXXXX";
    char path[sizeof(folder) + 16];
    complaint_t complaint;
    failure_t failure = {.exit_code = EXIT_DONE};
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/stderr.txt", folder);
    assert_true(complaint_read(folder, 7, &complaint, &failure));
    assert_string_equal(complaint.words, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        assert_true(fputs(cases[i].text, file) >= 0 && fclose(file) == 0);
        assert_true(complaint_read(folder, 7, &complaint, &failure));
        assert_string_equal(complaint.memory, cases[i].memory);
        if (cases[i].words != NULL)
            assert_string_equal(complaint.words, cases[i].words);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* What a job waits for in vain. */
static void test_hopeless(void **state)
{
    (void)state;
    static const char *const hopeless[] = {"PartitionConfig", "InvalidAccount",
                                           "QOSMaxNodePerJobLimit",
                                           "AssocMaxWallDurationPerJobLimit"};
    static const char *const hopeful[] = {"",           "None",         "Resources",
                                          "Dependency", "JobHeldUser",  "QOSMaxJobsPerUserLimit",
                                          "Priority",   "AssocGrpNode", "PartitionDown"};
    for (size_t i = 0; i < sizeof(hopeless) / sizeof(hopeless[0]); i++)
        assert_true(slurm_is_hopeless(hopeless[i]));
    for (size_t i = 0; i < sizeof(hopeful) / sizeof(hopeful[0]); i++)
        assert_false(slurm_is_hopeless(hopeful[i]));
}

/* What Slurm says of a job, with what its ranks left, makes the status of a run. */
static void test_outcomes(void **state)
{
    (void)state;
    static const struct {
        slurm_job_t job;
        int verified_count; /* of two nodes that should have measured */
        int other_count;
        const char *status;
    } cases[] = {
        {{.state = "COMPLETED"}, 2, 0, "passed"},
        {{.state = "COMPLETED"}, 1, 0, "failed"},
        {{.state = "COMPLETED"}, 1, 1, "failed"},
        {{.state = "COMPLETED"}, 0, 0, "failed"},
        {{.state = "FAILED", .exit_code = EXIT_FAILED}, 0, 0, "failed"},
        {{.state = "FAILED", .exit_code = EXIT_FAILED}, 1, 1, "mismatch"},
        {{.state = "FAILED", .exit_code = EXIT_FAILED}, 2, 0, "failed"},
        {{.state = "FAILED", .exit_code = EXIT_USAGE}, 0, 0, "refused"},
        {{.state = "FAILED", .exit_code = EXIT_PEER}, 0, 0, "lost"},
        {{.state = "FAILED", .exit_code = EXIT_UNAVAILABLE}, 0, 0, "unsupported"},
        {{.state = "FAILED", .signal = 9}, 0, 0, "failed"},
        {{.state = "TIMEOUT"}, 2, 0, "timed_out"},
        {{.state = "CANCELLED"}, 2, 0, "cancelled"},
        {{.state = "PREEMPTED"}, 0, 0, "cancelled"},
        {{.state = "NODE_FAIL"}, 0, 0, "node_lost"},
        {{.state = "OUT_OF_MEMORY"}, 0, 0, "out_of_memory"},
        {{.state = "BOOT_FAIL"}, 0, 0, "not_started"},
        {{.state = "DEADLINE"}, 0, 0, "not_started"},
        {{.state = ""}, 2, 0, "failed"},
        {{.state = "REVOKED"}, 0, 0, "failed"},
    };
    static const complaint_t none = {.memory = ""};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        outcome_t outcome;
        batch_end_t end = {.id = 7, .slurm = cases[i].job};
        json_t *groups = json_array();
        for (int at = 0; at < cases[i].verified_count + cases[i].other_count; at++)
            json_array_append_new(groups,
                                  json_pack("{s:b}", "verified", at < cases[i].verified_count));
        outcome_judge(&end, groups, 2, &none, &outcome);
        assert_string_equal(outcome.status, cases[i].status);
        assert_int_equal(outcome.reason[0] == '\0', strcmp(outcome.status, "passed") == 0);
        json_decref(groups);
    }
}

/* Slurm's own state says less than its slurmstepd when it was a step that took the memory. */
static void test_out_of_memory(void **state)
{
    (void)state;
    static const struct {
        slurm_job_t job;
        const char *ended_by;
        const char *status; /* with slurmstepd's words */
    } cases[] = {
        {{.state = "OUT_OF_MEMORY"}, NULL, "out_of_memory"},
        {{.state = "FAILED", .exit_code = 137}, NULL, "out_of_memory"},
        {{.state = "FAILED", .exit_code = EXIT_PEER}, NULL, "out_of_memory"},
        {{.state = "FAILED", .signal = 9}, NULL, "out_of_memory"},
        {{.state = "TIMEOUT"}, NULL, "out_of_memory"},
        {{.state = "CANCELLED"}, NULL, "out_of_memory"},
        {{.state = "CANCELLED"}, "another", "ended_early"},
        {{.state = "NODE_FAIL"}, NULL, "node_lost"},
        {{.state = "COMPLETED"}, NULL, "passed"},
    };
    static const complaint_t complaint = {.words = "last", .memory = "StepId=7.1 exceeded"};
    json_t *groups = json_pack("[{s:b}]", "verified", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        outcome_t outcome;
        batch_end_t end = {.id = 7, .slurm = cases[i].job, .ended_by = cases[i].ended_by};
        outcome_judge(&end, groups, 1, &complaint, &outcome);
        assert_string_equal(outcome.status, cases[i].status);
        assert_int_equal(strstr(outcome.reason, complaint.memory) != NULL,
                         strcmp(outcome.status, "out_of_memory") == 0);
    }
    json_decref(groups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_limits),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_numbers_and_switches),
        cmocka_unit_test(test_names_of_folders),
        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_hopeless),
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
