/* SPDX-License-Identifier: Apache-2.0 */
/* Fault injection: reads MOXIE_FAULT and does what it says. Empty outside test builds. */
#include "transport/fault.h"

#ifdef MOXIE_FAULT_HOOKS
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Faults one variable may list. */
#define FAULT_COUNT_MAX 4

/* How often each listed fault's phase was reached by its rank; ranks may be threads. */
static _Atomic long visits[FAULT_COUNT_MAX];

/* A test that asks for something that does not exist must not pass. */
static void refuse(const char *text)
{
    fprintf(stderr, "MOXIE_FAULT: cannot read '%s'\n", text);
    abort();
}

static void act(const char *action)
{
    if (strcmp(action, "kill") == 0) {
        raise(SIGKILL);
    } else if (strcmp(action, "stop") == 0) {
        raise(SIGSTOP);
    } else if (strncmp(action, "delay=", 6) == 0) {
        const long microseconds = strtol(action + 6, NULL, 10);
        struct timespec left = {.tv_sec = microseconds / 1000000,
                                .tv_nsec = microseconds % 1000000 * 1000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {
        }
    } else {
        refuse(action);
    }
}

/* One entry of the list. */
static void visit(const char *entry, int index, int32_t rank, const char *name)
{
    char phase[48];
    char count[16];
    char action[32];
    int fault_rank;
    if (sscanf(entry, "%47[^:]:%d:%15[^:]:%31[^,]", phase, &fault_rank, count, action) != 4) {
        refuse(entry);
    }
    if (fault_rank != rank || strcmp(phase, name) != 0) {
        return;
    }
    const long visit_count = atomic_fetch_add(&visits[index], 1) + 1;
    if (count[0] == '*' || strtol(count, NULL, 10) == visit_count) {
        act(action);
    }
}

/* Mostly not, sometimes a yield, rarely long enough for others to fall asleep. */
static void dawdle(uint64_t seed, int32_t rank)
{
    static _Thread_local uint64_t state;
    if (state == 0) {
        state = seed * 0x9E3779B97F4A7C15u + (uint64_t)rank + 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const struct timespec pause = {.tv_nsec = (long)(state >> 40) % 100000};
    if (state % 64 == 0) {
        nanosleep(&pause, NULL);
    } else if (state % 8 == 0) {
        sched_yield();
    }
}

void fault_point(int32_t rank, const char *op, const char *phase)
{
    const uint64_t delay_seed = fault_delay_seed();
    if (delay_seed != 0) {
        dawdle(delay_seed, rank);
    }
    const char *entry = getenv("MOXIE_FAULT");
    char name[48];
    snprintf(name, sizeof(name), "%s%s%s", op != NULL ? op : "", op != NULL ? "." : "", phase);
    for (int index = 0; entry != NULL && index < FAULT_COUNT_MAX; index++) {
        visit(entry, index, rank, name);
        entry = strchr(entry, ',');
        entry = entry != NULL ? entry + 1 : NULL;
    }
}

uint64_t fault_delay_seed(void)
{
    const char *seed = getenv("MOXIE_DELAY_SEED");
    return seed != NULL ? strtoull(seed, NULL, 10) : 0;
}
#endif
