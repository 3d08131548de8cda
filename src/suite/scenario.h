/* SPDX-License-Identifier: Apache-2.0 */
/* A scenario: which tests are run, on which nodes, how often, and in which order. */
#ifndef MOXIE_SUITE_SCENARIO_H
#define MOXIE_SUITE_SCENARIO_H

#include "suite/cluster.h"
#include "suite/test.h"

typedef enum dependency_type {
    DEPENDENCY_START_POST_INIT, /* starts when the other has started */
    DEPENDENCY_START_POST_COMP, /* starts when the other has ended */
    DEPENDENCY_END_POST_COMP,   /* is ended when the other has ended */
    DEPENDENCY_TYPE_COUNT
} dependency_type_t;

typedef struct dependency {
    dependency_type_t type;
    int32_t on; /* index of the other entry */
} dependency_t;

/* An element of Tests. */
typedef struct entry {
    layer_t layer;
    const char *id;
    test_t test;
    bool has_nodes;               /* `nodes` wins over num_nodes */
    node_list_t nodes;            /* with has_nodes: their names */
    node_list_t excluded;         /* not to be taken */
    char *partition;              /* that `nodes` names; owned; NULL: the system's default */
    const toml_node_t *num_nodes; /* a number, or a list: a sweep; NULL: 1 */
    int32_t iterations;
    int64_t time_limit_s; /* 0: none */
    double weight;
    dependency_t *dependencies;
    int32_t dependency_count;
    bool is_placed; /* in the order; used while that is found */
} entry_t;

typedef struct scenario {
    const source_t *source;
    const char *name;
    entry_t *entries;
    int32_t entry_count;
    int32_t *order; /* [entry_count] indices: dependencies first, else as in the file */
} scenario_t;

/* What a scenario refers to. */
typedef struct references {
    const sources_t *sources;       /* its tests are among them */
    const source_t *const *systems; /* [system_count] one of them has the groups of nodes */
    size_t system_count;
    const cluster_t *cluster; /* which nodes of a group can be had; NULL: all of them */
    bool has_containers;      /* the runs are put into them */
    bool is_strict;
} references_t;

/*
 * Reads a scenario with its tests and checks all of it. Release it with scenario_release() in any
 * case; use it only when there was no mistake.
 */
void scenario_read(const source_t *source, const references_t *references, scenario_t *out,
                   mistakes_t *mistakes);

void scenario_release(scenario_t *scenario);

/* The word of a type, "start_post_comp". */
const char *dependency_name(dependency_type_t type);

/* Values of num_nodes, and each. With has_nodes there is one: the number of `nodes`. */
int32_t entry_node_count_values(const entry_t *entry);
int32_t entry_node_count(const entry_t *entry, int32_t index);

/* Runs of one iteration: 1, or the values of all sweeps multiplied. */
int64_t entry_step_count(const entry_t *entry);

/* Tests of a scenario, runs of a sweep, and runs of all tests at most. */
enum { ENTRY_COUNT_MAX = 4096, STEP_COUNT_MAX = 1000, RUN_COUNT_MAX = 100000 };

#endif
