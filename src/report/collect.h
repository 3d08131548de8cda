/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the records in folders of results as one document, schema moxie.report/1
 * (docs/report.md). */
#ifndef MOXIE_REPORT_COLLECT_H
#define MOXIE_REPORT_COLLECT_H

#include "bench/failure.h"

#include <jansson.h>

/*
 * Reads what moxie suite run, moxie bench --output-dir and moxie tune left in folders. A folder
 * that holds such folders stands for them, in the order of the times in their names.
 *
 * @return a new reference; NULL with a failure, which names the file, and the line where it is
 *         damaged, or the folder without results
 */
json_t *collect_folders(const char *const *folders, int32_t count, failure_t *failure);

#endif
