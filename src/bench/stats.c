/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles by nearest rank. */
#include "bench/stats.h"

#include <stdlib.h>

static int compare(const void *one, const void *other)
{
    double a = *(const double *)one;
    double b = *(const double *)other;
    return (a > b) - (a < b);
}

double stats_percentile(const double *sorted, int64_t count, int64_t percent)
{
    int64_t place = (count * percent + 99) / 100;
    return sorted[place > 0 ? place - 1 : 0];
}

stats_t stats_describe(double *values, int64_t count)
{
    if (count < 1)
        return (stats_t){0};
    qsort(values, (size_t)count, sizeof(*values), compare);
    return (stats_t){
        .min = values[0],
        .p50 = stats_percentile(values, count, 50),
        .p90 = stats_percentile(values, count, 90),
        .p99 = stats_percentile(values, count, 99),
        .max = values[count - 1],
    };
}
