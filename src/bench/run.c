/* SPDX-License-Identifier: Apache-2.0 */
/* One rank from beginning to end: prepare, fill, verify, time, verify, report. */
#include "bench/run.h"

#include "bench/baseline.h"
#include "bench/ceiling.h"
#include "bench/record.h"
#include "bench/timing.h"
#include "bench/trace.h"
#include "bench/verify.h"

#include <stdlib.h>
#include <string.h>

/* Iterations of each ceiling method. */
enum { CEILING_COUNT = 20 };

/* What the steps find out. */
typedef struct findings {
    char mismatch[VERIFY_TEXT_BYTES]; /* "": none */
    ceiling_t ceiling;
    timing_t timing;
    json_t *trace; /* NULL: none is asked for, or another rank has it */
} findings_t;

static void tell(const session_t *session, const char *what)
{
    if (session->rank == 0 && session->plan->has_progress)
        link_progress(session->link, what, 0, 1);
}

static bool prepare(session_t *session, failure_t *failure)
{
    const plan_t *plan = session->plan;
    moxie_route_options_t route = plan_route_options(plan, session->rank);
    if (!device_open(session->device, session->group, failure) ||
        !buffers_init(&session->buffers, plan, session->group, session->device, failure)) {
        return false;
    }
    if (moxie_route_create(session->group, &route, &session->route) != MOXIE_OK) {
        return failure_from_library(failure, session->rank, "making the route");
    }
    return baseline_join(session, failure);
}

static void leave(session_t *session, bool is_done)
{
    baseline_leave(session, is_done);
    moxie_route_destroy(session->route);
    buffers_release(&session->buffers);
    device_close(session->device);
}

static bool fill(session_t *session, failure_t *failure)
{
    const plan_t *plan = session->plan;
    int32_t set_count = plan->home_set_count > plan->expert_set_count ? plan->home_set_count
                                                                      : plan->expert_set_count;
    tell(session, "filling inputs");
    link_work(session->link);
    for (int32_t set = 0; set < set_count; set++)
        session_refill(session, set);
    return device_check(session->device, failure) && link_gate(session->link, failure);
}

static bool verify(session_t *session, int64_t turn, findings_t *findings, failure_t *failure)
{
    if (session->plan->skips_verification)
        return true;
    tell(session, "verifying");
    for (int32_t i = 0; i < session_side_count(session) * SLOT_COUNT; i++) {
        if (!verify_slot(session, (side_t)(i / SLOT_COUNT), (slot_t)(i % SLOT_COUNT), turn,
                         findings->mismatch, failure) ||
            !link_gate(session->link, failure)) {
            return false;
        }
    }
    return true;
}

static bool verify_before(session_t *session, findings_t *findings, failure_t *failure)
{
    if (session_update_route(session) != MOXIE_OK || session_status(session) != MOXIE_OK ||
        moxie_layout_check(session->route) != MOXIE_OK)
        return failure_from_library(failure, session->rank, "route");
    verify_extent(session, findings->mismatch);
    if (session_side_count(session) > 1 && !baseline_update_route(session, failure)) {
        return false;
    }
    return verify(session, 0, findings, failure);
}

/* Set 0 gets payload that no call has seen; the route is the one that was timed. */
static bool verify_after(session_t *session, findings_t *findings, failure_t *failure)
{
    link_work(session->link);
    session_refill(session, 0);
    return device_check(session->device, failure) && link_gate(session->link, failure) &&
           verify(session, 0, findings, failure);
}

static bool measure(session_t *session, findings_t *findings, failure_t *failure)
{
    if (!ceiling_init(&findings->ceiling, session, CEILING_COUNT))
        return failure_set(failure, EXIT_USAGE, "rank %d: not enough memory", session->rank);
    return ceiling_measure(session, &findings->ceiling, 0, 1, failure) && /* warms up */
           timing_measure(session, &findings->ceiling, &findings->timing, failure) &&
           trace_measure(session, &findings->trace, failure);
}

/* Every rank learns of every rank's mismatch; rank 0 hands over the record, with the first one. */
static bool report(session_t *session, findings_t *findings, failure_t *failure)
{
    size_t rank_count = (size_t)session->plan->rank_count;
    char(*mismatches)[VERIFY_TEXT_BYTES] = calloc(rank_count, VERIFY_TEXT_BYTES);
    if (mismatches == NULL) {
        return failure_set(failure, EXIT_USAGE, "rank %d: not enough memory", session->rank);
    }
    bool is_done = moxie_group_allgather(session->group, findings->mismatch, VERIFY_TEXT_BYTES,
                                         mismatches) == MOXIE_OK ||
                   failure_from_library(failure, session->rank, "gathering of results");
    if (is_done && session->rank == 0) {
        size_t first = 0;
        while (first < rank_count && mismatches[first][0] == '\0') {
            first++;
        }
        bool is_equal = first == rank_count;
        bool is_verified = is_equal && !session->plan->skips_verification;
        json_t *record = record_make(session, &findings->timing, &findings->ceiling, is_verified);
        is_done = record != NULL && link_report(session->link, record, json_incref(findings->trace),
                                                is_equal ? "" : mismatches[first]);
        if (!is_done) {
            failure_set(failure, EXIT_FAILED, "rank 0: the record could not be sent");
        }
    }
    free(mismatches);
    return is_done;
}

bool run_rank(const plan_t *plan, moxie_group_t *group, link_t *link, failure_t *failure)
{
    device_t device = {.ops = NULL};
    session_t session = {
        .plan = plan, .rank = link->rank, .link = link, .group = group, .device = &device};
    findings_t findings = {.mismatch = ""};
    bool is_done =
        prepare(&session, failure) && fill(&session, failure) &&
        verify_before(&session, &findings, failure) && measure(&session, &findings, failure) &&
        verify_after(&session, &findings, failure) && report(&session, &findings, failure);
    ceiling_release(&findings.ceiling);
    timing_release(&findings.timing);
    json_decref(findings.trace);
    leave(&session, is_done);
    return is_done;
}
