/* SPDX-License-Identifier: Apache-2.0 */
/* Reads scenarios. */
#include "suite/scenario.h"

#include "bench/suggest.h"
#include "suite/container.h"
#include "suite/entry.h"
#include "suite/keys.h"
#include "suite/name.h"

#include <stdlib.h>
#include <string.h>

static const char *const dependency_names[DEPENDENCY_TYPE_COUNT] = {
    [DEPENDENCY_START_POST_INIT] = "start_post_init",
    [DEPENDENCY_START_POST_COMP] = "start_post_comp",
    [DEPENDENCY_END_POST_COMP] = "end_post_comp",
};

const char *dependency_name(dependency_type_t type)
{
    return dependency_names[type];
}

/* The entry with an id, or -1. */
static int32_t find_entry(const scenario_t *scenario, const char *id)
{
    for (int32_t i = 0; i < scenario->entry_count; i++)
        if (scenario->entries[i].id != NULL && strcmp(scenario->entries[i].id, id) == 0)
            return i;
    return -1;
}

static bool read_type(const layer_t *layer, const toml_node_t *node, dependency_type_t *out,
                      mistakes_t *mistakes)
{
    suggestion_t suggestion = {.word = node->string};
    for (int i = 0; i < DEPENDENCY_TYPE_COUNT; i++) {
        suggestion_offer(&suggestion, dependency_names[i]);
        if (strcmp(node->string, dependency_names[i]) == 0) {
            *out = (dependency_type_t)i;
            return true;
        }
    }
    mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, "Tests.dependencies",
                 "'%.100s' is none of %s, %s and %s%s%s%s", node->string, dependency_names[0],
                 dependency_names[1], dependency_names[2],
                 suggestion.nearest == NULL ? "" : ", is it '",
                 suggestion.nearest == NULL ? "" : suggestion.nearest,
                 suggestion.nearest == NULL ? "" : "'?");
    return false;
}

/* False: it was a mistake. */
static bool read_dependency(const scenario_t *scenario, int32_t own, const toml_node_t *table,
                            dependency_t *out, mistakes_t *mistakes)
{
    layer_t layer = {scenario->source, table};
    const toml_node_t *id = toml_find(table, "id");
    const toml_node_t *type = toml_find(table, "type");
    keys_check(&keys_of_dependency, &layer, "Tests.dependencies", true, mistakes);
    bool is_read = id != NULL && type != NULL && id->kind == TOML_KIND_STRING &&
                   type->kind == TOML_KIND_STRING && read_type(&layer, type, &out->type, mistakes);
    if (!is_read)
        return false;
    out->on = find_entry(scenario, id->string);
    if (out->on >= 0 && out->on != own)
        return true;
    mistakes_add(mistakes, SEVERITY_ERROR, scenario->source, id, "Tests.dependencies",
                 out->on < 0 ? "no test has the id '%.100s'" : "'%.100s' is the test itself",
                 id->string);
    return false;
}

static void read_dependencies(scenario_t *scenario, int32_t index, mistakes_t *mistakes)
{
    entry_t *entry = &scenario->entries[index];
    const toml_node_t *list = toml_find(entry->layer.table, "dependencies");
    if (list == NULL || list->kind != TOML_KIND_ARRAY || list->child_count == 0)
        return;
    entry->dependencies = calloc((size_t)list->child_count, sizeof(*entry->dependencies));
    if (entry->dependencies == NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, scenario->source, list, "Tests",
                     "not enough memory");
    for (int32_t i = 0; i < list->child_count && entry->dependencies != NULL; i++)
        if (list->children[i].kind == TOML_KIND_TABLE &&
            read_dependency(scenario, index, &list->children[i],
                            &entry->dependencies[entry->dependency_count], mistakes))
            entry->dependency_count++;
}

static bool is_ready(const scenario_t *scenario, const entry_t *entry)
{
    for (int32_t i = 0; i < entry->dependency_count; i++)
        if (entry->dependencies[i].type != DEPENDENCY_END_POST_COMP &&
            !scenario->entries[entry->dependencies[i].on].is_placed)
            return false;
    return !entry->is_placed;
}

/* Always the first of the file that need not wait. */
static void find_order(scenario_t *scenario, mistakes_t *mistakes)
{
    int32_t next = 0;
    for (int32_t placed = 0; placed < scenario->entry_count && next < scenario->entry_count;) {
        next = 0;
        while (next < scenario->entry_count && !is_ready(scenario, &scenario->entries[next])) {
            next++;
        }
        if (next < scenario->entry_count) {
            scenario->entries[next].is_placed = true;
            scenario->order[placed++] = next;
        }
    }
    for (int32_t i = 0; i < scenario->entry_count; i++)
        if (!scenario->entries[i].is_placed)
            mistakes_add(mistakes, SEVERITY_ERROR, scenario->source,
                         toml_find(scenario->entries[i].layer.table, "dependencies"), "Tests",
                         "it waits for a test that waits for it");
}

static void check_ids(const scenario_t *scenario, mistakes_t *mistakes)
{
    for (int32_t i = 0; i < scenario->entry_count; i++) {
        const entry_t *entry = &scenario->entries[i];
        int32_t first = entry->id == NULL ? i : find_entry(scenario, entry->id);
        if (first != i)
            mistakes_add(mistakes, SEVERITY_ERROR, scenario->source,
                         toml_find(entry->layer.table, "id"), "Tests",
                         "'%.100s' is the id of the test in line %d", entry->id,
                         scenario->entries[first].layer.table->line);
    }
}

static void check_run_count(const scenario_t *scenario, mistakes_t *mistakes)
{
    int64_t count = 0;
    for (int32_t i = 0; i < scenario->entry_count; i++)
        count += scenario->entries[i].iterations * entry_step_count(&scenario->entries[i]);
    if (count > RUN_COUNT_MAX)
        mistakes_add(mistakes, SEVERITY_ERROR, scenario->source,
                     toml_find(toml_root(scenario->source->document), "Tests"), NULL,
                     "iterations and sweeps make more than %d runs", RUN_COUNT_MAX);
}

static void read_entries(scenario_t *scenario, const toml_node_t *list,
                         const references_t *references, mistakes_t *mistakes)
{
    if (list->child_count > ENTRY_COUNT_MAX) {
        mistakes_add(mistakes, SEVERITY_ERROR, scenario->source, list, NULL,
                     "a scenario has %d tests at most", ENTRY_COUNT_MAX);
        return;
    }
    scenario->entries = calloc((size_t)list->child_count, sizeof(*scenario->entries));
    scenario->order = calloc((size_t)list->child_count, sizeof(*scenario->order));
    if (scenario->entries == NULL || scenario->order == NULL) {
        mistakes_add(mistakes, SEVERITY_ERROR, scenario->source, list, NULL, "not enough memory");
        return;
    }
    for (int32_t i = 0; i < list->child_count; i++) {
        layer_t layer = {scenario->source, &list->children[i]};
        if (layer.table->kind == TOML_KIND_TABLE)
            entry_read(&layer, references, &scenario->entries[scenario->entry_count++], mistakes);
    }
    check_ids(scenario, mistakes);
    for (int32_t i = 0; i < scenario->entry_count; i++)
        read_dependencies(scenario, i, mistakes);
    find_order(scenario, mistakes);
    check_run_count(scenario, mistakes);
}

void scenario_read(const source_t *source, const references_t *references, scenario_t *out,
                   mistakes_t *mistakes)
{
    char why[NAME_WHY_BYTES];
    layer_t layer = source_layer(source);
    const toml_node_t *name = toml_find(layer.table, "name");
    const toml_node_t *list = toml_find(layer.table, "Tests");
    *out = (scenario_t){.source = source};
    keys_check(&keys_of_scenario, &layer, NULL, true, mistakes);
    if (name != NULL && name->kind == TOML_KIND_STRING) {
        out->name = name->string;
        if (!name_check(name->string, why))
            mistakes_add(mistakes, SEVERITY_ERROR, source, name, NULL, "%s", why);
    }
    if (list != NULL && list->kind == TOML_KIND_ARRAY && list->child_count > 0)
        read_entries(out, list, references, mistakes);
    if (references->has_containers)
        container_check(out, mistakes);
}

void scenario_release(scenario_t *scenario)
{
    for (int32_t i = 0; i < scenario->entry_count; i++)
        entry_release(&scenario->entries[i]);
    free(scenario->entries);
    free(scenario->order);
    *scenario = (scenario_t){.source = NULL};
}
