/* SPDX-License-Identifier: Apache-2.0 */
/* The machine, as `moxie info` and every record describe it. */
#ifndef MOXIE_BENCH_MACHINE_H
#define MOXIE_BENCH_MACHINE_H

#include <jansson.h>
#include <stdint.h>

/* Sizes of the data caches, in bytes; 0: not known. */
typedef struct machine {
    char cpu[128]; /* model */
    char isa[256]; /* architecture and vector extensions that matter here */
    char os[128];
    char kernel[128];
    int32_t core_count;    /* physical */
    int32_t thread_count;  /* processing units */
    int32_t numa_count;    /* NUMA nodes */
    int32_t package_count; /* sockets */
    uint64_t l1_bytes;     /* of one cache */
    uint64_t l2_bytes;
    uint64_t l3_bytes;
    uint64_t memory_bytes;
} machine_t;

/* Looks at this machine. What cannot be found out stays empty or 0. */
void machine_describe(machine_t *out);

/* The same as a JSON object; a new reference. */
json_t *machine_json(void);

#endif
