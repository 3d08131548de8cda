/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of a Slurm cluster, as they were at one moment: within a run of a suite the same wish
 * gets the same nodes. */
#ifndef MOXIE_SUITE_CLUSTER_H
#define MOXIE_SUITE_CLUSTER_H

#include "bench/failure.h"
#include "suite/nodes.h"

/* A node in one of its partitions. */
typedef struct cluster_node {
    const char *name;
    const char *partition;
    bool is_idle; /* else it has work, and will be free one day */
} cluster_node_t;

/* Nodes that take jobs: what is down or drained is not here. */
typedef struct cluster {
    char *text; /* what the names point into */
    cluster_node_t *nodes;
    size_t count;
} cluster_t;

/* Asks Slurm. False: there is none here; release it in any case. */
bool cluster_read(cluster_t *out, failure_t *failure);

void cluster_release(cluster_t *cluster);

/* Whether a partition has a node. */
bool cluster_has_partition(const cluster_t *cluster, const char *partition);

/* Puts the nodes of a group into the order in which they are taken: idle ones first, each kind as
 * the file has them. Others are left out: those that take no jobs, and with "max_avail" all that
 * are not idle. */
void cluster_sort(const cluster_t *cluster, const node_want_t *want, node_list_t *group);

#endif
