/* SPDX-License-Identifier: Apache-2.0 */
/* exp and log of additions, multiplications and divisions only. libm may differ in the last bit
 * from machine to machine, and a routing must not. Accurate to about 1e-15. */
#ifndef MOXIE_BENCH_EXACT_MATH_H
#define MOXIE_BENCH_EXACT_MATH_H

/* e^x for x <= 0; 0 below -700. */
double exact_exp(double x);

/* The natural logarithm of x >= 1. */
double exact_log(double x);

#endif
