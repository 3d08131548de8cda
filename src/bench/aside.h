/* SPDX-License-Identifier: Apache-2.0 */
/* Work in a process of its own: what it opens there this process never had. A process that has
 * initialised CUDA cannot fork ranks that use it. */
#ifndef MOXIE_BENCH_ASIDE_H
#define MOXIE_BENCH_ASIDE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Calls work(in, out) in a child and waits for it.
 *
 * @param[in,out] out  [bytes] as it is when the child starts, and as it was when it ended
 * @return false when the child could not be started or did not come to its end
 */
bool aside_run(void (*work)(const void *in, void *out), const void *in, void *out, size_t bytes);

#endif
