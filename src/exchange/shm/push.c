/* SPDX-License-Identifier: Apache-2.0 */
/* Pushing rows, streamed or through the caches. */
#include "exchange/shm/push.h"

#include "core/layout.h"

#include <string.h>

/* Shorter rows do not fill the cache lines that a streamed store writes as a whole. */
#define STREAM_ROW_BYTES_MIN 256

/* Bytes scaled at a time, in a buffer that stays in the first-level cache. */
#define SCALE_CHUNK_BYTES 4096

push_t push_open(const moxie_route_t *route, char **bases, size_t row_bytes)
{
    const route_state_t *state = route->state;
    const int64_t row_count = route_hop_start(state)[state->token_count];
    shm_exchange_t *shm = shm_of(route->group);
    return (push_t){.shm = shm,
                    .counters = &route->group->counters,
                    .bases = bases,
                    .row_bytes = row_bytes,
                    .row_count = row_count,
                    .is_streamed = row_bytes >= STREAM_ROW_BYTES_MIN &&
                                   row_count * (int64_t)row_bytes >= shm->stream_min_bytes};
}

void push_close(const push_t *push)
{
    const uint64_t bytes = (uint64_t)push->row_count * push->row_bytes;
    if (push->is_streamed) {
        rows_fence();
        push->counters->streamed_bytes += bytes;
    } else {
        push->counters->copied_bytes += bytes;
    }
}

static void copy(const push_t *push, void *to, const void *from, size_t bytes)
{
    if (push->is_streamed) {
        push->shm->rows->copy_stream(to, from, bytes);
    } else {
        memcpy(to, from, bytes);
    }
}

static char *place_of(const push_t *push, const route_hop_t *hop)
{
    return push->bases[hop->rank] + (size_t)hop->row * push->row_bytes;
}

void push_row(const push_t *push, const route_hop_t *hop, const void *row)
{
    copy(push, place_of(push, hop), row, push->row_bytes);
}

void push_part(const push_t *push, const route_hop_t *hop, size_t offset, const void *part,
               size_t bytes)
{
    copy(push, place_of(push, hop) + offset, part, bytes);
}

void push_scaled_row(const push_t *push, const route_hop_t *hop, const void *row, float weight,
                     moxie_dtype_t dtype)
{
    _Alignas(64) char chunk[SCALE_CHUNK_BYTES];
    char *to = place_of(push, hop);
    for (size_t done = 0; done < push->row_bytes; done += SCALE_CHUNK_BYTES) {
        const size_t left = push->row_bytes - done;
        const size_t bytes = left < SCALE_CHUNK_BYTES ? left : SCALE_CHUNK_BYTES;
        push->shm->rows->scale(chunk, (const char *)row + done, weight, dtype,
                               bytes / moxie_dtype_bytes(dtype));
        copy(push, to + done, chunk, bytes);
    }
}

/* Moves on to the next block that has padding; start == end when there is none. */
static void find(padding_t *padding)
{
    const route_state_t *state = padding->route->state;
    const moxie_placement_t *placement = padding->route->placement;
    const int32_t rank = state->shape.rank;
    padding->start = padding->end = 0;
    if (state->shape.layout != MOXIE_LAYOUT_EXPERT_MAJOR) {
        return;
    }
    for (; padding->local < moxie_placement_local_count(placement, rank); padding->local++) {
        const int32_t expert = moxie_placement_expert(placement, rank, padding->local);
        const int64_t block_start = route_block_start(state)[expert];
        const int64_t total = layout_expert_total(state, expert);
        padding->start = block_start + total;
        padding->end = block_start + layout_align(total, state->shape.alignment);
        if (padding->start < padding->end) {
            return;
        }
    }
    padding->start = padding->end = 0;
}

padding_t padding_first(const moxie_route_t *route)
{
    padding_t padding = {.route = route};
    find(&padding);
    return padding;
}

void padding_next(padding_t *padding)
{
    padding->local++;
    find(padding);
}
