/* SPDX-License-Identifier: Apache-2.0 */
/* The page that shows a report: HTML, with its style, its code and the charts' library inside.
 * Where it reads REPORT_DATA, the data of a report belong. */
#ifndef MOXIE_REPORT_PAGE_H
#define MOXIE_REPORT_PAGE_H

#include <stddef.h>

/* Stands once in every page. */
#define PAGE_MARK "REPORT_DATA"

/* The page and its bytes; NULL in a program that was built without it. */
const char *page_html(size_t *bytes);

/* Why there is no page, and how to get it; "" when there is one. */
const char *page_missing(void);

#endif
