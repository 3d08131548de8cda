/* SPDX-License-Identifier: Apache-2.0 */
/* Finds each test of a record in another one and compares the times. */
#include "suite/compare.h"

#include "bench/file.h"
#include "bench/stats.h"
#include "bench/text_json.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A record is not that large; anything larger is something else. */
#define RECORD_BYTES_MAX ((size_t)256 << 20)

json_t *compare_read(const char *folder, failure_t *failure)
{
    char path[PATH_MAX];
    file_bytes_t file;
    json_error_t error;
    (void)snprintf(path, sizeof(path), "%s/suite.json", folder);
    if (!file_read(path, "--baseline", RECORD_BYTES_MAX, &file, failure))
        return NULL;
    json_t *record = json_loadb(file.bytes, file.count, 0, &error);
    const char *schema = json_string_value(json_object_get(record, "schema"));
    file_release(&file);
    if (record == NULL)
        failure_set(failure, EXIT_USAGE, "--baseline: %s:%d: %s", path, error.line, error.text);
    else if (schema == NULL || strcmp(schema, "moxie.suite/1") != 0)
        failure_set(failure, EXIT_USAGE, "--baseline: %s: is no record of moxie suite run", path);
    else if (json_is_array(json_object_get(record, "tests")))
        return record;
    else
        failure_set(failure, EXIT_USAGE, "--baseline: %s: has no tests", path);
    json_decref(record);
    return NULL;
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

/* The same test of the scenario, and the same values of its sweeps. */
static bool is_same_test(const json_t *one, const json_t *other)
{
    return strcmp(text_at(one, "id"), text_at(other, "id")) == 0 &&
           json_integer_value(json_object_get(one, "step")) ==
               json_integer_value(json_object_get(other, "step"));
}

/* Median time over the iterations of a test that passed; 0: there is none. */
static double median_us(const json_t *record, const json_t *test, const char *operation)
{
    size_t index;
    const json_t *other;
    const json_t *tests = json_object_get(record, "tests");
    int64_t count = 0;
    double *times = calloc(json_array_size(tests) + 1, sizeof(*times));
    json_array_foreach(tests, index, other)
    {
        double time_us =
            json_number_value(json_object_get(json_object_get(other, operation), "time_us"));
        if (times != NULL && is_same_test(test, other) && time_us > 0.0 &&
            strcmp(text_at(other, "status"), "passed") == 0)
            times[count++] = time_us;
    }
    double median = times == NULL ? 0.0 : stats_describe(times, count).p50;
    free(times);
    return median;
}

static const json_t *find_test(const json_t *record, const json_t *wanted)
{
    size_t index;
    const json_t *test;
    json_array_foreach(json_object_get(record, "tests"), index, test)
    {
        if (is_same_test(test, wanted))
            return test;
    }
    return NULL;
}

/* Whether another test of the record before this one is the same, in another iteration. */
static bool is_repeated(const json_t *record, size_t index)
{
    const json_t *tests = json_object_get(record, "tests");
    return find_test(record, json_array_get(tests, index)) != json_array_get(tests, index);
}

/* The keys of cmd_args that decide how much is moved. */
static bool moves_the_same(const json_t *one, const json_t *other)
{
    static const char *const keys[] = {"mode",     "tokens",      "num_experts",
                                       "num_topk", "hidden_size", "data_type"};
    const json_t *ones = json_object_get(one, "parameters");
    const json_t *others = json_object_get(other, "parameters");
    bool is_same = json_equal(json_object_get(one, "ranks"), json_object_get(other, "ranks")) &&
                   json_equal(json_object_get(one, "backend"), json_object_get(other, "backend"));
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        is_same =
            is_same && json_equal(json_object_get(ones, keys[i]), json_object_get(others, keys[i]));
    return is_same;
}

/* Why two tests cannot be compared; NULL: they can. */
static const char *why_not(const json_t *now, const json_t *then, double now_us, double then_us)
{
    if (then == NULL)
        return "the earlier run has no such test";
    if (then_us <= 0.0)
        return "it did not pass in the earlier run";
    if (now_us <= 0.0)
        return "it did not pass in this one";
    return moves_the_same(now, then) ? NULL : "ranks, backend or sizes differ";
}

static json_t *row_of(const json_t *earlier, const json_t *now, const json_t *test,
                      const char *operation, double fail_below)
{
    const json_t *then = find_test(earlier, test);
    double now_us = median_us(now, test, operation);
    double then_us = then == NULL ? 0.0 : median_us(earlier, then, operation);
    const char *why = why_not(test, then, now_us, then_us);
    json_int_t step = json_integer_value(json_object_get(test, "step"));
    double speed = why == NULL ? then_us / now_us : 0.0;
    json_t *name = step == 0
                       ? json_string(text_at(test, "id"))
                       : json_sprintf("%s step %" JSON_INTEGER_FORMAT, text_at(test, "id"), step);
    return json_pack("{s:o,s:s,s:I,s:s,s:o,s:o,s:o,s:b,s:o}", "test", name, "id",
                     text_at(test, "id"), "step", step, "operation", operation, "earlier_us",
                     then_us > 0.0 ? json_real(then_us) : json_null(), "now_us",
                     now_us > 0.0 ? json_real(now_us) : json_null(), "speed",
                     why == NULL ? json_real(speed) : json_null(), "is_regression",
                     why == NULL && speed < fail_below, "why", text_json(why));
}

json_t *compare_runs(const json_t *earlier, const char *folder, const json_t *now,
                     double fail_below)
{
    static const char *const operations[] = {"dispatch", "combine"};
    size_t index;
    const json_t *test;
    json_t *rows = json_array();
    json_int_t compared_count = 0;
    json_int_t regression_count = 0;
    json_array_foreach(json_object_get(now, "tests"), index, test)
    {
        for (size_t i = 0; i < 2 && !is_repeated(now, index); i++) {
            json_t *row = row_of(earlier, now, test, operations[i], fail_below);
            compared_count += json_is_real(json_object_get(row, "speed"));
            regression_count += json_is_true(json_object_get(row, "is_regression"));
            json_array_append_new(rows, row);
        }
    }
    return json_pack(
        "{s:o,s:f,s:b,s:I,s:I,s:o}", "folder", text_json(folder), "fail_below", fail_below,
        "same_machine",
        json_equal(json_object_get(earlier, "machine"), json_object_get(now, "machine")),
        "compared", compared_count, "regressions", regression_count, "rows", rows);
}
