/* SPDX-License-Identifier: Apache-2.0 */
/* Checks files of a suite, all of them at once. */
#ifndef MOXIE_SUITE_VERIFY_H
#define MOXIE_SUITE_VERIFY_H

#include "suite/mistakes.h"

typedef struct verify {
    const char *const *paths; /* [path_count] files and folders */
    size_t path_count;
    const char *tests_dir; /* more tests; NULL: those in the folder of each scenario */
    bool is_strict;        /* refuse also what CloudAI refuses */
} verify_t;

/* Reads the files and checks each that was named; the mistakes have it all. */
void verify_files(const verify_t *verify, sources_t *sources, mistakes_t *mistakes);

/* Reads the tests that lie beside a scenario. */
void verify_read_neighbours(sources_t *sources, const source_t *scenario, mistakes_t *mistakes);

/* What a kind of files is called, "scenario". */
const char *verify_kind_name(source_kind_t kind);

#endif
