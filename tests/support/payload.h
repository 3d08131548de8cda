/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that every rank can compute for every other: element bits are a hash of (seed, stream, rank,
 * row, column), so that a row that lies in the wrong place can be told from the right one. */
#ifndef SUPPORT_PAYLOAD_H
#define SUPPORT_PAYLOAD_H

#include "moxie/reference.h"

#include <stdbool.h>

/* What the rows are; part of the hash. */
enum payload_stream {
    PAYLOAD_X = 1,
    PAYLOAD_Y,
    PAYLOAD_D_RECV_X,
    PAYLOAD_D_RECV_WEIGHTS,
    PAYLOAD_D_OUT,
    PAYLOAD_ROUTING,
    PAYLOAD_WEIGHTS,
    PAYLOAD_CHOICE,
    PAYLOAD_X_SCALES,
};

typedef struct payload {
    uint64_t seed;
    enum payload_stream stream;
    moxie_dtype_t dtype;
    int64_t column_count;
    bool special; /* with NaNs, infinities, subnormals and zeros of both signs among them */
} payload_t;

/* A well-mixed number of four. */
uint64_t payload_hash(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

size_t payload_row_bytes(const payload_t *payload);

/* Writes one row. */
void payload_fill(const payload_t *payload, int32_t rank, int64_t row, void *out);

/* Writes rows 0 … row_count-1, one after the other. */
void payload_fill_rows(const payload_t *payload, int32_t rank, int64_t row_count, void *out);

/* A reader of a payload for the reference. */
typedef struct payload_reader {
    payload_t payload;
    void *row; /* the row last read */
    moxie_row_reader_t reader;
} payload_reader_t;

void payload_reader_open(payload_reader_t *reader, const payload_t *payload);
void payload_reader_close(payload_reader_t *reader);

#endif
