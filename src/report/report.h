/* SPDX-License-Identifier: Apache-2.0 */
/* A report: one HTML file that shows the records of folders and opens without a network. */
#ifndef MOXIE_REPORT_REPORT_H
#define MOXIE_REPORT_REPORT_H

#include "bench/failure.h"

#include <jansson.h>

/* Why this program cannot write reports, and how to get one that can; "" when it can. */
const char *report_missing(void);

/*
 * Writes the page with a document of collect_folders() in it; an existing file is replaced.
 *
 * @return false with EXIT_UNAVAILABLE when this program was built without the page
 */
bool report_write(const json_t *document, const char *path, failure_t *failure);

#endif
