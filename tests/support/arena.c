/* SPDX-License-Identifier: Apache-2.0 */
/* Poisoned memory with red zones. */
#include "support/arena.h"

#include <sanitizer/asan_interface.h> /* without the sanitizer its macros do nothing */
#include <stdlib.h>
#include <string.h>

#define GAP_BYTES  96
#define LINE_BYTES 64

size_t arena_add(arena_t *arena, uint64_t salt, const char *name, size_t element_bytes,
                 int64_t row_elements, int64_t row_count)
{
    if (arena->region_count == ARENA_REGIONS_MAX) {
        abort();
    }
    /* A line's start and 1 … 7 elements: aligned to the element only, mostly. */
    size_t offset = (arena->bytes + GAP_BYTES + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    if (salt != ARENA_ALIGNED) {
        offset += element_bytes * (1 + (salt + arena->region_count) % 7);
    }
    arena->regions[arena->region_count] =
        (arena_region_t){name, offset, element_bytes, row_elements, row_count};
    arena->bytes = offset + element_bytes * (size_t)row_elements * (size_t)row_count;
    return arena->region_count++;
}

void arena_finish(arena_t *arena)
{
    arena->bytes += GAP_BYTES;
}

/* What lies between the buffers, and before and behind them. */
static void guard(const arena_t *arena, void *base)
{
    size_t end = 0;
    for (size_t i = 0; i < arena->region_count; i++) {
        const arena_region_t *region = &arena->regions[i];
        ASAN_POISON_MEMORY_REGION((char *)base + end, region->offset - end);
        end = region->offset +
              region->element_bytes * (size_t)region->row_elements * (size_t)region->row_count;
    }
    ASAN_POISON_MEMORY_REGION((char *)base + end, arena->bytes - end);
}

void arena_open(const arena_t *arena, void *base)
{
    ASAN_UNPOISON_MEMORY_REGION(base, arena->bytes);
}

void arena_poison(const arena_t *arena, void *base)
{
    arena_open(arena, base);
    memset(base, ARENA_POISON, arena->bytes);
    guard(arena, base);
}

void *arena_copy(const arena_t *arena, void *base)
{
    void *copy = arena_allocate(arena);
    arena_open(arena, copy);
    arena_open(arena, base);
    memcpy(copy, base, arena->bytes);
    guard(arena, base);
    return copy;
}

void *arena_at(const arena_t *arena, size_t region, void *base)
{
    return (char *)base + arena->regions[region].offset;
}

void *arena_allocate(const arena_t *arena)
{
    void *base =
        aligned_alloc(LINE_BYTES, (arena->bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES);
    if (base == NULL) {
        abort();
    }
    arena_poison(arena, base);
    return base;
}

static uint64_t element_at(const void *base, size_t offset, size_t element_bytes)
{
    uint64_t value = 0;
    memcpy(&value, (const char *)base + offset, element_bytes);
    return value;
}

static void locate(const arena_t *arena, size_t offset, const void *got, const void *expected,
                   arena_difference_t *out)
{
    *out = (arena_difference_t){.offset = offset};
    for (size_t i = 0; i < arena->region_count; i++) {
        const arena_region_t *region = &arena->regions[i];
        const size_t row_bytes = region->element_bytes * (size_t)region->row_elements;
        if (offset < region->offset ||
            offset >= region->offset + row_bytes * (size_t)region->row_count) {
            continue;
        }
        const size_t within = offset - region->offset;
        const size_t start = offset - within % region->element_bytes;
        out->region = region;
        out->row = (int64_t)(within / row_bytes);
        out->column = (int64_t)(within % row_bytes / region->element_bytes);
        out->got = element_at(got, start, region->element_bytes);
        out->expected = element_at(expected, start, region->element_bytes);
        return;
    }
    out->got = element_at(got, offset, 1);
    out->expected = element_at(expected, offset, 1);
}

bool arena_differs(const arena_t *arena, void *got, void *expected, arena_difference_t *out)
{
    arena_open(arena, got);
    arena_open(arena, expected);
    if (memcmp(got, expected, arena->bytes) == 0) {
        return false;
    }
    size_t offset = 0;
    while (((const char *)got)[offset] == ((const char *)expected)[offset]) {
        offset++;
    }
    locate(arena, offset, got, expected, out);
    return true;
}
