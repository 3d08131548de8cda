/* SPDX-License-Identifier: Apache-2.0 */
/* config.yaml, which a benchmark is handed: a flat table of settings (docs/suite.md). */
#ifndef MOXIE_SUITE_CONFIG_YAML_H
#define MOXIE_SUITE_CONFIG_YAML_H

#include "suite/test.h"

typedef struct config_yaml {
    source_t source;                      /* has no document: `table` is what the file says */
    toml_node_t table;                    /* its children are `entries` */
    toml_node_t *entries;                 /* [table.child_count], owned */
    char **texts;                         /* [2 * table.child_count] their keys and values, owned */
    toml_node_t variables[SETTING_COUNT]; /* what the environment says */
    test_t test;                          /* settings, and the dialect */
} config_yaml_t;

/*
 * Reads a file, with the settings that the environment has beside it (NUM_SMS, NUM_QPS_PER_RANK),
 * and checks each value. A file with benchmark_type has the keys of MoEBenchmark, any other those
 * of DeepEPBenchmark. Release it with config_yaml_release() in any case; use it only when there was
 * no mistake, and only for as long as the environment stays as it is.
 */
void config_yaml_read(const char *path, config_yaml_t *out, mistakes_t *mistakes);

void config_yaml_release(config_yaml_t *config);

#endif
