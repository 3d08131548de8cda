/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings that `moxie tune` found, as a text file that needs no library: tuning.txt, one entry a
 * line, the newest last. It is made from the tuning database, and only read here.
 *
 *   moxie-tuning 1
 *   backend=shm machine=… mode=standard variant=… ranks=4 tokens=4096 hidden=2048 experts=128
 *   topk=8 knob.spin_count=20 knob.yield_count=100 model_error=31
 *   model.spin_count=20:52000:9100,0:61000:9050              (all on one line)
 *
 * A model tells for values of a knob, the default first and the others as in the entry's run at
 * their default, the latency in ns and the ns of each further MB that a rank sends: what a call is
 * expected to take at sizes far from those that were tuned.
 *
 * The folder is $MOXIE_TUNING, else $XDG_DATA_HOME/moxie, else ~/.local/share/moxie;
 * MOXIE_TUNING=off turns stored settings off. A file that cannot be read, or a line that makes no
 * sense, is passed over: a group is made with other settings, never not made.
 */
#ifndef MOXIE_STORE_SETTINGS_H
#define MOXIE_STORE_SETTINGS_H

#include "store/machine_key.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    SETTINGS_KNOB_COUNT_MAX = 16,
    SETTINGS_NAME_BYTES = 32,
    SETTINGS_VARIANT_BYTES = 64,
    SETTINGS_POINT_COUNT_MAX = 12,
    SETTINGS_LINE_BYTES = 16384
};

/* Beyond this distance a model knows more than an entry. */
#define SETTINGS_NEAR 2.0

/* What an entry is for. In a question, 0 and "" mean: any. */
typedef struct settings_key {
    char backend[16];
    char machine[MACHINE_KEY_BYTES];
    char mode[16];                        /* "standard" */
    char variant[SETTINGS_VARIANT_BYTES]; /* "rank_major/forward/fresh/stream/bf16" */
    int64_t ranks;
    int64_t tokens; /* of a rank */
    int64_t hidden;
    int64_t experts;
    int64_t topk;
} settings_key_t;

/* A knob's stored value. */
typedef struct settings_knob {
    char name[SETTINGS_NAME_BYTES];
    int64_t value;
} settings_knob_t;

/* What a call takes with a value of a knob: latency_ns + ns_per_mb · MB, of both calls where the
 * knob changes both. */
typedef struct settings_point {
    int64_t value;
    int64_t latency_ns;
    int64_t ns_per_mb;
} settings_point_t;

typedef struct settings_model {
    char name[SETTINGS_NAME_BYTES];
    settings_point_t points[SETTINGS_POINT_COUNT_MAX]; /* the default's first */
    int32_t point_count;
} settings_model_t;

typedef struct settings_entry {
    settings_key_t key;
    settings_knob_t knobs[SETTINGS_KNOB_COUNT_MAX];
    int32_t knob_count;
    settings_model_t models[SETTINGS_KNOB_COUNT_MAX];
    int32_t model_count;
    int64_t model_error; /* typical error of the models, in thousandths */
    int is_proposed;     /* the knobs' values are what models propose, for another shape */
} settings_entry_t;

/* The folder of the store; returns 0 when stored settings are turned off, or there is no home. */
int settings_folder(char *path, size_t bytes);

/* The first line of a file. */
#define SETTINGS_HEADER "moxie-tuning 1"

/* The name of the file in the folder. */
#define SETTINGS_FILE "tuning.txt"

/* Reads a line; returns 0 when it makes no sense. */
int settings_parse(const char *line, settings_entry_t *out);

/* Writes an entry as a line; returns 0 when it could not. */
int settings_print(const settings_entry_t *entry, FILE *out);

/* The environment variable in which a program tells the shape of its groups, in the words of the
 * file: "tokens=4096 hidden=2048 experts=128 topk=8". */
#define SETTINGS_SHAPE_VARIABLE "MOXIE_TUNING_SHAPE"

/* Fills in what a text in the words of the file tells of a shape, and leaves the rest of the key;
 * returns 0, and changes nothing, when it makes no sense. */
int settings_take_shape(const char *text, settings_key_t *key);

/*
 * How far an entry's shape is from the wanted one: the sum of the factors' logarithms to base 2,
 * and 1 for another variant. Negative: it is for another backend, machine or mode.
 */
double settings_distance(const settings_key_t *wanted, const settings_key_t *entry);

/* The MB that a rank sends in a call, each token once to each rank that has one of its experts,
 * when all experts are equally likely and rows are of bf16; 0: the key leaves the shape open. */
double settings_mb(const settings_key_t *key);

/*
 * The stored entry nearest to what is wanted, the newest of those that are equally near. Where none
 * is near, and an entry for as many ranks has models, what those propose for the wanted shape. What
 * `wanted` leaves open of the shape is taken from $MOXIE_TUNING_SHAPE; a machine that it leaves
 * open is this one, found out when there is an entry for the backend.
 *
 * @return 1; 0 when there is none
 */
int settings_find(const settings_key_t *wanted, settings_entry_t *out);

#endif
