/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings, and how cmd_args is read. */
#include "suite/setting.h"

#include "bench/suggest.h"
#include "suite/keys.h"

#include <inttypes.h>
#include <string.h>

/* Tables under examination. */
typedef struct reading {
    const layer_t *layer;
    const char *prefix; /* of its keys; NULL: none */
    dialect_t dialect;
    setting_place_t place;
    mistakes_t *mistakes;
} reading_t;

static const char *const dialect_names[DIALECT_COUNT] = {
    [DIALECT_DEEPEP_BENCHMARK] = "DeepEPBenchmark",
    [DIALECT_DEEPEP] = "DeepEP",
    [DIALECT_MOE_BENCHMARK] = "MoEBenchmark",
};

#define TEXT(text)              .type = SETTING_TYPE_TEXT, .text_default = (text)
#define NUMBER(number)          .type = SETTING_TYPE_NUMBER, .value_default = (number)
#define LIMITS(lowest, highest) .value_min = (lowest), .value_max = (highest)
#define SWITCH(number)          .type = SETTING_TYPE_SWITCH, .value_default = (number)
#define CHOICE(one, other)      .type = SETTING_TYPE_CHOICE, .choices = {(one), (other)}
#define OPTION(id)              .has_option = true, .option = (id)
#define IN_CONFIG               .is_in_config = true
#define OF_MOE                  .is_of_moe_only = true

#define NO_NETWORK "none: the ranks are on one machine, nothing crosses a network"
#define NO_SCALE   "none: moxie bench has no flag for the scales of fp8"
#define NO_V2      "none: it is a setting of DeepEP's second version"

/* clang-format off: one setting a paragraph */
static const setting_row_t rows[SETTING_COUNT] = {
    [SETTING_DOCKER_IMAGE_URL] = {.name = "docker_image_url",
                                  TEXT(NULL),
                                  .effect = "none: no container is started here",
                                  .slurm_effect = "--container-image of srun, when the system asks "
                                                  "for containers"},
    [SETTING_MODE] = {.name = "mode", CHOICE("standard", "low_latency"), OPTION(OPTION_MODE)},
    [SETTING_TOKENS] = {.name = "tokens", NUMBER(1024), OPTION(OPTION_TOKENS), IN_CONFIG},
    [SETTING_NUM_EXPERTS] = {.name = "num_experts", NUMBER(256), OPTION(OPTION_EXPERTS), IN_CONFIG},
    [SETTING_NUM_TOPK] = {.name = "num_topk", NUMBER(8), OPTION(OPTION_TOPK), IN_CONFIG},
    [SETTING_HIDDEN_SIZE] = {.name = "hidden_size", NUMBER(7168), OPTION(OPTION_HIDDEN), IN_CONFIG},
    [SETTING_DATA_TYPE] = {.name = "data_type",
                           CHOICE("bfloat16", "fp8"),
                           OPTION(OPTION_DTYPE),
                           IN_CONFIG},
    [SETTING_ALLOW_NVLINK] =
        {.name = "allow_nvlink_for_low_latency",
         SWITCH(0),
         IN_CONFIG,
         .effect = "none: ranks of one machine reach each other directly in every mode"},
    [SETTING_ALLOW_MNNVL] = {.name = "allow_mnnvl", SWITCH(0), IN_CONFIG, .effect = NO_NETWORK},
    [SETTING_ROUND_SCALE] = {.name = "round_scale", SWITCH(0), IN_CONFIG, .effect = NO_SCALE},
    [SETTING_USE_UE8M0] = {.name = "use_ue8m0", SWITCH(0), IN_CONFIG, .effect = NO_SCALE},
    [SETTING_SHUFFLE_COLUMNS] =
        {.name = "shuffle_columns",
         SWITCH(0),
         IN_CONFIG,
         .effect = "none: a row goes to each rank once, whatever the order of a token's experts"},
    [SETTING_USE_KINETO_PROFILER] = {.name = "use_kineto_profiler",
                                     SWITCH(0),
                                     IN_CONFIG,
                                     .effect = "--trace: a timeline, trace.json, when it is true"},
    [SETTING_NUM_WARMUPS] = {.name = "num_warmups", NUMBER(20), OPTION(OPTION_WARMUPS), IN_CONFIG},
    [SETTING_NUM_ITERATIONS] = {.name = "num_iterations",
                                NUMBER(50),
                                OPTION(OPTION_ITERATIONS),
                                IN_CONFIG},
    [SETTING_NUM_SMS] = {.name = "num_sms",
                         NUMBER(24),
                         OPTION(OPTION_SMS),
                         .slurm_effect = "NUM_SMS, which is --sms of ranks on GPUs"},
    [SETTING_NUM_QPS] = {.name = "num_qps_per_rank",
                         NUMBER(12),
                         LIMITS(1, 1024),
                         .effect = NO_NETWORK},
    [SETTING_CONFIG_FILE_PATH] = {.name = "config_file_path",
                                  TEXT("/tmp/config.yaml"),
                                  .effect = "none: config.yaml is in the folder of the run",
                                  .slurm_effect = "where a container has config.yaml"},
    [SETTING_RESULTS_DIR] = {.name = "results_dir",
                             TEXT("/workspace/dp-benchmark/results"),
                             .effect = "none: results are in the folder of the run",
                             .slurm_effect = "where a container has the folder of the run"},
    [SETTING_BENCHMARK_ROOT] = {.name = "benchmark_root",
                                TEXT(NULL),
                                OF_MOE,
                                .effect = "none: Moxie itself is the benchmark"},
    [SETTING_DEEPEP_VERSIONS] = {.name = "deepep_versions",
                                 .type = SETTING_TYPE_TEXTS,
                                 OF_MOE,
                                 .effect = "none: Moxie is measured, not DeepEP"},
    [SETTING_BENCHMARK_COMBINE] = {.name = "benchmark_combine",
                                   SWITCH(1),
                                   OF_MOE,
                                   IN_CONFIG,
                                   .effect = "when it is false, results leave combine out"},
    [SETTING_ENABLE_TUNING] = {.name = "enable_tuning",
                               SWITCH(0),
                               OF_MOE,
                               IN_CONFIG,
                               .effect = "none: what moxie tune stored is used, whoever asks"},
    [SETTING_V2_NUM_SMS] =
        {.name = "v2_num_sms", NUMBER(12), LIMITS(0, 1024), OF_MOE, IN_CONFIG, .effect = NO_V2},
    [SETTING_V2_NUM_QPS] =
        {.name = "v2_num_qps", NUMBER(0), LIMITS(0, 1024), OF_MOE, IN_CONFIG, .effect = NO_V2},
    [SETTING_V2_PREFER_OVERLAP] =
        {.name = "v2_prefer_overlap_with_compute", SWITCH(0), OF_MOE, IN_CONFIG, .effect = NO_V2},
};
/* clang-format on */

const char *dialect_name(dialect_t dialect)
{
    return dialect_names[dialect];
}

bool dialect_find(const char *name, dialect_t *out, const char **nearest)
{
    suggestion_t suggestion = {.word = name};
    for (int i = 0; i < DIALECT_COUNT; i++) {
        suggestion_offer(&suggestion, dialect_names[i]);
        if (strcmp(dialect_names[i], name) == 0) {
            *out = (dialect_t)i;
            return true;
        }
    }
    *nearest = suggestion.nearest;
    return false;
}

const setting_row_t *setting_row(setting_id_t id)
{
    return &rows[id];
}

bool setting_is_of(setting_id_t id, dialect_t dialect)
{
    return !rows[id].is_of_moe_only || dialect == DIALECT_MOE_BENCHMARK;
}

const char *setting_key(setting_id_t id, dialect_t dialect, setting_place_t place)
{
    bool has_key = setting_is_of(id, dialect);
    switch (place) {
    case PLACE_CONFIG:
        if (id == SETTING_MODE && dialect == DIALECT_MOE_BENCHMARK)
            return "benchmark_type";
        return has_key && rows[id].is_in_config ? rows[id].name : NULL;
    case PLACE_ENVIRONMENT:
        if (id == SETTING_NUM_SMS)
            return "NUM_SMS";
        return id == SETTING_NUM_QPS ? "NUM_QPS_PER_RANK" : NULL;
    default:
        return has_key ? rows[id].name : NULL;
    }
}

/* The number of a value, or of the word of a choice; false: it has none. */
static bool read_number(const setting_row_t *row, const toml_node_t *node, int64_t *out)
{
    switch (row->type) {
    case SETTING_TYPE_NUMBER:
        return value_number(node, out);
    case SETTING_TYPE_SWITCH:
        return value_switch(node, out);
    case SETTING_TYPE_CHOICE:
        for (*out = 0; *out < 2; (*out)++)
            if (node->kind == TOML_KIND_STRING && strcmp(row->choices[*out], node->string) == 0)
                return true;
        return false;
    default:
        return false;
    }
}

static void refuse_type(const reading_t *reading, const setting_row_t *row, const toml_node_t *node,
                        const toml_node_t *place)
{
    static const char *const names[] = {"a string", "a list of strings", "a whole number",
                                        "true or false", "a string"};
    if (row->type == SETTING_TYPE_CHOICE && node->kind == TOML_KIND_STRING)
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, place,
                     reading->prefix, "'%.100s' is none of %s and %s", node->string,
                     row->choices[0], row->choices[1]);
    else if (node->kind == TOML_KIND_STRING)
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, place,
                     reading->prefix, "must be %s, not '%.100s'", names[row->type], node->string);
    else
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, place,
                     reading->prefix, "must be %s, not %s", names[row->type], node->kind_name);
}

/* `place` is the key; `node` its value, or one of them. */
static void check_one(const reading_t *reading, const setting_row_t *row, const toml_node_t *node,
                      const toml_node_t *place)
{
    int64_t number = 0;
    int64_t lowest = row->has_option ? option_row(row->option)->value_min : row->value_min;
    int64_t highest = row->has_option ? option_row(row->option)->value_max : row->value_max;
    if (row->type == SETTING_TYPE_TEXT) {
        if (node->kind != TOML_KIND_STRING)
            refuse_type(reading, row, node, place);
    } else if (!read_number(row, node, &number)) {
        refuse_type(reading, row, node, place);
    } else if (row->type == SETTING_TYPE_NUMBER && (number < lowest || number > highest)) {
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, place,
                     reading->prefix,
                     "%" PRId64 " is out of range, it can be %" PRId64 " to %" PRId64, number,
                     lowest, highest);
    }
}

static void check_texts(const reading_t *reading, const setting_row_t *row, const toml_node_t *node)
{
    bool is_list = node->kind == TOML_KIND_ARRAY;
    for (int32_t i = 0; is_list && i < node->child_count; i++)
        if (node->children[i].kind != TOML_KIND_STRING)
            refuse_type(reading, row, &node->children[i], node);
    if (!is_list)
        refuse_type(reading, row, node, node);
}

static void check_setting(const reading_t *reading, const setting_row_t *row,
                          const toml_node_t *node)
{
    bool can_sweep = row->type != SETTING_TYPE_TEXT;
    if (row->type == SETTING_TYPE_TEXTS) {
        check_texts(reading, row, node);
    } else if (node->kind != TOML_KIND_ARRAY || !can_sweep) {
        check_one(reading, row, node, node);
    } else if (node->child_count == 0) {
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, node,
                     reading->prefix, "a sweep needs at least one value");
    } else {
        for (int32_t i = 0; i < node->child_count; i++)
            check_one(reading, row, &node->children[i], node);
    }
}

/* The setting with a key, SETTING_COUNT when there is none. */
static setting_id_t find_setting(const char *key, dialect_t dialect, setting_place_t place)
{
    int id = 0;
    while (id < SETTING_COUNT) {
        const char *own = setting_key((setting_id_t)id, dialect, place);
        if (own != NULL && strcmp(own, key) == 0)
            break;
        id++;
    }
    return (setting_id_t)id;
}

static void refuse_key(const reading_t *reading, const toml_node_t *node)
{
    static const char *const others[] = {[PLACE_CMD_ARGS] = "the test is a",
                                         [PLACE_CONFIG] = "without benchmark_type this is a",
                                         [PLACE_ENVIRONMENT] = ""};
    suggestion_t suggestion = {.word = node->key};
    if (find_setting(node->key, DIALECT_MOE_BENCHMARK, reading->place) != SETTING_COUNT) {
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, node,
                     reading->prefix, "it is a key of %s, and %s %s",
                     dialect_names[DIALECT_MOE_BENCHMARK], others[reading->place],
                     dialect_names[reading->dialect]);
        return;
    }
    for (int i = 0; i < SETTING_COUNT && !mistakes_are_full(reading->mistakes); i++) {
        const char *key = setting_key((setting_id_t)i, reading->dialect, reading->place);
        if (key != NULL)
            suggestion_offer(&suggestion, key);
    }
    if (suggestion.nearest != NULL)
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, node,
                     reading->prefix, "there is no such key, is it '%s'?", suggestion.nearest);
    else
        mistakes_add(reading->mistakes, SEVERITY_ERROR, reading->layer->source, node,
                     reading->prefix, "there is no such key");
}

void settings_init(setting_t settings[SETTING_COUNT])
{
    for (int i = 0; i < SETTING_COUNT; i++)
        settings[i] = (setting_t){.value_count = 1, .is_sound = true};
}

static void read_setting(const reading_t *reading, const toml_node_t *node,
                         setting_t settings[SETTING_COUNT])
{
    setting_id_t id = find_setting(node->key, reading->dialect, reading->place);
    if (id == SETTING_COUNT) {
        refuse_key(reading, node);
        return;
    }
    bool is_sweep = node->kind == TOML_KIND_ARRAY && rows[id].type != SETTING_TYPE_TEXTS;
    size_t found_count = reading->mistakes->found_count;
    check_setting(reading, &rows[id], node);
    settings[id] = (setting_t){.source = reading->layer->source,
                               .node = node,
                               .prefix = reading->prefix,
                               .value_count = is_sweep ? node->child_count : 1,
                               .is_sound = reading->mistakes->found_count == found_count};
}

void settings_read(const layer_t *layers, int32_t layer_count, dialect_t dialect,
                   setting_place_t place, setting_t settings[SETTING_COUNT], mistakes_t *mistakes)
{
    for (int32_t i = 0; i < layer_count; i++) {
        reading_t reading = {.layer = &layers[i],
                             .prefix = place == PLACE_CMD_ARGS ? "cmd_args" : NULL,
                             .dialect = dialect,
                             .place = place,
                             .mistakes = mistakes};
        for (int32_t at = 0; at < layers[i].table->child_count; at++)
            read_setting(&reading, &layers[i].table->children[at], settings);
    }
}

setting_value_t setting_value(const setting_t *setting, setting_id_t id, int32_t index)
{
    const setting_row_t *row = &rows[id];
    const toml_node_t *node = setting->node;
    setting_value_t value = {.number = row->value_default, .text = row->text_default};
    if (node != NULL && row->type == SETTING_TYPE_TEXTS) {
        value.list = node;
        return value;
    }
    if (node != NULL && node->kind == TOML_KIND_ARRAY)
        node = &node->children[index];
    if (node != NULL && row->type == SETTING_TYPE_TEXT)
        value.text = node->string;
    else if (node != NULL && !read_number(row, node, &value.number))
        value.number = row->value_default;
    if (row->type == SETTING_TYPE_CHOICE)
        value.text = row->choices[value.number];
    return value;
}
