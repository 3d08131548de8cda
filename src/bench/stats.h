/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles. */
#ifndef MOXIE_BENCH_STATS_H
#define MOXIE_BENCH_STATS_H

#include <stdint.h>

/* Five numbers that describe a sample. */
typedef struct stats {
    double min;
    double p50;
    double p90;
    double p99;
    double max;
} stats_t;

/*
 * Nearest rank: the smallest value that at least `percent` of the sample do not exceed. Always a
 * value of the sample. `sorted` is ascending, count >= 1, percent in (0, 100].
 */
double stats_percentile(const double *sorted, int64_t count, int64_t percent);

/* Sorts the sample and describes it; all 0 for an empty one. */
stats_t stats_describe(double *values, int64_t count);

#endif
