/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of keys. */
#include "suite/keys.h"

#include "bench/suggest.h"
#include "suite/words.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEYS(rows)                                                                                 \
    {                                                                                              \
        rows, sizeof(rows) / sizeof((rows)[0])                                                     \
    }

/* Of tests, wherever they are written. */
#define TEST_KEYS(needed)                                                                          \
    {.name = "name", .takes = KEY_TEXT, .is_needed = (needed), .effect = "names the test"},        \
        {.name = "description",                                                                    \
         .takes = KEY_TEXT,                                                                        \
         .is_needed = (needed),                                                                    \
         .effect = "kept in the record"},                                                          \
        {.name = "test_template_name",                                                             \
         .takes = KEY_TEXT,                                                                        \
         .is_needed = (needed),                                                                    \
         .effect = "says which keys cmd_args has"},                                                \
        {.name = "cmd_args",                                                                       \
         .takes = KEY_TABLE,                                                                       \
         .is_needed = (needed),                                                                    \
         .effect = "each of its keys has a row of its own here"},                                  \
        {.name = "extra_env_vars",                                                                 \
         .takes = KEY_TABLE,                                                                       \
         .effect = "environment of the ranks; a list is a sweep"},                                 \
        {.name = "extra_cmd_args",                                                                 \
         .takes = KEY_TABLE | KEY_TEXT,                                                            \
         .effect = "none: they are for a program that is not started here"},                       \
        {.name = "extra_container_mounts",                                                         \
         .takes = KEY_TEXTS,                                                                       \
         .effect = "none: no container is started here",                                           \
         .slurm_effect = "--container-mounts of srun, when the system asks for containers"},       \
        {.name = "git_repos",                                                                      \
         .takes = KEY_TABLES,                                                                      \
         .effect = "none: nothing is fetched, Moxie itself is the benchmark"},                     \
    {                                                                                              \
        .name = "nsys", .takes = KEY_TABLE,                                                        \
        .effect = "none: use_kineto_profiler writes a timeline without Nsight"                     \
    }

static const key_row_t test_rows[] = {TEST_KEYS(true)};

static const key_row_t scenario_rows[] = {
    {.name = "name", .takes = KEY_TEXT, .is_needed = true, .effect = "names the output folder"},
    {.name = "Tests", .takes = KEY_TABLES, .is_needed = true, .effect = "what is run"},
};

static const key_row_t entry_rows[] = {
    {.name = "id", .takes = KEY_TEXT, .is_needed = true, .effect = "names the test's folder"},
    {.name = "test_name", .takes = KEY_TEXT, .effect = "the test whose fields are the base"},
    {.name = "num_nodes",
     .takes = KEY_NUMBER | KEY_NUMBERS,
     .value_min = 1,
     .value_max = 4096,
     .effect = "ranks: so many times the ranks of a node; a list is a sweep",
     .slurm_effect = "--nodes of sbatch; a list is a sweep"},
    {.name = "nodes",
     .takes = KEY_TEXT | KEY_TEXTS,
     .effect = "number and names of the simulated nodes; wins over num_nodes",
     .slurm_effect = "--partition, --nodes and --nodelist of sbatch; wins over num_nodes"},
    {.name = "exclude_nodes",
     .takes = KEY_TEXT | KEY_TEXTS,
     .effect = "these are not taken from nodes",
     .slurm_effect = "these are not taken from nodes; without nodes --exclude of sbatch"},
    {.name = "weight",
     .takes = KEY_FRACTION,
     .value_max = INT32_MAX,
     .effect = "kept in the record"},
    {.name = "iterations",
     .takes = KEY_NUMBER,
     .value_min = 1,
     .value_max = 10000,
     .effect = "the test is run so many times, a folder each"},
    {.name = "time_limit",
     .takes = KEY_TEXT,
     .effect = "a run that takes longer is ended",
     .slurm_effect = "--time of sbatch, which Slurm rounds up to a minute"},
    {.name = "dependencies",
     .takes = KEY_TABLES,
     .effect = "order of the tests; end_post_comp has no effect: one test runs at a time",
     .slurm_effect = "--dependency of sbatch; end_post_comp cancels the job"},
    {.name = "extra_srun_args",
     .takes = KEY_TEXT | KEY_TEXTS,
     .has_words = true,
     .effect = "none: srun is not called on this machine",
     .slurm_effect = "options of srun, behind those of the system"},
    TEST_KEYS(false),
};

static const key_row_t dependency_rows[] = {
    {.name = "type", .takes = KEY_TEXT, .is_needed = true},
    {.name = "id", .takes = KEY_TEXT, .is_needed = true},
};

#define NO_SLURM "none: nothing is submitted to Slurm, the tests run on this machine"
#define NO_IMAGE "none: no container is started here"

static const key_row_t system_rows[] = {
    {.name = "name", .takes = KEY_TEXT, .is_needed = true, .effect = "kept in the record"},
    {.name = "scheduler",
     .takes = KEY_TEXT,
     .is_needed = true,
     .effect = NO_SLURM,
     .slurm_effect = "every run is a job of Slurm"},
    {.name = "install_path",
     .takes = KEY_TEXT,
     .is_needed = true,
     .effect = "none: nothing is installed"},
    {.name = "output_path",
     .takes = KEY_TEXT,
     .is_needed = true,
     .effect = "where results go, unless --output-dir says"},
    {.name = "default_partition",
     .takes = KEY_TEXT,
     .is_needed = true,
     .is_line = true,
     .effect = NO_SLURM,
     .slurm_effect = "--partition of sbatch, unless nodes names one"},
    {.name = "partitions",
     .takes = KEY_TABLES,
     .is_needed = true,
     .effect = "names of the nodes that PARTITION:GROUP:N asks for"},
    {.name = "global_env_vars", .takes = KEY_TABLE, .effect = "environment of the ranks"},
    {.name = "monitor_interval",
     .takes = KEY_NUMBER,
     .value_min = 1,
     .value_max = 86400,
     .effect = "none: ranks of this machine are watched without a pause",
     .slurm_effect = "Slurm is asked at least so often, and more often in the beginning"},
    {.name = "account",
     .takes = KEY_TEXT,
     .is_line = true,
     .effect = NO_SLURM,
     .slurm_effect = "--account of sbatch"},
    {.name = "distribution",
     .takes = KEY_TEXT,
     .is_line = true,
     .effect = NO_SLURM,
     .slurm_effect = "--distribution of sbatch"},
    {.name = "mpi",
     .takes = KEY_TEXT,
     .is_line = true,
     .effect = NO_SLURM,
     .slurm_effect = "--mpi of srun"},
    {.name = "gpus_per_node",
     .takes = KEY_NUMBER,
     .value_min = 1,
     .value_max = 512,
     .effect = "ranks of a node",
     .slurm_effect = "ranks of a node; --gpus-per-node of sbatch where the cluster has GPUs"},
    {.name = "ntasks_per_node",
     .takes = KEY_NUMBER,
     .value_min = 1,
     .value_max = 512,
     .effect = "none: Moxie starts the ranks itself",
     .slurm_effect = "--ntasks-per-node of sbatch and srun"},
    {.name = "cache_docker_images_locally",
     .takes = KEY_SWITCH,
     .effect = NO_IMAGE,
     .slurm_effect = "true asks for containers; images are not copied"},
    {.name = "extra_srun_args",
     .takes = KEY_TEXT,
     .has_words = true,
     .effect = NO_SLURM,
     .slurm_effect = "options of srun"},
    {.name = "extra_sbatch_args",
     .takes = KEY_TEXTS,
     .is_line = true,
     .has_words = true,
     .effect = NO_SLURM,
     .slurm_effect = "options of sbatch, behind all others"},
    {.name = "container_mount_home",
     .takes = KEY_SWITCH,
     .effect = NO_IMAGE,
     .slurm_effect = "true asks for containers, with --container-mount-home of srun"},
    {.name = "supports_gpu_directives_cache",
     .takes = KEY_SWITCH,
     .effect = NO_SLURM,
     .slurm_effect = "whether jobs ask for GPUs; Slurm is not asked if they can"},
    {.name = "extra_transient_status_errors",
     .takes = KEY_TEXTS,
     .effect = NO_SLURM,
     .slurm_effect = "none: Slurm is asked again whatever its error"},
    {.name = "status_retry_pause_seconds",
     .takes = KEY_NUMBER,
     .value_max = 86400,
     .effect = NO_SLURM,
     .slurm_effect = "none: monitor_interval says how often Slurm is asked"},
    {.name = "slurm_api",
     .takes = KEY_TABLE,
     .effect = NO_SLURM,
     .slurm_effect = "none: Slurm is asked by its commands"},
    {.name = "data_repository", .takes = KEY_TABLE, .effect = "none: results stay where they are"},
    {.name = "reports", .takes = KEY_TABLE, .effect = "none: every suite has a report"},
};

static const key_row_t partition_rows[] = {
    {.name = "name", .takes = KEY_TEXT, .is_needed = true, .is_line = true},
    {.name = "groups", .takes = KEY_TABLES},
    {.name = "nodes",
     .takes = KEY_TEXTS,
     .effect = "none: groups have the nodes, Slurm has the partition"},
};

static const key_row_t group_rows[] = {
    {.name = "name", .takes = KEY_TEXT, .is_needed = true},
    {.name = "nodes", .takes = KEY_TEXTS, .is_needed = true},
};

const key_table_t keys_of_test = KEYS(test_rows);
const key_table_t keys_of_scenario = KEYS(scenario_rows);
const key_table_t keys_of_entry = KEYS(entry_rows);
const key_table_t keys_of_dependency = KEYS(dependency_rows);
const key_table_t keys_of_system = KEYS(system_rows);
const key_table_t keys_of_partition = KEYS(partition_rows);
const key_table_t keys_of_group = KEYS(group_rows);

const key_row_t *keys_find(const key_table_t *keys, const char *name)
{
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->rows[i].name, name) == 0)
            return &keys->rows[i];
    return NULL;
}

static bool fraction_to_number(double fraction, int64_t *out)
{
    bool is_whole = fabs(fraction) < 0x1p53 && trunc(fraction) == fraction;
    *out = is_whole ? (int64_t)fraction : 0;
    return is_whole;
}

bool value_number(const toml_node_t *node, int64_t *out)
{
    char *end = NULL;
    if (node->kind == TOML_KIND_INTEGER) {
        *out = node->integer;
        return true;
    }
    if (node->kind == TOML_KIND_FRACTION)
        return fraction_to_number(node->fraction, out);
    if (node->kind != TOML_KIND_STRING)
        return false;
    const char *digits = node->string + (node->string[0] == '-' || node->string[0] == '+');
    size_t length = strspn(digits, "0123456789");
    if (length == 0)
        return false;
    errno = 0;
    *out = strtoll(node->string, &end, 10);
    end += end[0] == '.' ? 1 + strspn(end + 1, "0") : 0; /* "1024.0" */
    return *end == '\0' && errno == 0;
}

bool value_switch(const toml_node_t *node, int64_t *out)
{
    static const char *const words[2][6] = {{"0", "off", "f", "false", "n", "no"},
                                            {"1", "on", "t", "true", "y", "yes"}};
    if (node->kind == TOML_KIND_BOOLEAN) {
        *out = node->integer;
        return true;
    }
    if (node->kind == TOML_KIND_STRING) {
        for (int i = 0; i < 12; i++)
            if (strcasecmp(words[i / 6][i % 6], node->string) == 0) {
                *out = i / 6;
                return true;
            }
        return false;
    }
    return value_number(node, out) && (*out == 0 || *out == 1);
}

int32_t value_text_count(const toml_node_t *node)
{
    if (node == NULL)
        return 0;
    return node->kind == TOML_KIND_ARRAY ? node->child_count : 1;
}

const char *value_text(const toml_node_t *node, int32_t index)
{
    return node->kind == TOML_KIND_ARRAY ? node->children[index].string : node->string;
}

static void refuse_key(const key_table_t *keys, const layer_t *layer, const toml_node_t *node,
                       const char *prefix, mistakes_t *mistakes)
{
    suggestion_t suggestion = {.word = node->key};
    for (size_t i = 0; i < keys->count && !mistakes_are_full(mistakes); i++)
        suggestion_offer(&suggestion, keys->rows[i].name);
    if (suggestion.nearest != NULL)
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, prefix,
                     "there is no such key, is it '%s'?", suggestion.nearest);
    else
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, prefix, "there is no such key");
}

static bool is_list_of(const toml_node_t *node, toml_kind_t kind)
{
    for (int32_t i = 0; i < node->child_count; i++)
        if (node->children[i].kind != kind)
            return false;
    return true;
}

/* Whether a value has a type that the row takes. */
static bool is_taken(const key_row_t *row, const toml_node_t *node)
{
    int64_t number;
    switch (node->kind) {
    case TOML_KIND_ARRAY:
        return ((row->takes & KEY_TEXTS) != 0 && is_list_of(node, TOML_KIND_STRING)) ||
               ((row->takes & KEY_TABLES) != 0 && (node->child_count > 0 || !row->is_needed) &&
                is_list_of(node, TOML_KIND_TABLE)) ||
               ((row->takes & KEY_NUMBERS) != 0 && node->child_count > 0);
    case TOML_KIND_TABLE:
        return (row->takes & KEY_TABLE) != 0;
    case TOML_KIND_OTHER:
        return false;
    default:
        return ((row->takes & KEY_TEXT) != 0 && node->kind == TOML_KIND_STRING) ||
               ((row->takes & KEY_NUMBER) != 0 && value_number(node, &number)) ||
               ((row->takes & KEY_FRACTION) != 0 &&
                (node->kind == TOML_KIND_FRACTION || node->kind == TOML_KIND_INTEGER)) ||
               ((row->takes & KEY_SWITCH) != 0 && value_switch(node, &number));
    }
}

/* "a string or a list of strings" */
static void name_types(uint32_t takes, char *out, size_t size)
{
    static const char *const names[] = {
        "a string",          "a whole number",          "a number", "true or false",
        "a list of strings", "a list of whole numbers", "a table",  "a list of tables",
    };
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((takes >> i & 1) != 0 && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used == 0 ? "" : " or ",
                                     names[i]);
}

static void check_range(const key_row_t *row, const layer_t *layer, const toml_node_t *node,
                        const toml_node_t *place, const char *prefix, mistakes_t *mistakes)
{
    int64_t number = 0;
    double value = node->fraction;
    if (node->kind != TOML_KIND_FRACTION || (row->takes & KEY_FRACTION) == 0) {
        if (!value_number(node, &number)) {
            mistakes_add(mistakes, SEVERITY_ERROR, layer->source, place, prefix,
                         "must be a whole number, not %s", node->kind_name);
            return;
        }
        value = (double)number;
    }
    if (!(value >= (double)row->value_min && value <= (double)row->value_max))
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, place, prefix,
                     "%g is out of range, it can be %" PRId64 " to %" PRId64, value, row->value_min,
                     row->value_max);
}

/* What becomes a part of a script. */
static void check_texts(const key_row_t *row, const layer_t *layer, const toml_node_t *node,
                        const char *prefix, mistakes_t *mistakes)
{
    for (int32_t i = 0; i < value_text_count(node); i++) {
        const char *why = NULL;
        const char *text = value_text(node, i);
        words_t words = {0};
        for (const char *c = text == NULL ? "" : text; row->is_line && *c != '\0'; c++)
            if (iscntrl((unsigned char)*c))
                why = "it must be one line, without control characters";
        if (row->has_words && text != NULL && why == NULL)
            (void)words_add(&words, text, &why);
        if (why != NULL)
            mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, prefix, "%s", why);
        words_release(&words);
    }
}

static void check_value(const key_row_t *row, const layer_t *layer, const toml_node_t *node,
                        const char *prefix, mistakes_t *mistakes)
{
    char types[160];
    if (!is_taken(row, node)) {
        name_types(row->takes, types, sizeof(types));
        mistakes_add(mistakes, SEVERITY_ERROR, layer->source, node, prefix, "must be %s, not %s",
                     types,
                     node->child_count == 0 && node->kind == TOML_KIND_ARRAY ? "an empty list"
                                                                             : node->kind_name);
    } else if (node->kind == TOML_KIND_ARRAY && (row->takes & KEY_NUMBERS) != 0) {
        for (int32_t i = 0; i < node->child_count; i++)
            check_range(row, layer, &node->children[i], node, prefix, mistakes);
    } else if ((row->takes & (KEY_NUMBER | KEY_FRACTION)) != 0) {
        check_range(row, layer, node, node, prefix, mistakes);
    }
    if (row->is_line || row->has_words)
        check_texts(row, layer, node, prefix, mistakes);
}

void keys_check(const key_table_t *keys, const layer_t *layer, const char *prefix, bool with_needed,
                mistakes_t *mistakes)
{
    for (int32_t i = 0; i < layer->table->child_count; i++) {
        const toml_node_t *node = &layer->table->children[i];
        const key_row_t *row = keys_find(keys, node->key);
        if (row == NULL)
            refuse_key(keys, layer, node, prefix, mistakes);
        else
            check_value(row, layer, node, prefix, mistakes);
    }
    for (size_t i = 0; with_needed && i < keys->count; i++)
        if (keys->rows[i].is_needed && toml_find(layer->table, keys->rows[i].name) == NULL)
            mistakes_add(mistakes, SEVERITY_ERROR, layer->source, layer->table, prefix,
                         "the key '%s' is missing", keys->rows[i].name);
}
