/* SPDX-License-Identifier: Apache-2.0 */
/* Signs of life of ranks that another program started for this one: a table in memory, which every
 * rank finds through an environment variable. It has no name in any file system. */
#ifndef MOXIE_BENCH_PULSE_H
#define MOXIE_BENCH_PULSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What is known of a rank. */
typedef struct pulse {
    int64_t beat_ms; /* when it last said that it is alive, on the monotonic clock; 0: never yet */
    int64_t pid;
} pulse_t;

/* Makes the table and its variable, for processes started from now on; -1: it could not. */
int pulse_open(void);

/* The table that this process was started with; -1: with none. */
int pulse_find(void);

/* Says that this process, which is `rank`, is alive. */
void pulse_beat(int fd, int32_t rank);

/* Looks at a rank. */
pulse_t pulse_of(int fd, int32_t rank);

#endif
