/* SPDX-License-Identifier: Apache-2.0 */
/* Who sends how much to whom: files for people and other benchmarks. */
#ifndef MOXIE_SUITE_MATRICES_H
#define MOXIE_SUITE_MATRICES_H

#include "bench/plan.h"

#include <jansson.h>

/*
 * Writes into a folder, one row a source rank, numbers with a space between them:
 *   token_matrix.txt     tokens from each rank to each expert
 *   token_matrix_kb.txt  KiB from each rank to each rank
 *   nccl_matrix.txt      the same in bytes, for the alltoallv of nccl-tests
 *   ucc_matrix.txt       the same in elements, for ucc_perftest
 */
bool matrices_write(const plan_t *plan, const char *folder, failure_t *failure);

/* {"rows_to_rank":[[…]…],"tokens_of_expert":[…],"row_bytes"}: rows from each rank to each, and how
 * many tokens went to each expert. A new reference. */
json_t *matrices_json(const plan_t *plan);

#endif
