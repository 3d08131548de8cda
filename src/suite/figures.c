/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of a record under the names that other programs know. */
#include "suite/figures.h"

#include "suite/quote.h"

#include <string.h>

static const char *const operations[] = {"dispatch", "combine"};

enum { OPERATION_COUNT = sizeof(operations) / sizeof(operations[0]) };

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* GB/s of the rank that received least, or most, in the time of the slowest one. */
static double rank_rate(const json_t *call, double time_us, bool is_most)
{
    size_t index;
    const json_t *rank;
    double bytes = -1.0;
    json_array_foreach(json_object_get(call, "per_rank"), index, rank)
    {
        double own = number_at(rank, "wire_bytes");
        bool is_further = is_most ? own > bytes : own < bytes;
        bytes = bytes < 0.0 || is_further ? own : bytes;
    }
    return time_us > 0.0 && bytes > 0.0 ? bytes / time_us / 1e3 : 0.0;
}

static json_t *row_of(const json_t *bench, const char *operation)
{
    const json_t *call = json_object_get(bench, operation);
    double time_us = number_at(json_object_get(call, "time_us"), "p50");
    double logical_gbps = number_at(call, "logical_gbps");
    double wire_gbps = number_at(call, "wire_gbps");
    json_t *row = json_pack("{s:s,s:s,s:O,s:O,s:f,s:f}", "backend", "moxie", "operation", operation,
                            "num_tokens", json_object_get(bench, "tokens"), "hidden",
                            json_object_get(bench, "hidden"), "time_s", time_us / 1e6,
                            "deepep_time", time_us / 1e6);
    json_object_set_new(row, "bus_bw_avg", json_real(wire_gbps));
    json_object_set_new(row, "bus_bw_min", json_real(rank_rate(call, time_us, false)));
    json_object_set_new(row, "bus_bw_max", json_real(rank_rate(call, time_us, true)));
    json_object_set_new(row, "global_bw", json_real(logical_gbps));
    json_object_set_new(row, "simple_rdma_bw", json_real(0.0)); /* nothing crosses a network */
    json_object_set_new(row, "simple_nvl_bw", json_real(logical_gbps));
    json_object_set_new(row, "separate_nvl_bw", json_real(wire_gbps));
    json_object_set_new(row, "separate_rdma_bw", json_real(0.0));
    return row;
}

json_t *figures_list(const json_t *bench, bool with_combine)
{
    json_t *list = json_array();
    for (int i = 0; i < OPERATION_COUNT; i++)
        if (i == 0 || with_combine)
            json_array_append_new(list, row_of(bench, operations[i]));
    return list;
}

void figures_print(const json_t *list, FILE *out)
{
    size_t index;
    const json_t *row;
    json_array_foreach(list, index, row)
    {
        (void)fprintf(out,
                      "\noperation: %s\nglobal_bw: %.6g\ndeepep_time: %.6g\n"
                      "Global BW (GB/s): %.3f\nRDMA BW (GB/s): %.3f\n"
                      "NVLink BW (GB/s): %.3f\nBus BW (GB/s): %.3f\n",
                      json_string_value(json_object_get(row, "operation")),
                      number_at(row, "global_bw"), number_at(row, "deepep_time"),
                      number_at(row, "global_bw"), number_at(row, "simple_rdma_bw"),
                      number_at(row, "simple_nvl_bw"), number_at(row, "bus_bw_avg"));
    }
}

void figures_csv_head(FILE *out)
{
    (void)fputs("scenario,id,iteration,step,test,status,verified,operation,backend,mode,data_type,"
                "ranks,nodes,num_tokens,hidden,num_experts,num_topk,"
                "time_us_min,time_us_p50,time_us_p90,time_us_p99,time_us_max,wait_us_p50,"
                "logical_bytes,wire_bytes,global_bw,bus_bw,ceiling_bw,ceiling_share\n",
                out);
}

/* A value behind a comma; nothing when there is none. */
static void write_field(FILE *out, const json_t *value)
{
    (void)fputc(',', out);
    if (json_is_string(value))
        quote_csv(out, json_string_value(value));
    else if (json_is_integer(value))
        (void)fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        (void)fprintf(out, "%.9g", json_real_value(value));
    else if (json_is_boolean(value))
        (void)fputs(json_is_true(value) ? "true" : "false", out);
}

static void write_fields(FILE *out, const json_t *object, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        write_field(out, json_object_get(object, keys[i]));
}

#define FIELDS(out, object, keys) write_fields(out, object, keys, sizeof(keys) / sizeof((keys)[0]))

void figures_csv_rows(const char *scenario, const json_t *record, FILE *out)
{
    static const char *const run_keys[] = {"id", "iteration", "step", "name", "status"};
    static const char *const words[] = {"mode", "data_type"};
    static const char *const sizes[] = {"tokens", "hidden_size", "num_experts", "num_topk"};
    static const char *const times[] = {"min", "p50", "p90", "p99", "max"};
    static const char *const rates[] = {"logical_bytes", "wire_bytes", "logical_gbps", "wire_gbps"};
    const json_t *bench = json_object_get(record, "bench");
    const json_t *parameters = json_object_get(record, "parameters");
    const json_t *with_combine = json_object_get(parameters, "benchmark_combine");
    for (int i = 0; i < (json_is_false(with_combine) ? 1 : OPERATION_COUNT); i++) {
        const json_t *call = json_object_get(bench, operations[i]);
        quote_csv(out, scenario);
        FIELDS(out, record, run_keys);
        write_field(out, json_object_get(bench, "verified"));
        (void)fprintf(out, ",%s", operations[i]);
        write_field(out, json_object_get(bench, "backend"));
        FIELDS(out, parameters, words);
        write_field(out, json_object_get(json_is_object(bench) ? bench : record, "ranks"));
        write_field(out, json_object_get(json_object_get(record, "nodes"), "count"));
        FIELDS(out, parameters, sizes);
        FIELDS(out, json_object_get(call, "time_us"), times);
        write_field(out, json_object_get(json_object_get(call, "wait_us"), "p50"));
        FIELDS(out, call, rates);
        write_field(out, json_object_get(json_object_get(bench, "ceiling"), "wire_gbps"));
        write_field(out, json_object_get(call, "ceiling_share"));
        (void)fputc('\n', out);
    }
}
