/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines: every wait has one. */
#ifndef MOXIE_TRANSPORT_DEADLINE_H
#define MOXIE_TRANSPORT_DEADLINE_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t deadline_after_us(int64_t timeout_us)
{
    return clock_now_ns() + (uint64_t)timeout_us * 1000u;
}

/* Nanoseconds that are left; 0 when the deadline has passed. */
static inline uint64_t deadline_left_ns(uint64_t deadline_ns)
{
    const uint64_t now = clock_now_ns();
    return now < deadline_ns ? deadline_ns - now : 0;
}

static inline uint64_t deadline_earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

/* The same as poll() takes it: whole milliseconds, rounded up, at most a minute at a time. */
static inline int deadline_left_ms(uint64_t deadline_ns)
{
    const uint64_t left_ms = (deadline_left_ns(deadline_ns) + 999999u) / 1000000u;
    return left_ms < 60000u ? (int)left_ms : 60000;
}

#endif
