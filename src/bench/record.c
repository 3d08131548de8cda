/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the JSON record. Times are in µs, GB are 1e9 bytes, bytes are means over ranks; percentiles
 * are by nearest rank over iterations. An iteration's time is the largest over the ranks, its wait
 * the mean over the ranks. */
#include "bench/record.h"

#include "bench/machine.h"
#include "bench/stats.h"
#include "moxie/version.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Medians of the phases of a call's kernels: moxie_group_counters_t. */
typedef struct phases {
    double prepare, move, finish;
} phases_t;

/* One call's figures. */
typedef struct slot_figures {
    stats_t time_us;
    stats_t wait_us;
    phases_t phases_us;
    double logical_bytes;
    double wire_bytes;
} slot_figures_t;

static json_t *stats_json(const stats_t *stats)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "min", stats->min, "p50", stats->p50, "p90",
                     stats->p90, "p99", stats->p99, "max", stats->max);
}

/* Bytes of a row in a call; dispatched rows with their scales. */
static int64_t slot_row_bytes(const plan_t *plan, slot_t slot)
{
    return slot == SLOT_DISPATCH && !plan->is_backward ? plan_dispatch_row_bytes(plan)
                                                       : plan_row_bytes(plan);
}

/* Bytes that a rank receives in a call: rows of the experts' side, or rows that come home. */
static int64_t recv_bytes(const plan_t *plan, slot_t slot, int32_t rank, bool with_own)
{
    bool at_experts = (slot == SLOT_DISPATCH) != plan->is_backward;
    int64_t rows = at_experts ? plan_dispatch_rows(plan, rank, with_own)
                              : plan_combine_rows(plan, rank, with_own);
    return rows * slot_row_bytes(plan, slot);
}

/* The mean over the ranks of one member of sample_t, at that offset, over the iterations. */
static stats_t mean_over_ranks(const timing_t *timing, side_t side, slot_t slot, size_t member,
                               double *scratch)
{
    for (int64_t i = 0; i < timing->iteration_count; i++) {
        scratch[i] = 0.0;
        for (int32_t rank = 0; rank < timing->rank_count; rank++) {
            const char *sample = (const char *)&timing_of_rank(timing, side, slot, rank)[i];
            uint64_t ns;
            memcpy(&ns, sample + member, sizeof(ns));
            scratch[i] += (double)ns / 1e3 / timing->rank_count;
        }
    }
    return stats_describe(scratch, timing->iteration_count);
}

static slot_figures_t slot_figures(const plan_t *plan, const timing_t *timing, side_t side,
                                   slot_t slot, double *scratch)
{
    slot_figures_t figures = {0};
    for (int64_t i = 0; i < timing->iteration_count; i++) {
        scratch[i] = 0.0;
        for (int32_t rank = 0; rank < plan->rank_count; rank++)
            scratch[i] =
                fmax(scratch[i], (double)timing_of_rank(timing, side, slot, rank)[i].time_ns / 1e3);
    }
    figures.time_us = stats_describe(scratch, timing->iteration_count);
    figures.wait_us = mean_over_ranks(timing, side, slot, offsetof(sample_t, wait_ns), scratch);
    figures.phases_us = (phases_t){
        mean_over_ranks(timing, side, slot, offsetof(sample_t, prepare_ns), scratch).p50,
        mean_over_ranks(timing, side, slot, offsetof(sample_t, move_ns), scratch).p50,
        mean_over_ranks(timing, side, slot, offsetof(sample_t, finish_ns), scratch).p50,
    };
    for (int32_t rank = 0; rank < plan->rank_count; rank++) {
        figures.logical_bytes += (double)recv_bytes(plan, slot, rank, true) / plan->rank_count;
        figures.wire_bytes += (double)recv_bytes(plan, slot, rank, false) / plan->rank_count;
    }
    return figures;
}

/* Medians of what each rank saw itself. */
static json_t *per_rank_json(const plan_t *plan, const timing_t *timing, side_t side, slot_t slot,
                             double *scratch)
{
    json_t *ranks = json_array();
    for (int32_t rank = 0; rank < plan->rank_count; rank++) {
        const sample_t *samples = timing_of_rank(timing, side, slot, rank);
        for (int64_t i = 0; i < timing->iteration_count; i++)
            scratch[i] = (double)samples[i].time_ns / 1e3;
        double time_us = stats_describe(scratch, timing->iteration_count).p50;
        for (int64_t i = 0; i < timing->iteration_count; i++)
            scratch[i] = (double)samples[i].wait_ns / 1e3;
        double wait_us = stats_describe(scratch, timing->iteration_count).p50;
        json_array_append_new(
            ranks, json_pack("{s:f,s:o,s:I,s:I}", "time_us", time_us, "wait_us",
                             side == SIDE_MOXIE ? json_real(wait_us) : json_null(), "logical_bytes",
                             (json_int_t)recv_bytes(plan, slot, rank, true), "wire_bytes",
                             (json_int_t)recv_bytes(plan, slot, rank, false)));
    }
    return ranks;
}

/* GB/s; 0 when nothing was measured. */
static double rate(double bytes, double time_us)
{
    return time_us > 0.0 ? bytes / time_us / 1e3 : 0.0;
}

/* null where there are no kernels. */
static json_t *phases_json(const slot_figures_t *figures)
{
    const phases_t *phases = &figures->phases_us;
    return phases->move > 0.0
               ? json_pack("{s:f,s:f,s:f,s:f}", "prepare", phases->prepare, "wait",
                           figures->wait_us.p50, "move", phases->move, "finish", phases->finish)
               : json_null();
}

static json_t *slot_json(const plan_t *plan, const timing_t *timing, side_t side, slot_t slot,
                         double ceiling_us, double *scratch)
{
    slot_figures_t figures = slot_figures(plan, timing, side, slot, scratch);
    /* The same bytes at the ceiling's rate: the quotient of the rates is that of the times, and it
     * has a value when nothing crosses between ranks. */
    double slot_us =
        ceiling_us * (double)slot_row_bytes(plan, slot) / (double)plan_recv_row_bytes(plan);
    double share = figures.time_us.p50 > 0.0 ? slot_us / figures.time_us.p50 : 0.0;
    return json_pack(
        "{s:o,s:o,s:o,s:I,s:I,s:f,s:f,s:f,s:o}", "time_us", stats_json(&figures.time_us), "wait_us",
        side == SIDE_MOXIE ? stats_json(&figures.wait_us) : json_null(), "phases_us",
        phases_json(&figures), "logical_bytes", (json_int_t)llround(figures.logical_bytes),
        "wire_bytes", (json_int_t)llround(figures.wire_bytes), "logical_gbps",
        rate(figures.logical_bytes, figures.time_us.p50), "wire_gbps",
        rate(figures.wire_bytes, figures.time_us.p50), "ceiling_share", share, "per_rank",
        per_rank_json(plan, timing, side, slot, scratch));
}

static json_t *ceiling_json(const plan_t *plan, ceiling_t *ceiling, double *ceiling_us)
{
    int32_t method = 0;
    *ceiling_us = ceiling_best_ns(ceiling, &method) / 1e3;
    double wire_bytes = 0.0;
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        wire_bytes += (double)(plan_dispatch_rows(plan, rank, false) * plan_recv_row_bytes(plan)) /
                      plan->rank_count;
    static const char *const methods[CEILING_METHOD_COUNT] = {"memcpy", "non-temporal stores"};
    char how[512];
    (void)snprintf(
        how, sizeof(how),
        "%s%s: the same ranks copy the same "
        "rows to the same peers in row-sized pieces, no routing, no sums; median of "
        "%lld iterations, spread over the timing%s",
        plan->place.is_cuda ? "SM stores to all peers at once" : methods[method],
        plan->place.is_cuda ? "" : ", the better of memcpy and non-temporal stores",
        (long long)ceiling->count,
        plan->rank_count > 1 ? "" : "; one rank, so nothing crosses: shares compare logical bytes");
    return json_pack("{s:f,s:s}", "wire_gbps", rate(wire_bytes, *ceiling_us), "how", how);
}

/* A call of the baseline: as of Moxie's, but MPI does not tell how long it waits for peers. Its
 * Alltoallv takes a share of its time; ours is so many times faster. */
static json_t *baseline_slot_json(const plan_t *plan, const timing_t *timing, slot_t slot,
                                  double ceiling_us, double *scratch)
{
    json_t *call = slot_json(plan, timing, SIDE_BASELINE, slot, ceiling_us, scratch);
    slot_figures_t ours = slot_figures(plan, timing, SIDE_MOXIE, slot, scratch);
    slot_figures_t theirs = slot_figures(plan, timing, SIDE_BASELINE, slot, scratch);
    json_object_set_new(call, "alltoallv_share",
                        json_real(theirs.wait_us.p50 / theirs.time_us.p50));
    json_object_set_new(call, "speedup", json_real(theirs.time_us.p50 / ours.time_us.p50));
    return call;
}

static json_t *baseline_json(const session_t *session, const timing_t *timing, double ceiling_us,
                             double *scratch)
{
    if (timing->side_count == 1) {
        return json_null();
    }
    return json_pack("{s:s,s:o,s:o,s:s}", "name", session->baseline.name, "dispatch",
                     baseline_slot_json(session->plan, timing, SLOT_DISPATCH, ceiling_us, scratch),
                     "combine",
                     baseline_slot_json(session->plan, timing, SLOT_COMBINE, ceiling_us, scratch),
                     "library", session->baseline.library);
}

static json_t *config_json(const session_t *session)
{
    json_t *config = json_object();
    moxie_knob_info_t knob = MOXIE_KNOB_INFO_INIT;
    for (size_t i = 0; moxie_group_knob(session->group, i, &knob) == MOXIE_OK; i++) {
        const char *from = strcmp(knob.from, "option") == 0 ? "flag" : knob.from;
        json_object_set_new(config, knob.name,
                            json_pack("{s:I,s:s}", "value", (json_int_t)knob.value, "from", from));
    }
    return config;
}

static void set_words(json_t *record, const session_t *session)
{
    const options_t *options = session->plan->options;
    char word[OPTION_WHERE_BYTES];
    json_object_set_new(record, "schema", json_string("moxie.bench/1"));
    json_object_set_new(record, "backend", json_string(moxie_group_backend(session->group)));
    json_object_set_new(record, "mode", json_string(option_word(options, OPTION_MODE, word)));
    json_object_set_new(record, "layout", json_string(option_word(options, OPTION_LAYOUT, word)));
    json_object_set_new(record, "direction",
                        json_string(option_word(options, OPTION_DIRECTION, word)));
    json_object_set_new(record, "route", json_string(session->plan->is_fresh ? "fresh" : "cached"));
    json_object_set_new(record, "launch", json_string(option_word(options, OPTION_LAUNCH, word)));
}

static void set_numbers(json_t *record, const plan_t *plan)
{
    char word[OPTION_WHERE_BYTES];
    json_object_set_new(record, "ranks", json_integer(plan->rank_count));
    json_object_set_new(record, "tokens", json_integer(plan->token_count_max));
    json_object_set_new(record, "hidden", json_integer(plan->hidden));
    json_object_set_new(record, "experts", json_integer(plan->expert_count));
    json_object_set_new(record, "topk", json_integer(plan->topk));
    json_object_set_new(record, "dtype",
                        json_string(option_word(plan->options, OPTION_DTYPE, word)));
    if (plan->has_fp8)
        json_object_set_new(record, "quantize",
                            json_string(option_word(plan->options, OPTION_QUANTIZE, word)));
    json_object_set_new(record, "routing", json_string(plan->options->routing));
    json_object_set_new(record, "seed", json_integer(plan->options->seed));
}

json_t *record_make(const session_t *session, const timing_t *timing, ceiling_t *ceiling,
                    bool is_verified)
{
    const plan_t *plan = session->plan;
    double *scratch = calloc((size_t)timing->iteration_count, sizeof(*scratch));
    if (scratch == NULL)
        return NULL;
    json_t *record = json_object();
    double ceiling_us = 0.0;
    json_t *ceiling_object = ceiling_json(plan, ceiling, &ceiling_us);
    set_words(record, session);
    set_numbers(record, plan);
    json_object_set_new(record, "verified", json_boolean(is_verified));
    json_object_set_new(record, "dispatch",
                        slot_json(plan, timing, SIDE_MOXIE, SLOT_DISPATCH, ceiling_us, scratch));
    json_object_set_new(record, "combine",
                        slot_json(plan, timing, SIDE_MOXIE, SLOT_COMBINE, ceiling_us, scratch));
    json_object_set_new(record, "ceiling", ceiling_object);
    json_object_set_new(record, "baseline", baseline_json(session, timing, ceiling_us, scratch));
    json_object_set_new(record, "config", config_json(session));
    free(scratch);
    return record;
}

void record_complete(json_t *record)
{
    json_object_set_new(record, "machine", machine_json());
    json_object_set_new(record, "version", json_string(moxie_version_text()));
}

json_t *record_error(const failure_t *failure)
{
    json_t *peers = json_array();
    for (int32_t i = 0; i < failure->peer_count; i++)
        json_array_append_new(peers, json_pack("{s:i,s:i}", "rank", failure->peers[i].rank, "pid",
                                               (int)failure->peers[i].pid));
    return json_pack("{s:{s:s,s:s,s:s,s:o}}", "error", "status", moxie_status_name(failure->status),
                     "phase", failure->phase, "op", failure->op, "peers", peers);
}

bool record_write(const json_t *document, FILE *out)
{
    return json_dumpf(document, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 &&
           fputc('\n', out) != EOF && fflush(out) == 0;
}
