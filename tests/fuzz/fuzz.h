/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every fuzz target has: the function that libFuzzer calls with bytes of its making. In an
 * ordinary build replay.c calls it with the files of the corpus instead.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

/* Something that must hold whatever the bytes are. */
#define FUZZ_REQUIRE(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The input, read from its beginning. */
typedef struct fuzz_input {
    const uint8_t *bytes;
    size_t count;
} fuzz_input_t;

/* Moves up to `count` bytes into `out`, zeros where there are no more; returns how many there were.
 */
static inline size_t fuzz_take(fuzz_input_t *input, void *out, size_t count)
{
    const size_t taken = count < input->count ? count : input->count;
    memset(out, 0, count);
    if (taken > 0) {
        memcpy(out, input->bytes, taken);
        input->bytes += taken;
        input->count -= taken;
    }
    return taken;
}

static inline uint8_t fuzz_take_byte(fuzz_input_t *input)
{
    uint8_t byte;
    fuzz_take(input, &byte, 1);
    return byte;
}

#endif
