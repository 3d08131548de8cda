/* SPDX-License-Identifier: Apache-2.0 */
/* A progress bar on standard error, drawn only on a terminal. */
#ifndef MOXIE_BENCH_PROGRESS_H
#define MOXIE_BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Whether anybody would see it. */
bool progress_is_visible(void);

/* Draws over the last one. */
void progress_draw(const char *what, int64_t done, int64_t count);

/* Wipes it away. */
void progress_clear(void);

#endif
