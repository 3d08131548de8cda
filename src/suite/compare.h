/* SPDX-License-Identifier: Apache-2.0 */
/* A suite against an earlier run of it. */
#ifndef MOXIE_SUITE_COMPARE_H
#define MOXIE_SUITE_COMPARE_H

#include "bench/failure.h"

#include <jansson.h>

/* Reads the record of an earlier run from its folder; NULL with a failure. A new reference. */
json_t *compare_read(const char *folder, failure_t *failure);

/*
 * Compares the median times of both calls, test by test: the median over the iterations of each.
 * Speed is the earlier time over this one's.
 *
 * @param fail_below  a lower speed is a regression; 0: none is
 * @return {"folder","fail_below","same_machine","regressions","compared","rows":[…]}; a new
 *         reference
 */
json_t *compare_runs(const json_t *earlier, const char *folder, const json_t *now,
                     double fail_below);

#endif
