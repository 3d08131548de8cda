/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings that `moxie tune` found, as a text file that needs no library: tuning.txt, one entry a
 * line, the newest last. It is made from the tuning database, and only read here.
 *
 *   moxie-tuning 1
 *   backend=shm machine=… mode=standard variant=… ranks=4 tokens=4096 hidden=2048 experts=128
 *   topk=8 knob.spin_count=20 knob.yield_count=100           (all on one line)
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
    SETTINGS_LINE_BYTES = 2048
};

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

typedef struct settings_entry {
    settings_key_t key;
    settings_knob_t knobs[SETTINGS_KNOB_COUNT_MAX];
    int32_t knob_count;
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

/*
 * How far an entry's shape is from the wanted one: the sum of the factors' logarithms to base 2,
 * and 1 for another variant. Negative: it is for another backend, machine or mode.
 */
double settings_distance(const settings_key_t *wanted, const settings_key_t *entry);

/*
 * The stored entry nearest to what is wanted, the newest of those that are equally near. What
 * `wanted` leaves open of the shape is taken from $MOXIE_TUNING_SHAPE; a machine that it leaves
 * open is this one, found out when there is an entry for the backend.
 *
 * @return 1; 0 when there is none
 */
int settings_find(const settings_key_t *wanted, settings_entry_t *out);

#endif
