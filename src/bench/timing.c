/* SPDX-License-Identifier: Apache-2.0 */
/* Times the two calls, one after the other as a layer makes them, each behind its own barrier. With
 * a baseline an iteration of one side follows one of the other. */
#include "bench/timing.h"

#include "bench/baseline.h"
#include "bench/timing_stream.h"

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

sample_t *timing_of_rank(const timing_t *timing, side_t side, slot_t slot, int32_t rank)
{
    int64_t index = ((int64_t)side * SLOT_COUNT + (int64_t)slot) * timing->rank_count + rank;
    return timing->samples + index * timing->iteration_count;
}

static bool measure_moxie(const session_t *session, slot_t slot, int64_t turn, sample_t *sample,
                          failure_t *failure)
{
    moxie_group_counters_t before = MOXIE_GROUP_COUNTERS_INIT;
    moxie_group_counters_t after = MOXIE_GROUP_COUNTERS_INIT;
    moxie_status_t status = moxie_group_barrier(session->group);
    (void)moxie_group_counters(session->group, &before);
    uint64_t start_ns = timing_now_ns();
    if (status == MOXIE_OK) {
        status = session_call(session, slot, turn);
    }
    uint64_t end_ns = timing_now_ns();
    (void)moxie_group_counters(session->group, &after);
    *sample = (sample_t){.time_ns = end_ns - start_ns, .wait_ns = after.wait_ns - before.wait_ns};
    return status == MOXIE_OK ||
           failure_from_library(failure, session->rank, session_slot_name(session, slot));
}

static bool measure_baseline(const session_t *session, slot_t slot, int64_t turn, sample_t *sample,
                             failure_t *failure)
{
    bool derives_route = slot == SLOT_DISPATCH && session->plan->is_fresh;
    uint64_t travel_ns = 0;
    if (moxie_group_barrier(session->group) != MOXIE_OK) {
        return failure_from_library(failure, session->rank, "baseline");
    }
    uint64_t start_ns = timing_now_ns();
    bool is_done = (!derives_route || baseline_update_route(session, failure)) &&
                   baseline_call(session, slot, turn, &travel_ns, failure);
    *sample = (sample_t){.time_ns = timing_now_ns() - start_ns, .wait_ns = travel_ns};
    return is_done;
}

static void tell_progress(const session_t *session, int64_t done, int64_t count)
{
    bool is_due = link_now_ms() - session->link->told_ms >= PROGRESS_PERIOD_MS;
    if (session->rank == 0 && session->plan->has_progress && is_due)
        link_progress(session->link, "timing", done, count);
    link_alive(session->link);
}

/* Dispatch and combine of one side. Each side has turns of its own, so that none finds the inputs
 * of the other in the caches. */
static bool measure_side(const session_t *session, const timing_t *timing, side_t side,
                         int64_t iteration, failure_t *failure)
{
    int64_t warmup_count = session->plan->options->warmups;
    int64_t turn = iteration * timing->side_count + (int64_t)side;
    for (slot_t slot = 0; slot < SLOT_COUNT; slot++) {
        sample_t sample;
        bool is_done = side == SIDE_MOXIE ? measure_moxie(session, slot, turn, &sample, failure)
                                          : measure_baseline(session, slot, turn, &sample, failure);
        if (!is_done) {
            return false;
        }
        if (iteration >= warmup_count) {
            timing_of_rank(timing, side, slot, session->rank)[iteration - warmup_count] = sample;
        }
    }
    return true;
}

static bool measure_all(const session_t *session, ceiling_t *ceiling, const timing_t *timing,
                        failure_t *failure)
{
    int64_t warmup_count = session->plan->options->warmups;
    int64_t count = warmup_count + timing->iteration_count;
    int64_t ceiling_done = 0;
    for (int64_t iteration = 0; iteration < count; iteration++) {
        for (int32_t side = 0; side < timing->side_count; side++) {
            if (!measure_side(session, timing, (side_t)side, iteration, failure)) {
                return false;
            }
        }
        int64_t timed_count = iteration < warmup_count ? 0 : iteration + 1 - warmup_count;
        int64_t ceiling_due = timed_count * ceiling->count / timing->iteration_count;
        if (!ceiling_measure(session, ceiling, ceiling_done, ceiling_due, failure)) {
            return false;
        }
        ceiling_done = ceiling_due;
        tell_progress(session, iteration, count);
    }
    return true;
}

/* Spreads every rank's samples of a call, a piece at a time. */
static bool gather(const session_t *session, const timing_t *timing, side_t side, slot_t slot,
                   sample_t *pieces, failure_t *failure)
{
    for (int64_t done = 0; done < timing->iteration_count; done += GATHER_COUNT) {
        int64_t left = timing->iteration_count - done;
        size_t count = (size_t)(left < GATHER_COUNT ? left : GATHER_COUNT);
        const sample_t *own = timing_of_rank(timing, side, slot, session->rank) + done;
        if (moxie_group_allgather(session->group, own, count * sizeof(*own), pieces) != MOXIE_OK)
            return failure_from_library(failure, session->rank, "gathering of samples");
        for (int32_t rank = 0; rank < timing->rank_count; rank++)
            memcpy(timing_of_rank(timing, side, slot, rank) + done, pieces + (size_t)rank * count,
                   count * sizeof(*pieces));
    }
    return true;
}

bool timing_measure(const session_t *session, ceiling_t *ceiling, timing_t *out, failure_t *failure)
{
    size_t rank_count = (size_t)session->plan->rank_count;
    *out = (timing_t){.rank_count = session->plan->rank_count,
                      .iteration_count = session->plan->options->iterations,
                      .side_count = session_side_count(session)};
    out->samples =
        calloc((size_t)out->side_count * SLOT_COUNT * rank_count * (size_t)out->iteration_count,
               sizeof(*out->samples));
    sample_t *pieces = malloc(rank_count * GATHER_COUNT * sizeof(*pieces));
    bool is_done = out->samples != NULL && pieces != NULL;
    if (!is_done)
        failure_set(failure, EXIT_USAGE, "rank %d: not enough memory for samples", session->rank);
    is_done = is_done && (device_has_stream(session->device)
                              ? timing_stream_measure(session, ceiling, out, failure)
                              : measure_all(session, ceiling, out, failure));
    for (int32_t i = 0; i < out->side_count * SLOT_COUNT && is_done; i++) {
        is_done = gather(session, out, (side_t)(i / SLOT_COUNT), (slot_t)(i % SLOT_COUNT), pieces,
                         failure);
    }
    free(pieces);
    return is_done;
}

void timing_release(timing_t *timing)
{
    free(timing->samples);
    *timing = (timing_t){0};
}
