/* SPDX-License-Identifier: Apache-2.0 */
/* A test: what is measured. It is written in a file of its own, in a scenario, or in both. */
#ifndef MOXIE_SUITE_TEST_H
#define MOXIE_SUITE_TEST_H

#include "suite/setting.h"
#include "suite/variable.h"

/* The test's file and the scenario's table over it. */
enum { TEST_LAYER_COUNT_MAX = 2 };

typedef struct test {
    layer_t layers[TEST_LAYER_COUNT_MAX]; /* later ones win */
    int32_t layer_count;
    const char *name; /* NULL when it is missing */
    const char *description;
    dialect_t dialect;
    setting_t settings[SETTING_COUNT];
    variables_t variables;
} test_t;

/*
 * Reads a test and checks it, values against each other too. Release it with test_release() in any
 * case; use it only when there was no mistake.
 *
 * @param is_strict  refuse also what CloudAI refuses and Moxie understands
 */
void test_read(const layer_t *layers, int32_t layer_count, bool is_strict, test_t *out,
               mistakes_t *mistakes);

void test_release(test_t *test);

/* Checks the values of its settings against each other. Part of test_read(). */
void test_check_together(const test_t *test, mistakes_t *mistakes);

/* One of its keys in the last layer that has it, which `*layer` becomes; NULL: none has it. */
const toml_node_t *test_find(const test_t *test, const char *key, const layer_t **layer);

#endif
