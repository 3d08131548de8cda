/* SPDX-License-Identifier: Apache-2.0 */
/* Names of nodes: hosts, ranges of them, and what a group of a partition has. */
#ifndef MOXIE_SUITE_NODES_H
#define MOXIE_SUITE_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nodes of a list at most. */
enum { NODE_COUNT_MAX = 4096 };

/* Names in their order, none twice. */
typedef struct node_list {
    char **names;
    int32_t count;
} node_list_t;

/* Room for a sentence about what is wrong. */
enum { NODES_WHY_BYTES = 256 };

/* Adds the hosts that a text names: "n7", "n[0-3,8]", "n[01-12]-gpu", several with commas between
 * them. False: `why` says what is wrong. */
bool nodes_add_hosts(node_list_t *list, const char *text, char why[NODES_WHY_BYTES]);

/* Removes the nodes that another list has, too. */
void nodes_remove(node_list_t *list, const node_list_t *others);

void nodes_release(node_list_t *list);

/* Wanted of a group, "PARTITION:GROUP:N". */
typedef struct node_want {
    char partition[128];
    char group[128];
    int32_t count; /* 0: as many as there are, "max_avail" */
} node_want_t;

/* Whether a text asks for nodes of a group and does not name hosts: it has a colon. */
bool nodes_is_group(const char *text);

/* Reads such a text. False: `why` says what is wrong. */
bool nodes_read_group(const char *text, node_want_t *out, char why[NODES_WHY_BYTES]);

#endif
