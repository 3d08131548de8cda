/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables that files give the ranks. */
#ifndef MOXIE_SUITE_VARIABLE_H
#define MOXIE_SUITE_VARIABLE_H

#include "suite/mistakes.h"

/* A variable of a table; of several tables the last one that has it. */
typedef struct variable {
    const source_t *source;
    const toml_node_t *node; /* its key is the name; its value a string, or a list: a sweep */
    int32_t value_count;
} variable_t;

typedef struct variables {
    variable_t *list;
    int32_t count;
} variables_t;

/* Checks names and values. */
void variables_check(const layer_t *layer, const char *prefix, bool may_sweep,
                     mistakes_t *mistakes);

/* Adds those of a checked table; false: no memory. */
bool variables_add(variables_t *variables, const layer_t *layer);

/* A value, by its index among those of the variable. */
const char *variable_value(const variable_t *variable, int32_t index);

void variables_release(variables_t *variables);

#endif
