/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of cmd_args in all dialects: one table makes the checks, the defaults, config.yaml and
 * the options of the benchmark. */
#ifndef MOXIE_SUITE_SETTING_H
#define MOXIE_SUITE_SETTING_H

#include "bench/options.h"
#include "suite/mistakes.h"

/* What test_template_name says. */
typedef enum dialect {
    DIALECT_DEEPEP_BENCHMARK, /* "DeepEPBenchmark" */
    DIALECT_DEEPEP,           /* "DeepEP", the same keys */
    DIALECT_MOE_BENCHMARK,    /* "MoEBenchmark", some more */
    DIALECT_COUNT
} dialect_t;

/* The name of a dialect. */
const char *dialect_name(dialect_t dialect);

/* Finds a dialect; false when no dialect has that name, then `*nearest` is a similar one or NULL.
 */
bool dialect_find(const char *name, dialect_t *out, const char **nearest);

typedef enum setting_id {
    SETTING_DOCKER_IMAGE_URL,
    SETTING_MODE,
    SETTING_TOKENS,
    SETTING_NUM_EXPERTS,
    SETTING_NUM_TOPK,
    SETTING_HIDDEN_SIZE,
    SETTING_DATA_TYPE,
    SETTING_ALLOW_NVLINK,
    SETTING_ALLOW_MNNVL,
    SETTING_ROUND_SCALE,
    SETTING_USE_UE8M0,
    SETTING_SHUFFLE_COLUMNS,
    SETTING_USE_KINETO_PROFILER,
    SETTING_NUM_WARMUPS,
    SETTING_NUM_ITERATIONS,
    SETTING_NUM_SMS,
    SETTING_NUM_QPS,
    SETTING_CONFIG_FILE_PATH,
    SETTING_RESULTS_DIR,
    SETTING_BENCHMARK_ROOT,
    SETTING_DEEPEP_VERSIONS,
    SETTING_BENCHMARK_COMBINE,
    SETTING_ENABLE_TUNING,
    SETTING_V2_NUM_SMS,
    SETTING_V2_NUM_QPS,
    SETTING_V2_PREFER_OVERLAP,
    SETTING_COUNT
} setting_id_t;

typedef enum setting_type {
    SETTING_TYPE_TEXT,
    SETTING_TYPE_TEXTS, /* a list of strings */
    SETTING_TYPE_NUMBER,
    SETTING_TYPE_SWITCH,
    SETTING_TYPE_CHOICE
} setting_type_t;

typedef struct setting_row {
    const char *name;
    setting_type_t type;
    bool is_of_moe_only; /* a key of MoEBenchmark alone */
    bool is_in_config;   /* a line of config.yaml, in the order of the rows, if of its dialect */
    bool has_option;     /* of the benchmark: then its limits are the key's */
    option_id_t option;
    int64_t value_default; /* numbers, switches, choices: the index */
    int64_t value_min;     /* numbers without an option */
    int64_t value_max;
    const char *text_default; /* texts; NULL: none */
    const char *choices[2];
    const char *effect;       /* in a run on this machine, of those without an option */
    const char *slurm_effect; /* and under Slurm, of all; NULL: the same */
} setting_row_t;

const setting_row_t *setting_row(setting_id_t id);

/* Whether a dialect has the key. */
bool setting_is_of(setting_id_t id, dialect_t dialect);

/* Where somebody may give settings. */
typedef enum setting_place {
    PLACE_CMD_ARGS,   /* the table of a test */
    PLACE_CONFIG,     /* config.yaml, which a benchmark is handed */
    PLACE_ENVIRONMENT /* what it is handed beside that */
} setting_place_t;

/* How a setting is called in a place; NULL: it is not given there. */
const char *setting_key(setting_id_t id, dialect_t dialect, setting_place_t place);

/* What the files say of a key. */
typedef struct setting {
    const source_t *source;  /* NULL: nothing, the default holds */
    const toml_node_t *node; /* a value, or a list of them: a sweep */
    const char *prefix;      /* of its key, for mistakes; NULL: none */
    int32_t value_count;     /* >= 1 */
    bool is_sound;           /* no value is a mistake by itself */
} setting_t;

/* One value. */
typedef struct setting_value {
    int64_t number;          /* numbers, switches, choices: the index */
    const char *text;        /* texts and choices: the word; NULL: none */
    const toml_node_t *list; /* lists of texts; NULL: none */
} setting_value_t;

/* Nobody has said anything yet. */
void settings_init(setting_t settings[SETTING_COUNT]);

/* Checks tables of a place, and fills what they say into the settings: later ones win. */
void settings_read(const layer_t *layers, int32_t layer_count, dialect_t dialect,
                   setting_place_t place, setting_t settings[SETTING_COUNT], mistakes_t *mistakes);

/* The value with an index among those of a sound setting. */
setting_value_t setting_value(const setting_t *setting, setting_id_t id, int32_t index);

#endif
