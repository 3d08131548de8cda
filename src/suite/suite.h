/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a scenario from its files to its results. */
#ifndef MOXIE_SUITE_SUITE_H
#define MOXIE_SUITE_SUITE_H

#include "suite/session.h"

#include <stdio.h>

/*
 * Reads the files, runs every test, here one after the other or as jobs of Slurm, and writes the
 * output tree. Stop signals must be blocked: one ends the run under way, what was finished stays,
 * and failure->signal is set.
 *
 * @param out          where a table of the runs is printed as they end
 * @param mistakes     where what is wrong with the files is printed
 * @param[out] record  suite.json; a new reference; NULL when nothing was run
 * @return true when every test passed and none is slower than allowed
 */
bool suite_run(const suite_request_t *request, FILE *out, FILE *mistakes, json_t **record,
               failure_t *failure);

#endif
