/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the ceiling through the library's own copy loop over the same windows. */
#include "bench/ceiling.h"

#include "bench/stats.h"

#include <stdlib.h>

bool ceiling_init(ceiling_t *ceiling, const session_t *session, int64_t count)
{
    *ceiling = (ceiling_t){.count = count, .method_count = CEILING_METHOD_COUNT};
    if (device_has_stream(session->device))
        ceiling->method_count = 1;
    for (int32_t method = 0; method < ceiling->method_count; method++) {
        ceiling->time_ns[method] = calloc((size_t)count, sizeof(double));
        if (ceiling->time_ns[method] == NULL)
            return false;
    }
    return true;
}

static bool measure_once(const session_t *session, int32_t method, int64_t turn, uint64_t *times_ns,
                         double *largest_ns, failure_t *failure)
{
    const plan_t *plan = session->plan;
    moxie_ceiling_in_t in = MOXIE_CEILING_IN_INIT;
    in.source = buffers_home(&session->buffers, session_home_set(session, turn));
    in.source_row_count = routing_token_count(&plan->routing, session->rank);
    in.rows_to_peer = plan->rows_to_peer + (int64_t)session->rank * plan->rank_count;
    in.row_bytes = plan_recv_row_bytes(plan);
    in.destination = buffers_dispatch_out(&session->buffers).recv_x;
    in.destination_row_count = session->buffers.row_capacity;
    in.streaming = method;
    uint64_t time_ns = 0;
    if (moxie_ceiling_measure(session->group, &in, &time_ns) != MOXIE_OK ||
        moxie_group_allgather(session->group, &time_ns, sizeof(time_ns), times_ns) != MOXIE_OK)
        return failure_from_library(failure, session->rank, "ceiling");
    uint64_t largest = 0;
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        largest = times_ns[rank] > largest ? times_ns[rank] : largest;
    *largest_ns = (double)largest;
    link_alive(session->link);
    return true;
}

bool ceiling_measure(const session_t *session, ceiling_t *ceiling, int64_t first, int64_t last,
                     failure_t *failure)
{
    uint64_t times_ns[MOXIE_RANK_COUNT_MAX];
    for (int64_t turn = first; turn < last; turn++)
        for (int32_t method = 0; method < ceiling->method_count; method++)
            if (!measure_once(session, method, turn, times_ns, &ceiling->time_ns[method][turn],
                              failure))
                return false;
    return true;
}

double ceiling_best_ns(ceiling_t *ceiling, int32_t *method)
{
    double best = stats_describe(ceiling->time_ns[0], ceiling->count).p50;
    *method = 0;
    for (int32_t other = 1; other < ceiling->method_count; other++) {
        double time_ns = stats_describe(ceiling->time_ns[other], ceiling->count).p50;
        *method = time_ns < best ? other : *method;
        best = time_ns < best ? time_ns : best;
    }
    return best;
}

void ceiling_release(ceiling_t *ceiling)
{
    for (int32_t method = 0; method < CEILING_METHOD_COUNT; method++)
        free(ceiling->time_ns[method]);
    *ceiling = (ceiling_t){0};
}
