/* SPDX-License-Identifier: Apache-2.0 */
/* A system file: where results go, and which nodes there are. */
#ifndef MOXIE_SUITE_SYSTEM_H
#define MOXIE_SUITE_SYSTEM_H

#include "suite/mistakes.h"
#include "suite/nodes.h"

/* Checks everything in it. */
void system_check(const source_t *source, mistakes_t *mistakes);

/* The value of a key, or NULL; `source` may be NULL. */
const toml_node_t *system_find(const source_t *source, const char *key);

/* The text of a key, or NULL. */
const char *system_text(const source_t *source, const char *key);

/* A number from 1 on, or 0 when the file does not say; `source` may be NULL. */
int32_t system_number(const source_t *source, const char *key);

/* Whether a switch is on; one that the file does not have is off. */
bool system_switch(const source_t *source, const char *key);

/* Adds the nodes of a group; what is wrong with their names system_check() tells. False: there is
 * no such group. */
bool system_add_group(const source_t *source, const node_want_t *want, node_list_t *list);

#endif
