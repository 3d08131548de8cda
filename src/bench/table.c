/* SPDX-License-Identifier: Apache-2.0 */
/* Formats a record as a table. */
#include "bench/table.h"

#include <string.h>

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static long long integer_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* µs below 1 ms, else ms. */
static const char *time_text(double time_us, char text[16])
{
    if (time_us < 1000.0)
        (void)snprintf(text, 16, "%.1f us", time_us);
    else
        (void)snprintf(text, 16, "%.2f ms", time_us / 1e3);
    return text;
}

static void write_head(const json_t *record, const char *shape_name, FILE *out)
{
    (void)fprintf(out,
                  "moxie bench: %s on %lld ranks, backend %s, routing %s\n"
                  "             %lld tokens a rank, hidden %lld, %lld experts, topk %lld, %s%s%s\n"
                  "             %s mode, %s, %s, %s route%s\n\n",
                  shape_name, integer_at(record, "ranks"), text_at(record, "backend"),
                  text_at(record, "routing"), integer_at(record, "tokens"),
                  integer_at(record, "hidden"), integer_at(record, "experts"),
                  integer_at(record, "topk"), text_at(record, "dtype"),
                  text_at(record, "quantize")[0] == '\0' ? "" : ", quantize ",
                  text_at(record, "quantize"), text_at(record, "mode"), text_at(record, "layout"),
                  text_at(record, "direction"), text_at(record, "route"),
                  strcmp(text_at(record, "launch"), "graph") == 0 ? ", ten calls a graph" : "");
}

static void write_call(const char *name, const json_t *call, FILE *out)
{
    const json_t *time = json_object_get(call, "time_us");
    const json_t *wait = json_object_get(call, "wait_us");
    char p50[16];
    char p90[16];
    char p99[16];
    char waiting[16];
    (void)fprintf(out, "%-18s %11s %11s %11s %10.2f %10.2f %9.0f%% %11s\n", name,
                  time_text(number_at(time, "p50"), p50), time_text(number_at(time, "p90"), p90),
                  time_text(number_at(time, "p99"), p99), number_at(call, "logical_gbps"),
                  number_at(call, "wire_gbps"), 100.0 * number_at(call, "ceiling_share"),
                  time_text(number_at(wait, "p50"), waiting));
}

static void write_calls(const json_t *record, FILE *out)
{
    int is_backward = strcmp(text_at(record, "direction"), "backward") == 0;
    (void)fprintf(out, "%-18s %11s %11s %11s %10s %10s %10s %11s\n", "", "time p50", "p90", "p99",
                  "logical", "wire", "share of", "waiting");
    (void)fprintf(out, "%-18s %11s %11s %11s %10s %10s %10s %11s\n", "", "", "", "", "GB/s", "GB/s",
                  "ceiling", "p50");
    write_call(is_backward ? "dispatch backward" : "dispatch", json_object_get(record, "dispatch"),
               out);
    write_call(is_backward ? "combine backward" : "combine", json_object_get(record, "combine"),
               out);
}

static void write_baseline_call(const char *name, const json_t *call, FILE *out)
{
    const json_t *time = json_object_get(call, "time_us");
    char p50[16];
    char p90[16];
    char p99[16];
    (void)fprintf(out, "%-18s %11s %11s %11s %20.0f%% %15.2fx\n", name,
                  time_text(number_at(time, "p50"), p50), time_text(number_at(time, "p90"), p90),
                  time_text(number_at(time, "p99"), p99),
                  100.0 * number_at(call, "alltoallv_share"), number_at(call, "speedup"));
}

static void write_baseline(const json_t *record, FILE *out)
{
    const json_t *baseline = json_object_get(record, "baseline");
    char name[32];
    if (!json_is_object(baseline)) {
        return;
    }
    (void)fprintf(out, "\n%-18s %11s %11s %11s %21s %16s\n", "baseline", "time p50", "p90", "p99",
                  "share of Alltoallv", "Moxie's speedup");
    (void)snprintf(name, sizeof(name), "%s dispatch", text_at(baseline, "name"));
    write_baseline_call(name, json_object_get(baseline, "dispatch"), out);
    (void)snprintf(name, sizeof(name), "%s combine", text_at(baseline, "name"));
    write_baseline_call(name, json_object_get(baseline, "combine"), out);
}

static void write_ceiling(const json_t *record, FILE *out)
{
    const json_t *ceiling = json_object_get(record, "ceiling");
    const char *how = text_at(ceiling, "how");
    (void)fprintf(
        out, "\nceiling   %.2f GB/s on the wire, by %.*s: the same copies without an exchange\n",
        number_at(ceiling, "wire_gbps"), (int)strcspn(how, ",:"), how);
    if (integer_at(record, "ranks") == 1)
        (void)fprintf(out, "          one rank: nothing crosses, shares compare logical bytes\n");
}

/* The first GPU stands for all; the links of a host are alike. */
static void write_gpus(const json_t *machine, FILE *out)
{
    const json_t *gpus = json_object_get(machine, "gpus");
    const json_t *devices = json_object_get(gpus, "devices");
    const json_t *gpu = json_array_get(devices, 0);
    const json_t *link = json_array_get(json_object_get(gpus, "links"), 0);
    if (gpu == NULL)
        return;
    (void)fprintf(out, "GPUs      %zu x %s, %lld SMs, driver %s, CUDA %s%s%s\n",
                  json_array_size(devices), text_at(gpu, "name"), integer_at(gpu, "sms"),
                  text_at(gpus, "driver"), text_at(gpus, "cuda"),
                  link == NULL ? "" : ", linked by ", link == NULL ? "" : text_at(link, "wire"));
}

void table_write(const json_t *record, const char *shape_name, FILE *out)
{
    const json_t *machine = json_object_get(record, "machine");
    write_head(record, shape_name, out);
    write_calls(record, out);
    write_baseline(record, out);
    write_ceiling(record, out);
    (void)fprintf(out, "results   %s\n",
                  json_is_true(json_object_get(record, "verified"))
                      ? "verified: every output equals the reference bit by bit, before and after"
                      : "NOT VERIFIED: outputs differ from the reference");
    if (json_is_object(json_object_get(record, "baseline"))) {
        const json_t *baseline = json_object_get(record, "baseline");
        (void)fprintf(out,
                      "baseline  %s, in turns with Moxie, same processes, inputs and routing; "
                      "verified alike\n",
                      text_at(baseline, "library"));
    }
    (void)fprintf(out, "machine   %s, %lld cores, %.0f GB, %s, moxie %s\n", text_at(machine, "cpu"),
                  integer_at(machine, "cores"), number_at(machine, "memory_bytes") / 1e9,
                  text_at(machine, "os"), text_at(record, "version"));
    write_gpus(machine, out);
    (void)fprintf(out,
                  "GB/s: bytes a rank receives, mean over ranks; wire: without its own rows\n");
}
