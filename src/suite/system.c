/* SPDX-License-Identifier: Apache-2.0 */
/* Reads system files. */
#include "suite/system.h"

#include "suite/keys.h"
#include "suite/variable.h"

#include <string.h>

/* The element of a list of tables with a name, or NULL. */
static const toml_node_t *find_named(const toml_node_t *list, const char *name)
{
    if (list == NULL || list->kind != TOML_KIND_ARRAY)
        return NULL;
    for (int32_t i = 0; i < list->child_count; i++) {
        const toml_node_t *node = toml_find(&list->children[i], "name");
        if (node != NULL && node->kind == TOML_KIND_STRING && strcmp(node->string, name) == 0)
            return &list->children[i];
    }
    return NULL;
}

/* An element has the name of an earlier one. */
static void check_twice(const source_t *source, const toml_node_t *list, const toml_node_t *element,
                        const char *prefix, mistakes_t *mistakes)
{
    const toml_node_t *name = toml_find(element, "name");
    if (name == NULL || name->kind != TOML_KIND_STRING)
        return;
    const toml_node_t *first = find_named(list, name->string);
    if (first != element)
        mistakes_add(mistakes, SEVERITY_ERROR, source, name, prefix,
                     "'%.100s' has been defined in line %d", name->string, first->line);
}

static void check_group(const source_t *source, const toml_node_t *group, mistakes_t *mistakes)
{
    static const char prefix[] = "partitions.groups";
    char why[NODES_WHY_BYTES];
    node_list_t list = {0};
    layer_t layer = {source, group};
    const toml_node_t *nodes = toml_find(group, "nodes");
    keys_check(&keys_of_group, &layer, prefix, true, mistakes);
    for (int32_t i = 0; i < value_text_count(nodes); i++)
        if (value_text(nodes, i) != NULL && !nodes_add_hosts(&list, value_text(nodes, i), why))
            mistakes_add(mistakes, SEVERITY_ERROR, source, nodes, prefix, "%s", why);
    nodes_release(&list);
}

static void check_partition(const source_t *source, const toml_node_t *partition,
                            mistakes_t *mistakes)
{
    layer_t layer = {source, partition};
    const toml_node_t *groups = toml_find(partition, "groups");
    keys_check(&keys_of_partition, &layer, "partitions", true, mistakes);
    if (groups == NULL || groups->kind != TOML_KIND_ARRAY)
        return;
    for (int32_t i = 0; i < groups->child_count; i++) {
        if (groups->children[i].kind != TOML_KIND_TABLE)
            continue;
        check_group(source, &groups->children[i], mistakes);
        check_twice(source, groups, &groups->children[i], "partitions.groups", mistakes);
    }
}

static void check_partitions(const source_t *source, mistakes_t *mistakes)
{
    const toml_node_t *root = toml_root(source->document);
    const toml_node_t *partitions = toml_find(root, "partitions");
    const toml_node_t *chosen = toml_find(root, "default_partition");
    if (partitions == NULL || partitions->kind != TOML_KIND_ARRAY)
        return;
    for (int32_t i = 0; i < partitions->child_count; i++) {
        if (partitions->children[i].kind != TOML_KIND_TABLE)
            continue;
        check_partition(source, &partitions->children[i], mistakes);
        check_twice(source, partitions, &partitions->children[i], "partitions", mistakes);
    }
    if (chosen != NULL && chosen->kind == TOML_KIND_STRING &&
        find_named(partitions, chosen->string) == NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, source, chosen, NULL,
                     "there is no partition '%.100s'", chosen->string);
}

void system_check(const source_t *source, mistakes_t *mistakes)
{
    layer_t layer = source_layer(source);
    const toml_node_t *scheduler = toml_find(layer.table, "scheduler");
    const toml_node_t *variables = toml_find(layer.table, "global_env_vars");
    keys_check(&keys_of_system, &layer, NULL, true, mistakes);
    if (scheduler != NULL && scheduler->kind == TOML_KIND_STRING &&
        strcmp(scheduler->string, "slurm") != 0)
        mistakes_add(mistakes, SEVERITY_ERROR, source, scheduler, NULL, "must be \"slurm\"");
    if (variables != NULL && variables->kind == TOML_KIND_TABLE) {
        layer_t table = {source, variables};
        variables_check(&table, "global_env_vars", false, mistakes);
    }
    check_partitions(source, mistakes);
}

const toml_node_t *system_find(const source_t *source, const char *key)
{
    return source == NULL ? NULL : toml_find(toml_root(source->document), key);
}

const char *system_text(const source_t *source, const char *key)
{
    const toml_node_t *node = system_find(source, key);
    return node == NULL ? NULL : node->string;
}

int32_t system_number(const source_t *source, const char *key)
{
    int64_t number = 0;
    const toml_node_t *node = system_find(source, key);
    return node != NULL && value_number(node, &number) ? (int32_t)number : 0;
}

bool system_switch(const source_t *source, const char *key)
{
    int64_t value = 0;
    const toml_node_t *node = system_find(source, key);
    return node != NULL && value_switch(node, &value) && value != 0;
}

bool system_add_group(const source_t *source, const node_want_t *want, node_list_t *list)
{
    char why[NODES_WHY_BYTES];
    const toml_node_t *partitions = toml_find(toml_root(source->document), "partitions");
    const toml_node_t *partition = find_named(partitions, want->partition);
    const toml_node_t *group = find_named(toml_find(partition, "groups"), want->group);
    const toml_node_t *nodes = toml_find(group, "nodes");
    for (int32_t i = 0; i < value_text_count(nodes); i++)
        if (value_text(nodes, i) != NULL)
            (void)nodes_add_hosts(list, value_text(nodes, i), why);
    return group != NULL;
}
