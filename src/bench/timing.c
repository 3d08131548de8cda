/* SPDX-License-Identifier: Apache-2.0 */
/* Times the two calls, one after the other as a layer makes them, each behind its own barrier. */
#include "bench/timing.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Samples that one gathering moves. */
enum { GATHER_COUNT = 256 };

/* How often rank 0 tells the parent how far it is: each telling wakes the parent. */
enum { PROGRESS_PERIOD_MS = 200 };

uint64_t timing_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

sample_t *timing_of_rank(const timing_t *timing, slot_t slot, int32_t rank)
{
    int64_t index = (int64_t)slot * timing->rank_count + rank;
    return timing->samples + index * timing->iteration_count;
}

static moxie_status_t measure_call(const session_t *session, slot_t slot, int64_t turn,
                                   sample_t *sample)
{
    moxie_group_counters_t before = MOXIE_GROUP_COUNTERS_INIT;
    moxie_group_counters_t after = MOXIE_GROUP_COUNTERS_INIT;
    bool derives_route = slot == SLOT_DISPATCH && session->plan->is_fresh;
    moxie_status_t status = moxie_group_barrier(session->group);
    (void)moxie_group_counters(session->group, &before);
    uint64_t start_ns = timing_now_ns();
    if (status == MOXIE_OK && derives_route)
        status = session_update_route(session);
    if (status == MOXIE_OK)
        status = session_call(session, slot, turn);
    uint64_t end_ns = timing_now_ns();
    (void)moxie_group_counters(session->group, &after);
    *sample = (sample_t){end_ns - start_ns, after.wait_ns - before.wait_ns};
    return status;
}

static void tell_progress(const session_t *session, int64_t done, int64_t count)
{
    bool is_due = link_now_ms() - session->link->told_ms >= PROGRESS_PERIOD_MS;
    if (session->rank == 0 && session->plan->has_progress && is_due)
        link_progress(session->link, "timing", done, count);
    link_alive(session->link);
}

static bool measure_all(const session_t *session, ceiling_t *ceiling, const timing_t *timing,
                        failure_t *failure)
{
    int64_t warmup_count = session->plan->options->warmups;
    int64_t turn_count = warmup_count + timing->iteration_count;
    int64_t ceiling_done = 0;
    for (int64_t turn = 0; turn < turn_count; turn++) {
        for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
            sample_t sample;
            if (measure_call(session, slot, turn, &sample) != MOXIE_OK)
                return failure_from_library(failure, session->rank,
                                            session_slot_name(session, slot));
            if (turn >= warmup_count)
                timing_of_rank(timing, slot, session->rank)[turn - warmup_count] = sample;
        }
        int64_t ceiling_due = turn < warmup_count ? 0
                                                  : (turn + 1 - warmup_count) * ceiling->count /
                                                        timing->iteration_count;
        if (!ceiling_measure(session, ceiling, ceiling_done, ceiling_due, failure))
            return false;
        ceiling_done = ceiling_due;
        tell_progress(session, turn, turn_count);
    }
    return true;
}

/* Spreads every rank's samples of a call, a piece at a time. */
static bool gather(const session_t *session, const timing_t *timing, slot_t slot, sample_t *pieces,
                   failure_t *failure)
{
    for (int64_t done = 0; done < timing->iteration_count; done += GATHER_COUNT) {
        int64_t left = timing->iteration_count - done;
        size_t count = (size_t)(left < GATHER_COUNT ? left : GATHER_COUNT);
        const sample_t *own = timing_of_rank(timing, slot, session->rank) + done;
        if (moxie_group_allgather(session->group, own, count * sizeof(*own), pieces) != MOXIE_OK)
            return failure_from_library(failure, session->rank, "gathering of samples");
        for (int32_t rank = 0; rank < timing->rank_count; rank++)
            memcpy(timing_of_rank(timing, slot, rank) + done, pieces + (size_t)rank * count,
                   count * sizeof(*pieces));
    }
    return true;
}

bool timing_measure(const session_t *session, ceiling_t *ceiling, timing_t *out, failure_t *failure)
{
    size_t rank_count = (size_t)session->plan->rank_count;
    *out = (timing_t){.rank_count = session->plan->rank_count,
                      .iteration_count = session->plan->options->iterations};
    out->samples =
        calloc(SLOT_COUNT * rank_count * (size_t)out->iteration_count, sizeof(*out->samples));
    sample_t *pieces = malloc(rank_count * GATHER_COUNT * sizeof(*pieces));
    bool is_done = out->samples != NULL && pieces != NULL;
    if (!is_done)
        failure_set(failure, EXIT_USAGE, "rank %d: not enough memory for samples", session->rank);
    is_done = is_done && measure_all(session, ceiling, out, failure);
    for (slot_t slot = 0; slot < SLOT_COUNT && is_done; slot++)
        is_done = gather(session, out, slot, pieces, failure);
    free(pieces);
    return is_done;
}

void timing_release(timing_t *timing)
{
    free(timing->samples);
    *timing = (timing_t){0};
}
