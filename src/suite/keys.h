/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the tables in the files of a suite: which there are, what they take, what becomes of
 * them. One table of rows makes the checks, and what the record says of each key. */
#ifndef MOXIE_SUITE_KEYS_H
#define MOXIE_SUITE_KEYS_H

#include "suite/mistakes.h"

/* What a key takes. */
enum {
    KEY_TEXT = 1 << 0,
    KEY_NUMBER = 1 << 1,   /* whole, within the row's limits */
    KEY_FRACTION = 1 << 2, /* any number, within the row's limits */
    KEY_SWITCH = 1 << 3,
    KEY_TEXTS = 1 << 4,   /* a list */
    KEY_NUMBERS = 1 << 5, /* a list that is not empty */
    KEY_TABLE = 1 << 6,
    KEY_TABLES = 1 << 7, /* a list that is not empty */
};

typedef struct key_row {
    const char *name;
    uint32_t takes;
    bool is_needed;
    int64_t value_min; /* numbers */
    int64_t value_max;
    bool is_line;       /* texts: they become a line of a script, without control characters */
    bool has_words;     /* texts: they are options of a command */
    const char *effect; /* what it does in a run on this machine */
    const char *slurm_effect; /* and under Slurm; NULL: the same */
} key_row_t;

/* The keys of a table; `count` rows. */
typedef struct key_table {
    const key_row_t *rows;
    size_t count;
} key_table_t;

/* Keys of files, and of what lies in them. */
extern const key_table_t keys_of_test;
extern const key_table_t keys_of_scenario;
extern const key_table_t keys_of_entry; /* of Tests; the test's own keys may stand there, too */
extern const key_table_t keys_of_dependency;
extern const key_table_t keys_of_system;
extern const key_table_t keys_of_partition;
extern const key_table_t keys_of_group;

/* The row of a key, or NULL. */
const key_row_t *keys_find(const key_table_t *keys, const char *name);

/* Refuses keys that there are not, values of the wrong type and numbers out of range; with
 * `with_needed` also that a key is missing. */
void keys_check(const key_table_t *keys, const layer_t *layer, const char *prefix, bool with_needed,
                mistakes_t *mistakes);

/* Whole numbers as they are, as text ("1024") or as fractions without one (1024.0). */
bool value_number(const toml_node_t *node, int64_t *out);

/* true and false, 0 and 1, and "yes", "on", "t" … in any case. */
bool value_switch(const toml_node_t *node, int64_t *out);

/* The strings of a key that takes one or a list: how many, and each. */
int32_t value_text_count(const toml_node_t *node);
const char *value_text(const toml_node_t *node, int32_t index);

#endif
