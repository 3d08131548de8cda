/* SPDX-License-Identifier: Apache-2.0 */
/* Reads tables of environment variables. */
#include "suite/variable.h"

#include <stdlib.h>
#include <string.h>

/* Variables of a table at most. */
enum { VARIABLE_COUNT_MAX = 1000 };

static bool is_name(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    return text[0] != '\0' && strchr(letters, text[0]) != NULL &&
           strspn(text, letters) + strspn(text + strspn(text, letters),
                                          "0123456789abcdefghijklmnopqrstuvwxyz"
                                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") ==
               strlen(text);
}

static void check_value(const layer_t *layer, const toml_node_t *value, const toml_node_t *place,
                        const char *prefix, mistakes_t *mistakes)
{
    if (value->kind != TOML_KIND_STRING)
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, place, prefix,
                     "must be a string, not %s", value->kind_name);
}

void variables_check(const layer_t *layer, const char *prefix, bool may_sweep, mistakes_t *mistakes)
{
    if (layer->table->child_count > VARIABLE_COUNT_MAX)
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, layer->table, NULL,
                     "it has more than %d variables", VARIABLE_COUNT_MAX);
    for (int32_t i = 0; i < layer->table->child_count && i < VARIABLE_COUNT_MAX; i++) {
        const toml_node_t *node = &layer->table->children[i];
        if (!is_name(node->key))
            mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, prefix,
                         "it is no name of an environment variable");
        if (node->kind != TOML_KIND_ARRAY || !may_sweep) {
            check_value(layer, node, node, prefix, mistakes);
            continue;
        }
        if (node->child_count == 0)
            mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, prefix,
                         "a sweep needs at least one value");
        for (int32_t at = 0; at < node->child_count; at++)
            check_value(layer, &node->children[at], node, prefix, mistakes);
    }
}

static variable_t *find(const variables_t *variables, const char *name)
{
    for (int32_t i = 0; i < variables->count; i++)
        if (strcmp(variables->list[i].node->key, name) == 0)
            return &variables->list[i];
    return NULL;
}

bool variables_add(variables_t *variables, const layer_t *layer)
{
    size_t room = (size_t)variables->count + (size_t)layer->table->child_count;
    variable_t *grown = room == 0 ? NULL : realloc(variables->list, room * sizeof(*grown));
    if (room == 0)
        return true;
    if (grown == NULL)
        return false;
    variables->list = grown;
    for (int32_t i = 0; i < layer->table->child_count && i < VARIABLE_COUNT_MAX; i++) {
        const toml_node_t *node = &layer->table->children[i];
        variable_t *known = find(variables, node->key);
        variable_t *variable = known == NULL ? &variables->list[variables->count++] : known;
        *variable = (variable_t){layer->source, node,
                                 node->kind == TOML_KIND_ARRAY ? node->child_count : 1};
    }
    return true;
}

const char *variable_value(const variable_t *variable, int32_t index)
{
    const toml_node_t *node = variable->node;
    return node->kind == TOML_KIND_ARRAY ? node->children[index].string : node->string;
}

void variables_release(variables_t *variables)
{
    free(variables->list);
    *variables = (variables_t){0};
}
