/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, and how a value is read into its field. */
#include "bench/options.h"

#include "bench/suggest.h"
#include "moxie/group.h"
#include "moxie/route.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(field) offsetof(options_t, field)
#define NUMBER(field, lowest, highest)                                                             \
    .type = OPTION_TYPE_NUMBER, .offset = FIELD(field), .value_min = (lowest),                     \
    .value_max = (highest)
#define CHOICE(field, words, built)                                                                \
    .type = OPTION_TYPE_CHOICE, .offset = FIELD(field), .placeholder = (words),                    \
    .choices = (words), .built_count = (built)
#define TEXT(field, word) .type = OPTION_TYPE_TEXT, .offset = FIELD(field), .placeholder = (word)
#define SWITCH(field)     .type = OPTION_TYPE_SWITCH, .offset = FIELD(field)

/* clang-format off: one option a paragraph */
static const option_row_t table[OPTION_COUNT] = {
    [OPTION_SHAPE] = {.name = "shape",
                      TEXT(shape, "NAME"),
                      .text_default = "qwen3-30b-a3b",
                      .help =
                          "Model whose MoE layer gives hidden, experts and topk: qwen3-30b-a3b, "
                          "qwen3-235b-a22b, deepseek-v3, mixtral-8x7b or gpt-oss-120b"},
    [OPTION_CONFIG] =
        {.name = "config",
         TEXT(config, "FILE.toml"),
         .help = "Take options from a TOML file: the names of the flags, underscores for dashes, "
                 "at top level. A flag on the command line wins"},
    [OPTION_RANKS] = {.name = "ranks",
                      .placeholder = "N",
                      NUMBER(ranks, 1, MOXIE_RANK_COUNT_MAX),
                      .value_default = 4,
                      .text_default = "4; on cuda as many as GPUs, up to 8",
                      .help = "Ranks that exchange with each other, one process each; on cuda one "
                              "GPU each, or as threads of one process on the only GPU"},
    [OPTION_BACKEND] = {.name = "backend",
                        CHOICE(backend, "auto|shm|cuda", 3),
                        .help =
                            "How the ranks reach each other; auto takes the best that works here"},
    [OPTION_MODE] = {.name = "mode",
                     CHOICE(mode, "standard|low_latency", 2),
                     .help = "Exchange for many tokens, or for few as in decoding: every row has a "
                             "fixed slot, and nothing travels ahead of the rows"},
    [OPTION_LAYOUT] = {.name = "layout",
                       CHOICE(layout, "rank_major|expert_major", 2),
                       .help = "Order of the received rows"},
    [OPTION_DIRECTION] = {.name = "direction",
                          CHOICE(direction, "forward|backward", 2),
                          .help = "Measure dispatch and combine, or the backward of each"},
    [OPTION_ROUTE] =
        {.name = "route",
         CHOICE(route, "fresh|cached", 2),
         .help = "Derive the route anew in each dispatch, as a new batch needs, or use one route "
                 "again; backward always uses the forward's"},
    [OPTION_LAUNCH] = {.name = "launch",
                       CHOICE(launch, "stream|graph", 2),
                       .help = "cuda: launch each call by itself, or ten as a CUDA graph"},
    [OPTION_TOKENS] = {.name = "tokens",
                       .placeholder = "T",
                       NUMBER(tokens, 1, 1 << 24),
                       .text_default = "4096; in low_latency 128",
                       .help = "Tokens of a rank"},
    [OPTION_HIDDEN] = {.name = "hidden",
                       .placeholder = "H",
                       NUMBER(hidden, 1, 1 << 20),
                       .text_default = "the shape's",
                       .help = "Elements of a row"},
    [OPTION_EXPERTS] = {.name = "experts",
                        .placeholder = "E",
                        NUMBER(experts, 1, 1 << 20),
                        .text_default = "the shape's",
                        .help = "Experts in all"},
    [OPTION_TOPK] = {.name = "topk",
                     .placeholder = "K",
                     NUMBER(topk, 1, MOXIE_TOPK_MAX),
                     .text_default = "the shape's",
                     .help = "Experts of a token"},
    [OPTION_DTYPE] = {.name = "dtype",
                      CHOICE(dtype, "bf16|fp8", 2),
                      .help =
                          "Element type of dispatched rows; fp8 ones have an fp32 scale for each "
                          "128 columns. Combine is bf16"},
    [OPTION_QUANTIZE] = {.name = "quantize",
                         CHOICE(quantize, "ahead|fused", 2),
                         .help = "fp8: dispatch rows that are fp8 already, or rows of bf16 that it "
                                 "quantizes on the way"},
    [OPTION_ROUTING] =
        {.name = "routing",
         TEXT(routing, "ROUTING"),
         .text_default = "uniform",
         .help = "Who goes where: uniform, balanced, zipf:S (the i-th most popular expert is drawn "
                 "in proportion to 1/i^S), text:FILE (the words of a text, so that repeated words "
                 "give the skew "
                 "of real traffic) or file:PATH (a recorded routing)"},
    [OPTION_RECORD_ROUTING] = {.name = "record-routing",
                               TEXT(record_routing, "PATH"),
                               .help =
                                   "Write the routing to a file that --routing file:PATH replays"},
    [OPTION_SEED] = {.name = "seed",
                     .placeholder = "S",
                     NUMBER(seed, 0, INT64_MAX),
                     .value_default = 1,
                     .help = "Seed of routing and payload"},
    [OPTION_WARMUPS] = {.name = "warmups",
                        .placeholder = "W",
                        NUMBER(warmups, 0, 1000000),
                        .value_default = 10,
                        .help = "Iterations before the timed ones"},
    [OPTION_ITERATIONS] = {.name = "iterations",
                           .placeholder = "I",
                           NUMBER(iterations, 1, 1000000),
                           .value_default = 50,
                           .help = "Timed iterations"},
    [OPTION_CAPACITY] = {.name = "capacity",
                         .placeholder = "ROWS",
                         NUMBER(capacity, 1, INT64_C(1) << 40),
                         .text_default = "the worst case",
                         .help = "Rows that a rank has room to receive"},
    [OPTION_SMS] = {.name = "sms",
                    .placeholder = "N",
                    NUMBER(sms, 1, 1024),
                    .text_default = "as the settings sms, duplicate_sms and combine_sms say",
                    .help = "cuda: multiprocessors that each call may take"},
    [OPTION_BASELINE] = {.name = "baseline",
                         CHOICE(baseline, "none|mpi|mpi-dedup|nccl", 4),
                         .help =
                             "Measure another exchange in turns with Moxie's: mpi sends every "
                             "(token, expert) row by MPI_Alltoallv, mpi-dedup a row once to "
                             "a rank; nccl, on cuda, sends every (token, expert) row by grouped "
                             "ncclSend and ncclRecv"},
    [OPTION_TIMEOUT] =
        {.name = "timeout",
         .placeholder = "SECONDS",
         NUMBER(timeout, 1, 86400),
         .value_default = 30,
         .help = "Deadline of a call; the first one and the start have ten times as long"},
    [OPTION_TRACE] = {.name = "trace",
                      TEXT(trace, "FILE"),
                      .help = "Write a timeline of some more iterations for chrome://tracing or "
                              "Perfetto: a track a rank, a span a phase; not on cuda"},
    [OPTION_OUTPUT_DIR] = {.name = "output-dir",
                           TEXT(output_dir, "DIR"),
                           .help = "Write bench.json and bench.txt into a new folder in DIR"},
    [OPTION_LAYER] = {.name = "layer",
                      SWITCH(layer),
                      .is_later = true,
                      .help = "Time a whole MoE layer as well"},
    [OPTION_JSON] = {.name = "json",
                     SWITCH(json),
                     .help = "Put one JSON document on standard output instead of the table"},
};
/* clang-format on */

static void *field_of(options_t *options, option_id_t id)
{
    return (char *)options + table[id].offset;
}

static int64_t number_of(const options_t *options, option_id_t id)
{
    int64_t number;
    memcpy(&number, (const char *)options + table[id].offset, sizeof(number));
    return number;
}

const option_row_t *option_row(option_id_t id)
{
    return &table[id];
}

bool options_init(options_t *options)
{
    *options = (options_t){0};
    for (option_id_t id = 0; id < OPTION_COUNT; id++) {
        const option_row_t *row = &table[id];
        if (row->type != OPTION_TYPE_TEXT) {
            *(int64_t *)field_of(options, id) = row->value_default;
        } else if (row->text_default != NULL) {
            char *text = strdup(row->text_default);
            if (text == NULL)
                return false;
            *(char **)field_of(options, id) = text;
        }
    }
    return true;
}

void options_release(options_t *options)
{
    for (option_id_t id = 0; id < OPTION_COUNT; id++)
        if (table[id].type == OPTION_TYPE_TEXT)
            free(*(char **)field_of(options, id));
    *options = (options_t){0};
}

bool option_is_given(const options_t *options, option_id_t id)
{
    return options->origin[id].kind != ORIGIN_DEFAULT;
}

const char *option_key(option_id_t id, char key[OPTION_KEY_BYTES])
{
    (void)snprintf(key, OPTION_KEY_BYTES, "%s", table[id].name);
    for (char *c = key; *c != '\0'; c++)
        if (*c == '-')
            *c = '_';
    return key;
}

const char *option_where(const options_t *options, option_id_t id, char where[OPTION_WHERE_BYTES])
{
    char key[OPTION_KEY_BYTES];
    if (options->origin[id].kind == ORIGIN_FILE)
        (void)snprintf(where, OPTION_WHERE_BYTES, "%.400s:%d: %.64s", options->config,
                       options->origin[id].line, option_key(id, key));
    else
        (void)snprintf(where, OPTION_WHERE_BYTES, "--%s", table[id].name);
    return where;
}

const char *option_word(const options_t *options, option_id_t id, char word[OPTION_WHERE_BYTES])
{
    const char *at = table[id].choices;
    for (int64_t skip = number_of(options, id); skip > 0; skip--)
        at = strchr(at, '|') + 1;
    (void)snprintf(word, OPTION_WHERE_BYTES, "%.*s", (int)strcspn(at, "|"), at);
    return word;
}

/* The index of a word among "a|b|c", or -1. */
static int64_t choice_index(const char *choices, const char *word)
{
    size_t length = strlen(word);
    int64_t index = 0;
    for (const char *at = choices; length > 0; at++, index++) {
        size_t choice_length = strcspn(at, "|");
        if (choice_length == length && memcmp(at, word, length) == 0)
            return index;
        at += choice_length;
        if (*at == '\0')
            break;
    }
    return -1;
}

/* A whole decimal number and nothing else; `errno` says whether it was too large. */
static bool parse_number(const char *text, int64_t *number)
{
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    if (!isdigit((unsigned char)digits[0]))
        return false;
    char *end = NULL;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return *end == '\0';
}

bool option_set_number(options_t *options, option_id_t id, option_origin_t origin, int64_t number,
                       failure_t *failure)
{
    const option_row_t *row = &table[id];
    char where[OPTION_WHERE_BYTES];
    options->origin[id] = origin;
    if (row->type == OPTION_TYPE_NUMBER && (number < row->value_min || number > row->value_max))
        return failure_set(failure, EXIT_USAGE,
                           "%s: %" PRId64 " is out of range, it can be %" PRId64 " to %" PRId64,
                           option_where(options, id, where), number, row->value_min,
                           row->value_max);
    *(int64_t *)field_of(options, id) = number;
    return true;
}

static bool set_number_text(options_t *options, option_id_t id, option_origin_t origin,
                            const char *text, failure_t *failure)
{
    const option_row_t *row = &table[id];
    char where[OPTION_WHERE_BYTES];
    int64_t number = 0;
    if (!parse_number(text, &number))
        return failure_set(failure, EXIT_USAGE, "%s: '%.100s' is not a whole number",
                           option_where(options, id, where), text);
    if (errno == ERANGE)
        return failure_set(failure, EXIT_USAGE,
                           "%s: %.100s is out of range, it can be %" PRId64 " to %" PRId64,
                           option_where(options, id, where), text, row->value_min, row->value_max);
    return option_set_number(options, id, origin, number, failure);
}

static bool set_owned_text(options_t *options, option_id_t id, const char *text, failure_t *failure)
{
    char where[OPTION_WHERE_BYTES];
    if (text[0] == '\0')
        return failure_set(failure, EXIT_USAGE, "%s: must not be empty",
                           option_where(options, id, where));
    char *copy = strdup(text);
    if (copy == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory");
    char **field = field_of(options, id);
    free(*field);
    *field = copy;
    return true;
}

bool option_set_text(options_t *options, option_id_t id, option_origin_t origin, const char *text,
                     failure_t *failure)
{
    const option_row_t *row = &table[id];
    char where[OPTION_WHERE_BYTES];
    options->origin[id] = origin;
    if (row->type == OPTION_TYPE_NUMBER)
        return set_number_text(options, id, origin, text, failure);
    if (row->type == OPTION_TYPE_TEXT)
        return set_owned_text(options, id, text, failure);
    int64_t index = choice_index(row->choices, text);
    if (index < 0)
        return failure_set(failure, EXIT_USAGE, "%s: '%.100s' is none of %s",
                           option_where(options, id, where), text, row->choices);
    *(int64_t *)field_of(options, id) = index;
    return true;
}

bool options_check_built(const options_t *options, failure_t *failure)
{
    char where[OPTION_WHERE_BYTES];
    char word[OPTION_WHERE_BYTES];
    for (option_id_t id = 0; id < OPTION_COUNT; id++) {
        const option_row_t *row = &table[id];
        if (!option_is_given(options, id))
            continue;
        if (row->type == OPTION_TYPE_CHOICE && number_of(options, id) >= row->built_count)
            return failure_set(failure, EXIT_UNAVAILABLE, "%s %s is not built yet",
                               option_where(options, id, where), option_word(options, id, word));
        if (row->type == OPTION_TYPE_SWITCH && number_of(options, id) == 0)
            continue;
        if (row->is_later)
            return failure_set(failure, EXIT_UNAVAILABLE, "%s is not built yet",
                               option_where(options, id, where));
    }
    return true;
}
