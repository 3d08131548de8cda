/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the flight recorder after some calls and puts all ranks' spans into one document. */
#include "bench/trace.h"

#include "bench/timing.h"
#include "moxie/version.h"

#include <stdlib.h>
#include <string.h>

/* Few enough that a recorder remembers all of their operations. */
enum { ITERATION_COUNT = 4, OPERATION_COUNT_MAX = 48 };

/* Bytes of an operation's name. */
enum { NAME_BYTES = 32 };

/* An operation, as it travels to rank 0. */
typedef struct trace_operation {
    char name[NAME_BYTES];
    moxie_operation_t times; /* its `name` means nothing on another rank */
} trace_operation_t;

/* What a rank saw. */
typedef struct trace_rank {
    uint64_t start_ns[ITERATION_COUNT][SLOT_COUNT]; /* of the calls, behind their barriers */
    uint64_t end_ns[ITERATION_COUNT][SLOT_COUNT];
    int32_t operation_count;
    trace_operation_t operations[OPERATION_COUNT_MAX];
} trace_rank_t;

bool trace_check(const plan_t *plan, failure_t *failure)
{
    return plan->options->trace == NULL || !plan->place.is_cuda ||
           failure_set(failure, EXIT_UNAVAILABLE,
                       "%s: on cuda the phases of a call pass on the GPU: how long they took is in "
                       "the record (phases_us), but not when; --backend shm has them",
                       plan->where[OPTION_TRACE]);
}

static bool call(const session_t *session, int64_t iteration, slot_t slot, trace_rank_t *out,
                 failure_t *failure)
{
    moxie_status_t status = moxie_group_barrier(session->group);
    out->start_ns[iteration][slot] = timing_now_ns();
    if (status == MOXIE_OK)
        status = session_call(session, slot, iteration);
    out->end_ns[iteration][slot] = timing_now_ns();
    return status == MOXIE_OK ||
           failure_from_library(failure, session->rank, session_slot_name(session, slot));
}

/* Operations from number `first` on. */
static void read_recorder(const session_t *session, uint64_t first, trace_rank_t *out)
{
    moxie_operation_t operation = MOXIE_OPERATION_INIT;
    for (uint64_t op = first; out->operation_count < OPERATION_COUNT_MAX &&
                              moxie_group_operation(session->group, op, &operation) == MOXIE_OK;
         op++) {
        trace_operation_t *kept = &out->operations[out->operation_count++];
        (void)snprintf(kept->name, sizeof(kept->name), "%s", operation.name);
        kept->times = operation;
    }
}

/* A span; times in microseconds from `zero_ns` on. One that has no end is left out. */
static void add_span(json_t *events, int32_t rank, const char *name, const char *category,
                     uint64_t from_ns, uint64_t to_ns, uint64_t zero_ns, json_t *arguments)
{
    if (from_ns != 0 && to_ns >= from_ns) {
        json_array_append_new(events,
                              json_pack("{s:s,s:s,s:s,s:i,s:i,s:f,s:f,s:O}", "name", name, "cat",
                                        category, "ph", "X", "pid", 0, "tid", rank, "ts",
                                        (double)(from_ns - zero_ns) / 1e3, "dur",
                                        (double)(to_ns - from_ns) / 1e3, "args", arguments));
    }
    json_decref(arguments);
}

/* When an operation ended on this rank: the last thing that it came to. */
static uint64_t end_of(const moxie_operation_t *times)
{
    if (times->leave_ns != 0)
        return times->leave_ns;
    return times->finish_ns != 0 ? times->finish_ns : times->met_ns;
}

static void add_operation(json_t *events, int32_t rank, const trace_operation_t *operation,
                          uint64_t zero_ns)
{
    const moxie_operation_t *times = &operation->times;
    json_t *who = json_pack("{s:I,s:I,s:i,s:f,s:i,s:f}", "op", (json_int_t)times->op, "route",
                            (json_int_t)times->route_id, "late_rank", times->late_rank, "late_us",
                            (double)times->late_ns / 1e3, "slow_rank", times->slow_rank, "slow_us",
                            (double)times->slow_ns / 1e3);
    add_span(events, rank, operation->name, "operation", times->begin_ns, end_of(times), zero_ns,
             who);
    add_span(events, rank, "prepare", "phase", times->begin_ns, times->post_ns, zero_ns,
             json_object());
    add_span(events, rank, "wait for peers to call", "phase", times->post_ns, times->met_ns,
             zero_ns, json_object());
    if (times->finish_ns != 0)
        add_span(events, rank, "work", "phase", times->met_ns, times->finish_ns, zero_ns,
                 json_object());
    if (times->leave_ns != 0)
        add_span(events, rank, "wait for peers to finish", "phase", times->finish_ns,
                 times->leave_ns, zero_ns, json_object());
}

static void add_rank(const session_t *session, json_t *events, int32_t rank,
                     const trace_rank_t *seen, uint64_t zero_ns)
{
    json_array_append_new(events, json_pack("{s:s,s:s,s:i,s:i,s:{s:o}}", "name", "thread_name",
                                            "ph", "M", "pid", 0, "tid", rank, "args", "name",
                                            json_sprintf("rank %d", rank)));
    for (int32_t i = 0; i < ITERATION_COUNT; i++)
        for (slot_t slot = 0; slot < SLOT_COUNT; slot++)
            add_span(events, rank, session_slot_name(session, slot), "call",
                     seen->start_ns[i][slot], seen->end_ns[i][slot], zero_ns,
                     json_pack("{s:i}", "iteration", i));
    for (int32_t i = 0; i < seen->operation_count; i++)
        add_operation(events, rank, &seen->operations[i], zero_ns);
}

static json_t *make_document(const session_t *session, const trace_rank_t *ranks)
{
    json_t *events = json_array();
    uint64_t zero_ns = ranks[0].start_ns[0][0];
    for (int32_t rank = 0; rank < session->plan->rank_count; rank++)
        for (int32_t i = 0; i < ranks[rank].operation_count; i++)
            if (ranks[rank].operations[i].times.begin_ns < zero_ns)
                zero_ns = ranks[rank].operations[i].times.begin_ns;
    for (int32_t rank = 0; rank < session->plan->rank_count; rank++)
        add_rank(session, events, rank, &ranks[rank], zero_ns);
    return json_pack("{s:o,s:s,s:{s:s,s:s,s:i}}", "traceEvents", events, "displayTimeUnit", "ns",
                     "otherData", "program", "moxie bench", "version", moxie_version_text(),
                     "iterations", ITERATION_COUNT);
}

static bool gather(const session_t *session, const trace_rank_t *own, json_t **trace,
                   failure_t *failure)
{
    trace_rank_t *ranks = calloc((size_t)session->plan->rank_count, sizeof(*ranks));
    if (ranks == NULL)
        return failure_set(failure, EXIT_USAGE, "rank %d: not enough memory for the trace",
                           session->rank);
    bool is_done = moxie_group_allgather(session->group, own, sizeof(*own), ranks) == MOXIE_OK ||
                   failure_from_library(failure, session->rank, "gathering of the trace");
    if (is_done && session->rank == 0)
        *trace = make_document(session, ranks);
    free(ranks);
    return is_done;
}

bool trace_measure(const session_t *session, json_t **trace, failure_t *failure)
{
    moxie_operation_t last = MOXIE_OPERATION_INIT;
    *trace = NULL;
    if (session->plan->options->trace == NULL)
        return true;
    trace_rank_t *own = calloc(1, sizeof(*own));
    bool is_done = own != NULL ||
                   failure_set(failure, EXIT_USAGE, "rank %d: not enough memory", session->rank);
    if (is_done && moxie_group_operation(session->group, 0, &last) != MOXIE_OK)
        is_done = failure_from_library(failure, session->rank, "trace");
    for (int64_t i = 0; i < ITERATION_COUNT * SLOT_COUNT && is_done; i++)
        is_done = call(session, i / SLOT_COUNT, (slot_t)(i % SLOT_COUNT), own, failure);
    if (is_done) {
        read_recorder(session, last.op + 1, own);
        is_done = gather(session, own, trace, failure);
    }
    free(own);
    return is_done;
}

bool trace_write(const json_t *trace, FILE *out)
{
    /* Enough digits for nanoseconds, in microseconds of a long run. */
    return json_dumpf(trace, out, JSON_COMPACT | JSON_REAL_PRECISION(15)) == 0 &&
           fputc('\n', out) != EOF && fflush(out) == 0;
}
