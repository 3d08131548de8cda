/* SPDX-License-Identifier: Apache-2.0 */
/* The flight recorder. */
#include "transport/shm/recorder.h"

#include "transport/deadline.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

recorder_entry_t *recorder_begin(recorder_t *recorder, const char *name, uint64_t route_id)
{
    recorder->op_count++;
    recorder_entry_t *entry = recorder_current(recorder);
    *entry = (recorder_entry_t){.op = recorder->op_count,
                                .route_id = route_id,
                                .name = name,
                                .begin_ns = clock_now_ns(),
                                .late_rank = -1,
                                .slow_rank = -1};
    return entry;
}

recorder_entry_t *recorder_current(recorder_t *recorder)
{
    return &recorder->entries[recorder->op_count % RECORDER_ENTRY_COUNT];
}

/* The rank with the largest value, and by how much it leads the next one. */
static int32_t find_largest(const uint64_t *values, int32_t count, uint64_t *lead)
{
    int32_t largest = 0;
    uint64_t second = 0;
    for (int32_t rank = 1; rank < count; rank++) {
        if (values[rank] > values[largest]) {
            second = values[largest];
            largest = rank;
        } else if (values[rank] > second) {
            second = values[rank];
        }
    }
    *lead = values[largest] - second;
    return largest;
}

void recorder_note_posts(recorder_t *recorder, const uint64_t *post_ns, int32_t rank_count)
{
    recorder_entry_t *entry = recorder_current(recorder);
    if (rank_count < 2) {
        return;
    }
    entry->late_rank = find_largest(post_ns, rank_count, &entry->late_ns);
    recorder->peers[entry->late_rank].late_count++;
    recorder->peers[entry->late_rank].late_ns += entry->late_ns;
}

void recorder_note_work(recorder_t *recorder, const uint64_t *work_ns, int32_t rank_count)
{
    recorder_entry_t *entry = recorder_current(recorder);
    for (int32_t rank = 0; rank < rank_count; rank++) {
        recorder->peers[rank].work_ns += work_ns[rank];
    }
    if (rank_count < 2) {
        return;
    }
    entry->slow_rank = find_largest(work_ns, rank_count, &entry->slow_ns);
    recorder->peers[entry->slow_rank].slow_count++;
    recorder->peers[entry->slow_rank].slow_ns += entry->slow_ns;
}

bool recorder_read(const recorder_t *recorder, uint64_t op, moxie_operation_t *out)
{
    const uint64_t wanted = op == 0 ? recorder->op_count : op;
    const recorder_entry_t *entry = &recorder->entries[wanted % RECORDER_ENTRY_COUNT];
    if (wanted == 0 || entry->op != wanted) {
        return false;
    }
    *out = (moxie_operation_t){.size = sizeof(*out),
                               .op = entry->op,
                               .route_id = entry->route_id,
                               .name = entry->name,
                               .begin_ns = entry->begin_ns,
                               .post_ns = entry->post_ns,
                               .met_ns = entry->met_ns,
                               .finish_ns = entry->finish_ns,
                               .leave_ns = entry->leave_ns,
                               .late_ns = entry->late_ns,
                               .slow_ns = entry->slow_ns,
                               .late_rank = entry->late_rank,
                               .slow_rank = entry->slow_rank,
                               .status = entry->status};
    return true;
}

/* A span in microseconds; "-" when its end was not reached. */
static const char *span(char *text, size_t bytes, uint64_t from_ns, uint64_t to_ns)
{
    if (from_ns == 0 || to_ns == 0) {
        return "-";
    }
    snprintf(text, bytes, "%.1f", (double)(to_ns - from_ns) * 1e-3);
    return text;
}

static void dump_entry(const recorder_entry_t *entry, int fd)
{
    char post[24];
    char meet[24];
    char work[24];
    char leave[24];
    dprintf(fd,
            "  op %-8" PRIu64 " %-17s route %-3" PRIu64
            " prepare %8s  meet %8s  work %8s  leave %8s us  late: %d (%.1f us)  slow: %d (%.1f "
            "us)  %s\n",
            entry->op, entry->name, entry->route_id,
            span(post, sizeof(post), entry->begin_ns, entry->post_ns),
            span(meet, sizeof(meet), entry->post_ns, entry->met_ns),
            span(work, sizeof(work), entry->met_ns, entry->finish_ns),
            span(leave, sizeof(leave), entry->finish_ns, entry->leave_ns), entry->late_rank,
            (double)entry->late_ns * 1e-3, entry->slow_rank, (double)entry->slow_ns * 1e-3,
            moxie_status_name(entry->status));
}

void recorder_dump(const recorder_t *recorder, int32_t rank, int32_t rank_count, int fd)
{
    const uint64_t last = recorder->op_count;
    const uint64_t first = last > RECORDER_ENTRY_COUNT - 1 ? last - (RECORDER_ENTRY_COUNT - 2) : 1;
    dprintf(fd, "moxie flight recorder of rank %d of %d: operations %" PRIu64 " to %" PRIu64 "\n",
            rank, rank_count, first, last);
    for (uint64_t op = first; op <= last; op++) {
        dump_entry(&recorder->entries[op % RECORDER_ENTRY_COUNT], fd);
    }
    for (int32_t peer = 0; peer < rank_count; peer++) {
        const moxie_peer_counters_t *counters = &recorder->peers[peer];
        dprintf(fd,
                "  rank %-4d last to come %" PRIu64 " times (%.1f us in all), slowest %" PRIu64
                " times (%.1f us), worked %.1f us\n",
                peer, counters->late_count, (double)counters->late_ns * 1e-3, counters->slow_count,
                (double)counters->slow_ns * 1e-3, (double)counters->work_ns * 1e-3);
    }
}
