/* SPDX-License-Identifier: Apache-2.0 */
/* exp by x = n·ln 2 + r and a Taylor series in r; log by x = m·2^n and the series of artanh. */
#include "bench/exact_math.h"

#include <math.h>

/* ln 2 in two parts; the first has so few bits that its product with an exponent is exact. */
static const double ln2_high = 0x1.62e42feep-1;
static const double ln2_low = 0x1.a39ef35793c76p-33;

double exact_exp(double x)
{
    if (x < -700.0)
        return 0.0;
    int n = (int)(x / (ln2_high + ln2_low) - 0.5);
    double r = (x - n * ln2_high) - n * ln2_low;
    double sum = 1.0;
    for (int term = 17; term >= 1; term--)
        sum = 1.0 + sum * r / term;
    return ldexp(sum, n); /* exact: the result is far from subnormal */
}

double exact_log(double x)
{
    int n = 0;
    double m = frexp(x, &n); /* exact, in [0.5, 1) */
    if (m < 0.7071067811865476) {
        m *= 2.0;
        n--;
    }
    double t = (m - 1.0) / (m + 1.0);
    double square = t * t;
    double sum = 0.0;
    for (int power = 25; power >= 1; power -= 2)
        sum = sum * square + 1.0 / power;
    return n * ln2_high + (n * ln2_low + 2.0 * t * sum);
}
