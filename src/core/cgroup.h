/* SPDX-License-Identifier: Apache-2.0 */
/* Memory limits of control groups: what a batch system or a container allows this process. */
#ifndef MOXIE_CORE_CGROUP_H
#define MOXIE_CORE_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* A limit that a process lives under: its own group's, or that of a group around it. */
typedef struct cgroup_limit {
    uint64_t bytes;      /* that all processes of the group may take together */
    uint64_t left_bytes; /* of it, that they have not taken; page cache counts as not taken */
    char path[PATH_MAX]; /* the file that sets it */
} cgroup_limit_t;

/*
 * Finds the limit that leaves least to the process that `process_folder` ("/proc/self") tells of.
 * False when there is none, or none can be seen: `out->path` is "" then.
 */
bool cgroup_find_limit(const char *process_folder, cgroup_limit_t *out);

#endif
