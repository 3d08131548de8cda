/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `moxie bench`: one table makes the flags, their help, the keys of --config files
 * and the checks of values. */
#ifndef MOXIE_BENCH_OPTIONS_H
#define MOXIE_BENCH_OPTIONS_H

#include "bench/failure.h"

#include <stddef.h>
#include <stdint.h>

/* In the order of the contract. */
typedef enum option_id {
    OPTION_SHAPE,
    OPTION_CONFIG,
    OPTION_RANKS,
    OPTION_BACKEND,
    OPTION_MODE,
    OPTION_LAYOUT,
    OPTION_DIRECTION,
    OPTION_ROUTE,
    OPTION_LAUNCH,
    OPTION_TOKENS,
    OPTION_HIDDEN,
    OPTION_EXPERTS,
    OPTION_TOPK,
    OPTION_DTYPE,
    OPTION_QUANTIZE,
    OPTION_ROUTING,
    OPTION_RECORD_ROUTING,
    OPTION_SEED,
    OPTION_WARMUPS,
    OPTION_ITERATIONS,
    OPTION_CAPACITY,
    OPTION_SMS,
    OPTION_BASELINE,
    OPTION_TIMEOUT,
    OPTION_TRACE,
    OPTION_OUTPUT_DIR,
    OPTION_LAYER,
    OPTION_JSON,
    OPTION_COUNT
} option_id_t;

/* What a value is and the type of its field in options_t. */
typedef enum option_type {
    OPTION_TYPE_NUMBER, /* int64_t */
    OPTION_TYPE_CHOICE, /* int64_t, the index of the word in `choices` */
    OPTION_TYPE_TEXT,   /* char *, owned */
    OPTION_TYPE_SWITCH  /* int64_t, 0 or 1 */
} option_type_t;

/* One row of the table. */
typedef struct option_row {
    const char *name;         /* the flag without its dashes; the key has underscores for dashes */
    const char *placeholder;  /* of the argument; NULL for a switch */
    option_type_t type;       /* what it takes */
    size_t offset;            /* of its field in options_t */
    int64_t value_default;    /* numbers and choices; 0 where another option decides */
    int64_t value_min;        /* numbers */
    int64_t value_max;        /* numbers */
    const char *choices;      /* "auto|shm|cuda" */
    int64_t built_count;      /* the first so many choices are built, the others not yet */
    bool is_later;            /* numbers, texts and switches: not built yet */
    const char *text_default; /* of a text, or how the help names the default; NULL: none */
    const char *help;         /* one sentence */
} option_row_t;

/* Where a value came from. */
typedef struct option_origin {
    enum { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_FLAG } kind;
    int32_t line; /* of the --config file */
} option_origin_t;

/* Indices of the words in the table's `choices`. */
enum { BACKEND_AUTO, BACKEND_SHM, BACKEND_CUDA };
enum { BASELINE_NONE, BASELINE_MPI, BASELINE_MPI_DEDUP, BASELINE_NCCL };
enum { LAYOUT_RANK_MAJOR, LAYOUT_EXPERT_MAJOR };
enum { DIRECTION_FORWARD, DIRECTION_BACKWARD };
enum { ROUTE_FRESH, ROUTE_CACHED };
enum { LAUNCH_STREAM, LAUNCH_GRAPH };
enum { MODE_STANDARD, MODE_LOW_LATENCY };
enum { DTYPE_BF16, DTYPE_FP8 };
enum { QUANTIZE_AHEAD, QUANTIZE_FUSED };

/* One value an option, and where each came from. */
typedef struct options {
    char *shape;
    char *config;
    int64_t ranks;
    int64_t backend;
    int64_t mode;
    int64_t layout;
    int64_t direction;
    int64_t route;
    int64_t launch;
    int64_t tokens;
    int64_t hidden;
    int64_t experts;
    int64_t topk;
    int64_t dtype;
    int64_t quantize;
    char *routing;
    char *record_routing;
    int64_t seed;
    int64_t warmups;
    int64_t iterations;
    int64_t capacity;
    int64_t sms;
    int64_t baseline;
    int64_t timeout;
    char *trace;
    char *output_dir;
    int64_t layer;
    int64_t json;
    option_origin_t origin[OPTION_COUNT];
} options_t;

/* The row of an option. */
const option_row_t *option_row(option_id_t id);

/* All values as they are when nobody says anything. False when there is no memory. */
bool options_init(options_t *options);

/* Releases what the values own. */
void options_release(options_t *options);

/* Whether a flag or a file gave the option. */
bool option_is_given(const options_t *options, option_id_t id);

/* Gives an option a value written as text: "--tokens 4096", routing = "uniform". */
bool option_set_text(options_t *options, option_id_t id, option_origin_t origin, const char *text,
                     failure_t *failure);

/* Gives a number or a switch (0 or 1) its value. */
bool option_set_number(options_t *options, option_id_t id, option_origin_t origin, int64_t number,
                       failure_t *failure);

/* Room for option_where() and option_word(), and for option_key(). */
enum { OPTION_WHERE_BYTES = 512, OPTION_KEY_BYTES = 32 };

/* Names an option the way the person gave it: "--tokens" or "bench.toml:3: tokens". */
const char *option_where(const options_t *options, option_id_t id, char where[OPTION_WHERE_BYTES]);

/* The key of an option in a --config file. */
const char *option_key(option_id_t id, char key[OPTION_KEY_BYTES]);

/* The word of a choice's value, "rank_major". */
const char *option_word(const options_t *options, option_id_t id, char word[OPTION_WHERE_BYTES]);

/* Refuses, with exit code 77, what is known but not built yet. */
bool options_check_built(const options_t *options, failure_t *failure);

#endif
