/* SPDX-License-Identifier: Apache-2.0 */
/* A program that was built without the page. */
#include "report/page.h"

const char *page_html(size_t *bytes)
{
    *bytes = 0;
    return NULL;
}

const char *page_missing(void)
{
    return PAGE_MISSING;
}
