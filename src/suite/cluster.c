/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and sorts the nodes of a cluster. */
#include "suite/cluster.h"

#include "suite/slurm.h"

#include <stdlib.h>
#include <string.h>

/* What a state says, without the flags behind it, as in "idle~". A node that does not answer has
 * the flag '*' and takes no jobs. */
static bool read_state(const char *state, bool *is_idle)
{
    static const char *const busy[] = {"mixed",   "allocated", "completing",
                                       "planned", "reserved",  "maint"};
    size_t length = strcspn(state, "*~#!%$@^-+");
    *is_idle = length == strlen("idle") && strncmp(state, "idle", length) == 0;
    bool is_there = *is_idle;
    for (size_t i = 0; i < sizeof(busy) / sizeof(busy[0]); i++)
        is_there = is_there || (strlen(busy[i]) == length && strncmp(state, busy[i], length) == 0);
    return is_there && strchr(state, '*') == NULL;
}

static bool add(cluster_t *cluster, const char *name, const char *partition, const char *state)
{
    bool is_idle = false;
    if (!read_state(state, &is_idle))
        return true;
    cluster_node_t *grown = realloc(cluster->nodes, (cluster->count + 1) * sizeof(*grown));
    if (grown == NULL)
        return false;
    cluster->nodes = grown;
    cluster->nodes[cluster->count++] = (cluster_node_t){name, partition, is_idle};
    return true;
}

bool cluster_read(cluster_t *out, failure_t *failure)
{
    char *rest = NULL;
    *out = (cluster_t){.text = NULL};
    if (!slurm_list_nodes(&out->text, failure))
        return false;
    for (char *line = strtok_r(out->text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *field = NULL;
        const char *name = strtok_r(line, "|", &field);
        const char *partition = strtok_r(NULL, "|", &field);
        const char *state = strtok_r(NULL, "|", &field);
        if (state != NULL && !add(out, name, partition, state))
            return failure_set(failure, EXIT_FAILED, "not enough memory for the nodes");
    }
    return true;
}

void cluster_release(cluster_t *cluster)
{
    free(cluster->text);
    free(cluster->nodes);
    *cluster = (cluster_t){.text = NULL};
}

static const cluster_node_t *find(const cluster_t *cluster, const char *name, const char *partition)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (strcmp(cluster->nodes[i].name, name) == 0 &&
            strcmp(cluster->nodes[i].partition, partition) == 0)
            return &cluster->nodes[i];
    return NULL;
}

bool cluster_has_partition(const cluster_t *cluster, const char *partition)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (strcmp(cluster->nodes[i].partition, partition) == 0)
            return true;
    return false;
}

void cluster_sort(const cluster_t *cluster, const node_want_t *want, node_list_t *group)
{
    node_list_t sorted = {0};
    char why[NODES_WHY_BYTES];
    for (int pass = 0; pass < (want->count == 0 ? 1 : 2); pass++) {
        for (int32_t i = 0; i < group->count; i++) {
            const cluster_node_t *node = find(cluster, group->names[i], want->partition);
            if (node != NULL && node->is_idle == (pass == 0))
                (void)nodes_add_hosts(&sorted, group->names[i], why);
        }
    }
    nodes_release(group);
    *group = sorted;
}
