/* SPDX-License-Identifier: Apache-2.0 */
/* Reads tests. */
#include "suite/test.h"

#include "suite/keys.h"

#include <inttypes.h>
#include <string.h>

const toml_node_t *test_find(const test_t *test, const char *key, const layer_t **layer)
{
    for (int32_t i = test->layer_count; i-- > 0;) {
        const toml_node_t *node = toml_find(test->layers[i].table, key);
        if (node != NULL) {
            *layer = &test->layers[i];
            return node;
        }
    }
    return NULL;
}

static const char *find_text(const test_t *test, const char *key)
{
    const layer_t *layer;
    const toml_node_t *node = test_find(test, key, &layer);
    return node == NULL ? NULL : node->string;
}

/* What is no name of a dialect is taken for the nearest one, else for the one with all keys: the
 * other keys are to be checked all the same. */
static void read_dialect(test_t *test, mistakes_t *mistakes)
{
    const layer_t *layer;
    const char *nearest = NULL;
    const toml_node_t *node = test_find(test, "test_template_name", &layer);
    test->dialect = DIALECT_MOE_BENCHMARK;
    if (node == NULL || node->kind != TOML_KIND_STRING ||
        dialect_find(node->string, &test->dialect, &nearest))
        return;
    if (nearest != NULL && dialect_find(nearest, &test->dialect, &nearest))
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, NULL,
                     "there is no '%.100s', is it '%s'?", node->string, nearest);
    else
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, NULL,
                     "moxie suite cannot run '%.100s', only DeepEPBenchmark, DeepEP and "
                     "MoEBenchmark",
                     node->string);
}

/* The largest and the smallest value. */
static void find_bounds(const test_t *test, setting_id_t id, int64_t *lowest, int64_t *highest)
{
    const setting_t *setting = &test->settings[id];
    *lowest = *highest = setting_value(setting, id, 0).number;
    for (int32_t i = 1; i < setting->value_count; i++) {
        int64_t number = setting_value(setting, id, i).number;
        *lowest = number < *lowest ? number : *lowest;
        *highest = number > *highest ? number : *highest;
    }
}

/* Of two that do not fit, the one that somebody wrote. */
static const setting_t *given_one(const test_t *test, setting_id_t one, setting_id_t other)
{
    return test->settings[one].node != NULL ? &test->settings[one] : &test->settings[other];
}

static bool are_sound(const test_t *test, setting_id_t one, setting_id_t other)
{
    return test->settings[one].is_sound && test->settings[other].is_sound;
}

static void check_topk(const test_t *test, mistakes_t *mistakes)
{
    int64_t topk_min = 0;
    int64_t topk = 0;
    int64_t experts = 0;
    int64_t experts_max = 0;
    const setting_t *place = given_one(test, SETTING_NUM_TOPK, SETTING_NUM_EXPERTS);
    if (!are_sound(test, SETTING_NUM_TOPK, SETTING_NUM_EXPERTS))
        return;
    find_bounds(test, SETTING_NUM_TOPK, &topk_min, &topk);
    find_bounds(test, SETTING_NUM_EXPERTS, &experts, &experts_max);
    if (topk > experts && place->node != NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, place->source, place->node, place->prefix,
                     "a token cannot go to %" PRId64 " different experts (num_topk) of %" PRId64
                     " (num_experts)",
                     topk, experts);
}

/* A switch that is on and belongs to what no value of the other setting is. */
static void check_useless(const test_t *test, setting_id_t id, setting_id_t of, int64_t wanted,
                          mistakes_t *mistakes)
{
    int64_t lowest = 0;
    int64_t highest = 0;
    int64_t of_lowest = 0;
    int64_t of_highest = 0;
    const setting_t *setting = &test->settings[id];
    if (!are_sound(test, id, of))
        return;
    find_bounds(test, id, &lowest, &highest);
    find_bounds(test, of, &of_lowest, &of_highest);
    if (highest != 0 && of_lowest != wanted && of_highest != wanted)
        mistakes_add(mistakes, SEVERITY_WARNING, setting->source, setting->node, setting->prefix,
                     "it means nothing unless %s is \"%s\"", setting_row(of)->name,
                     setting_row(of)->choices[wanted]);
}

void test_check_together(const test_t *test, mistakes_t *mistakes)
{
    check_topk(test, mistakes);
    check_useless(test, SETTING_ROUND_SCALE, SETTING_DATA_TYPE, 1, mistakes);
    check_useless(test, SETTING_USE_UE8M0, SETTING_DATA_TYPE, 1, mistakes);
    check_useless(test, SETTING_ALLOW_NVLINK, SETTING_MODE, 1, mistakes);
}

/* What CloudAI refuses and Moxie understands. */
static void check_strictly(const test_t *test, mistakes_t *mistakes)
{
    const layer_t *layer = &test->layers[test->layer_count - 1];
    const toml_node_t *template_name = toml_find(layer->table, "test_template_name");
    for (int i = 0; i < SETTING_COUNT; i++) {
        const setting_t *setting = &test->settings[i];
        if (setting->node != NULL && setting->node->kind == TOML_KIND_ARRAY &&
            setting_row((setting_id_t)i)->type != SETTING_TYPE_TEXTS)
            mistakes_add(mistakes, SEVERITY_ERROR, setting->source, setting->node, "cmd_args",
                         "CloudAI takes no list here");
    }
    if (test->settings[SETTING_DOCKER_IMAGE_URL].node == NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, test->layers[0].source,
                     toml_find(test->layers[0].table, "cmd_args"), NULL,
                     "CloudAI needs the key 'docker_image_url' here");
    if (test->layer_count > 1 && template_name != NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, template_name, "Tests",
                     "CloudAI takes it only without test_name");
}

static void read_variables(test_t *test, mistakes_t *mistakes)
{
    for (int32_t i = 0; i < test->layer_count; i++) {
        layer_t layer = {test->layers[i].source,
                         toml_find(test->layers[i].table, "extra_env_vars")};
        if (layer.table == NULL || layer.table->kind != TOML_KIND_TABLE)
            continue;
        variables_check(&layer, "extra_env_vars", true, mistakes);
        if (!variables_add(&test->variables, &layer))
            mistakes_add(mistakes, SEVERITY_ERROR, layer.source, layer.table, NULL,
                         "not enough memory");
    }
}

static void read_settings(test_t *test, mistakes_t *mistakes)
{
    layer_t tables[TEST_LAYER_COUNT_MAX];
    int32_t count = 0;
    for (int32_t i = 0; i < test->layer_count; i++) {
        const toml_node_t *table = toml_find(test->layers[i].table, "cmd_args");
        if (table != NULL && table->kind == TOML_KIND_TABLE)
            tables[count++] = (layer_t){test->layers[i].source, table};
    }
    settings_init(test->settings);
    settings_read(tables, count, test->dialect, PLACE_CMD_ARGS, test->settings, mistakes);
}

void test_read(const layer_t *layers, int32_t layer_count, bool is_strict, test_t *out,
               mistakes_t *mistakes)
{
    *out = (test_t){.layer_count = layer_count};
    memcpy(out->layers, layers, (size_t)layer_count * sizeof(*layers));
    out->name = find_text(out, "name");
    out->description = find_text(out, "description");
    read_dialect(out, mistakes);
    read_settings(out, mistakes);
    read_variables(out, mistakes);
    test_check_together(out, mistakes);
    if (is_strict)
        check_strictly(out, mistakes);
}

void test_release(test_t *test)
{
    variables_release(&test->variables);
    *test = (test_t){0};
}
