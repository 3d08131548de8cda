/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers laid out in one piece of memory at odd offsets with red zones between them, poisoned
 * before each use: what was not to be written can be seen to be untouched. */
#ifndef SUPPORT_ARENA_H
#define SUPPORT_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_REGIONS_MAX 6

typedef struct arena_region {
    const char *name;
    size_t offset;
    size_t element_bytes;
    int64_t row_elements;
    int64_t row_count;
} arena_region_t;

typedef struct arena {
    arena_region_t regions[ARENA_REGIONS_MAX];
    size_t region_count;
    size_t bytes;
} arena_t;

/* Every byte of a poisoned arena. */
#define ARENA_POISON 0xA5

/* As `salt`: the buffer begins on a cache line. */
#define ARENA_ALIGNED UINT64_MAX

/* Adds a buffer, aligned to its element and, but for accidents, to nothing more. `salt` varies its
 * place. Returns its index. */
size_t arena_add(arena_t *arena, uint64_t salt, const char *name, size_t element_bytes,
                 int64_t row_elements, int64_t row_count);

/* Ends the arena with a last red zone. */
void arena_finish(arena_t *arena);

/* Poisons all of it, for the eye and, between the buffers, for the address sanitizer. */
void arena_poison(const arena_t *arena, void *base);

/* Lets everything be touched, the red zones too: what is to be compared or scrambled. */
void arena_open(const arena_t *arena, void *base);

/* A copy, all of it open; never NULL. */
void *arena_copy(const arena_t *arena, void *base);

void *arena_at(const arena_t *arena, size_t region, void *base);

/* A poisoned piece of memory for the arena; never NULL. */
void *arena_allocate(const arena_t *arena);

/* The first difference of two pieces: false when there is none, else says which element of which
 * buffer differs, and where. */
typedef struct arena_difference {
    const arena_region_t *region; /* NULL: in a red zone */
    int64_t row;
    int64_t column;
    uint64_t got;
    uint64_t expected;
    size_t offset;
} arena_difference_t;

/* Opens both. */
bool arena_differs(const arena_t *arena, void *got, void *expected, arena_difference_t *out);

#endif
