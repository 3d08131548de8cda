/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source segment: rows on their way to experts, with whose they are. Dispatch works on segments
 * and not on "my x", so that rows staged for another rank by a forwarder are sent by the same code.
 */
#ifndef MOXIE_CORE_SEGMENT_H
#define MOXIE_CORE_SEGMENT_H

#include <stdint.h>

typedef struct source_segment {
    int32_t source_rank; /* whose tokens they are */
    int64_t token_start; /* first token of it in that rank's routing */
    int64_t token_count;
    const void *rows;   /* [token_count] rows */
    const void *scales; /* [token_count] their scales, where fp8 rows were quantised ahead */
} source_segment_t;

#endif
