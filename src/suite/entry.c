/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what a scenario says of one test: which one, its overrides, its nodes. */
#include "suite/entry.h"

#include "bench/suggest.h"
#include "suite/keys.h"
#include "suite/name.h"
#include "suite/system.h"
#include "suite/time_limit.h"

#include <stdlib.h>
#include <string.h>

static const char prefix[] = "Tests";

/* The test with a name; another one with the same name is a mistake. */
static const source_t *find_test(const references_t *references, const source_t *scenario,
                                 const toml_node_t *node, mistakes_t *mistakes)
{
    const source_t *found = NULL;
    suggestion_t suggestion = {.word = node->string};
    for (size_t i = 0; i < references->sources->count; i++) {
        const source_t *source = references->sources->list[i];
        const toml_node_t *name = toml_find(toml_root(source->document), "name");
        if (source->kind != SOURCE_TEST || name == NULL || name->kind != TOML_KIND_STRING)
            continue;
        suggestion_offer(&suggestion, name->string);
        if (strcmp(name->string, node->string) != 0)
            continue;
        if (found != NULL)
            mistakes_add(mistakes, SEVERITY_ERROR, source, name, NULL,
                         "%s has a test with this name, too", found->path);
        found = found == NULL ? source : found;
    }
    if (found == NULL && suggestion.nearest != NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, scenario, node, prefix,
                     "there is no test '%.100s', is it '%.100s'?", node->string,
                     suggestion.nearest);
    else if (found == NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, scenario, node, prefix,
                     "there is no test '%.100s'; --tests-dir names the folder of tests",
                     node->string);
    return found;
}

/* The keys that a test needs when it is written in place. */
static void check_in_place(const layer_t *layer, mistakes_t *mistakes)
{
    for (size_t i = 0; i < keys_of_test.count; i++) {
        const key_row_t *row = &keys_of_test.rows[i];
        if (row->is_needed && toml_find(layer->table, row->name) == NULL)
            mistakes_add(mistakes, SEVERITY_ERROR, layer->source, layer->table, prefix,
                         "without test_name it needs the key '%s'", row->name);
    }
}

/* Overrides of a test that is not there are checked by themselves. */
static void check_overrides(const layer_t *layer, mistakes_t *mistakes)
{
    setting_t settings[SETTING_COUNT];
    layer_t table = {layer->source, toml_find(layer->table, "cmd_args")};
    settings_init(settings);
    if (table.table != NULL && table.table->kind == TOML_KIND_TABLE)
        settings_read(&table, 1, DIALECT_MOE_BENCHMARK, PLACE_CMD_ARGS, settings, mistakes);
}

static void read_test(const layer_t *layer, const references_t *references, entry_t *entry,
                      mistakes_t *mistakes)
{
    const toml_node_t *test_name = toml_find(layer->table, "test_name");
    if (test_name == NULL) {
        check_in_place(layer, mistakes);
        test_read(layer, 1, references->is_strict, &entry->test, mistakes);
        return;
    }
    const source_t *base = test_name->kind == TOML_KIND_STRING
                               ? find_test(references, layer->source, test_name, mistakes)
                               : NULL;
    if (base == NULL) {
        check_overrides(layer, mistakes);
        return;
    }
    layer_t layers[TEST_LAYER_COUNT_MAX] = {source_layer(base), *layer};
    keys_check(&keys_of_test, &layers[0], NULL, true, mistakes);
    test_read(layers, 2, references->is_strict, &entry->test, mistakes);
}

/* Nodes of a group whose names nobody knows get some. */
static void invent_nodes(const entry_t *entry, const node_want_t *want, node_list_t *list)
{
    char why[NODES_WHY_BYTES];
    int32_t count = want->count > 0 ? want->count : entry_node_count(entry, 0);
    for (int32_t i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "node%d", entry->nodes.count + i);
        if (!nodes_add_hosts(list, name, why))
            return;
    }
}

/* The names of a group's nodes in the system that has it; without one it is but a warning. */
static bool find_group(const references_t *references, const entry_t *entry,
                       const toml_node_t *node, const node_want_t *want, node_list_t *list,
                       mistakes_t *mistakes)
{
    for (size_t i = 0; i < references->system_count; i++)
        if (system_add_group(references->systems[i], want, list))
            return true;
    if (references->system_count > 0) {
        mistakes_add(mistakes, SEVERITY_ERROR, entry->layer.source, node, prefix,
                     "the system has no group '%s' in a partition '%s'", want->group,
                     want->partition);
        return false;
    }
    mistakes_add(mistakes, SEVERITY_WARNING, entry->layer.source, node, prefix,
                 "no system file says which nodes '%s:%s' has", want->partition, want->group);
    invent_nodes(entry, want, list);
    return true;
}

/* Moves the first `count` nodes of a list; 0: all of them. */
static bool take_nodes(node_list_t *from, int32_t count, node_list_t *to, char why[NODES_WHY_BYTES])
{
    int32_t wanted = count == 0 ? from->count : count;
    if (wanted > from->count) {
        (void)snprintf(why, NODES_WHY_BYTES, "it asks for %d nodes, %d are there", wanted,
                       from->count);
        return false;
    }
    for (int32_t i = 0; i < wanted; i++)
        if (!nodes_add_hosts(to, from->names[i], why))
            return false;
    return true;
}

/* Remembers the partition of a group; a job has one. */
static bool take_partition(entry_t *entry, const char *partition, char why[NODES_WHY_BYTES])
{
    if (entry->partition == NULL)
        entry->partition = strdup(partition);
    if (entry->partition == NULL)
        (void)snprintf(why, NODES_WHY_BYTES, "not enough memory");
    else if (strcmp(entry->partition, partition) != 0)
        (void)snprintf(why, NODES_WHY_BYTES, "a job has one partition, not '%.80s' and '%.80s'",
                       entry->partition, partition);
    else
        return true;
    return false;
}

/* Adds those of the group's nodes that can be had. */
static bool add_group(const references_t *references, entry_t *entry, const node_want_t *want,
                      node_list_t *group, char why[NODES_WHY_BYTES])
{
    const cluster_t *cluster = references->cluster;
    if (cluster != NULL && !cluster_has_partition(cluster, want->partition)) {
        (void)snprintf(why, NODES_WHY_BYTES, "Slurm has no node in a partition '%s'",
                       want->partition);
        return false;
    }
    if (cluster != NULL)
        cluster_sort(cluster, want, group);
    nodes_remove(group, &entry->excluded);
    nodes_remove(group, &entry->nodes);
    return take_nodes(group, want->count, &entry->nodes, why);
}

static void add_nodes(const references_t *references, entry_t *entry, const toml_node_t *node,
                      const char *text, mistakes_t *mistakes)
{
    char why[NODES_WHY_BYTES];
    node_want_t want;
    node_list_t group = {0};
    bool is_done;
    if (!nodes_is_group(text)) {
        is_done = nodes_add_hosts(&entry->nodes, text, why);
    } else {
        is_done = nodes_read_group(text, &want, why) && take_partition(entry, want.partition, why);
        if (is_done && find_group(references, entry, node, &want, &group, mistakes))
            is_done = add_group(references, entry, &want, &group, why);
    }
    if (!is_done)
        mistakes_add(mistakes, SEVERITY_ERROR, entry->layer.source, node, prefix, "%s", why);
    nodes_release(&group);
}

static void read_nodes(const references_t *references, entry_t *entry, mistakes_t *mistakes)
{
    char why[NODES_WHY_BYTES];
    const toml_node_t *nodes = toml_find(entry->layer.table, "nodes");
    const toml_node_t *exclude = toml_find(entry->layer.table, "exclude_nodes");
    for (int32_t i = 0; i < value_text_count(exclude); i++)
        if (value_text(exclude, i) != NULL &&
            !nodes_add_hosts(&entry->excluded, value_text(exclude, i), why))
            mistakes_add(mistakes, SEVERITY_ERROR, entry->layer.source, exclude, prefix, "%s", why);
    entry->has_nodes = value_text_count(nodes) > 0 && value_text(nodes, 0) != NULL;
    if (nodes != NULL && nodes->kind == TOML_KIND_STRING && references->is_strict)
        mistakes_add(mistakes, SEVERITY_ERROR, entry->layer.source, nodes, prefix,
                     "CloudAI takes a list of strings only");
    size_t found_count = mistakes->found_count;
    for (int32_t i = 0; i < value_text_count(nodes); i++)
        if (value_text(nodes, i) != NULL)
            add_nodes(references, entry, nodes, value_text(nodes, i), mistakes);
    nodes_remove(&entry->nodes, &entry->excluded);
    if (entry->has_nodes && entry->nodes.count == 0 && mistakes->found_count == found_count)
        mistakes_add(mistakes, SEVERITY_ERROR, entry->layer.source, nodes, prefix,
                     entry->excluded.count > 0 ? "exclude_nodes leaves none of them"
                                               : "none of them is idle");
}

static void read_numbers(entry_t *entry, mistakes_t *mistakes)
{
    int64_t number = 0;
    const toml_node_t *iterations = toml_find(entry->layer.table, "iterations");
    const toml_node_t *limit = toml_find(entry->layer.table, "time_limit");
    const toml_node_t *weight = toml_find(entry->layer.table, "weight");
    entry->iterations =
        iterations != NULL && value_number(iterations, &number) ? (int32_t)number : 1;
    if (weight != NULL)
        entry->weight =
            weight->kind == TOML_KIND_INTEGER ? (double)weight->integer : weight->fraction;
    if (limit != NULL && limit->kind == TOML_KIND_STRING &&
        !time_limit_read(limit->string, &entry->time_limit_s))
        mistakes_add(mistakes, SEVERITY_ERROR, entry->layer.source, limit, prefix,
                     "'%.100s' is no time: HH:MM:SS, H:M, D-HH:MM:SS, 30m", limit->string);
}

static void check_counts(const entry_t *entry, mistakes_t *mistakes)
{
    int64_t number = 0;
    int64_t step_count = entry_step_count(entry);
    if (entry->has_nodes && entry->num_nodes != NULL &&
        !(value_number(entry->num_nodes, &number) && number == entry->nodes.count))
        mistakes_add(mistakes, SEVERITY_WARNING, entry->layer.source, entry->num_nodes, prefix,
                     "nodes wins: it names %d", entry->nodes.count);
    if (step_count > STEP_COUNT_MAX)
        mistakes_add(mistakes, SEVERITY_ERROR, entry->layer.source, entry->layer.table, prefix,
                     "the sweeps make more than %d runs", STEP_COUNT_MAX);
}

void entry_read(const layer_t *layer, const references_t *references, entry_t *out,
                mistakes_t *mistakes)
{
    char why[NAME_WHY_BYTES];
    const toml_node_t *id = toml_find(layer->table, "id");
    *out = (entry_t){.layer = *layer, .num_nodes = toml_find(layer->table, "num_nodes")};
    keys_check(&keys_of_entry, layer, prefix, true, mistakes);
    if (id != NULL && id->kind == TOML_KIND_STRING) {
        out->id = id->string;
        if (!name_check(id->string, why))
            mistakes_add(mistakes, SEVERITY_ERROR, layer->source, id, prefix, "%s", why);
    }
    read_numbers(out, mistakes);
    read_test(layer, references, out, mistakes);
    read_nodes(references, out, mistakes);
    check_counts(out, mistakes);
}

void entry_release(entry_t *entry)
{
    test_release(&entry->test);
    nodes_release(&entry->nodes);
    nodes_release(&entry->excluded);
    free(entry->partition);
    free(entry->dependencies);
    *entry = (entry_t){.id = NULL};
}

int32_t entry_node_count_values(const entry_t *entry)
{
    return !entry->has_nodes && entry->num_nodes != NULL &&
                   entry->num_nodes->kind == TOML_KIND_ARRAY
               ? entry->num_nodes->child_count
               : 1;
}

int32_t entry_node_count(const entry_t *entry, int32_t index)
{
    int64_t number = 1;
    const toml_node_t *node = entry->num_nodes;
    if (entry->nodes.count > 0)
        return entry->nodes.count;
    if (node != NULL && node->kind == TOML_KIND_ARRAY)
        node = &node->children[index];
    return node != NULL && value_number(node, &number) ? (int32_t)number : 1;
}

int64_t entry_step_count(const entry_t *entry)
{
    int64_t count = entry_node_count_values(entry);
    for (int i = 0; i < SETTING_COUNT && count <= STEP_COUNT_MAX; i++)
        count *= entry->test.settings[i].value_count;
    for (int32_t i = 0; i < entry->test.variables.count && count <= STEP_COUNT_MAX; i++)
        count *= entry->test.variables.list[i].value_count;
    return count;
}
