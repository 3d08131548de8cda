/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the data where the page has its mark. */
#include "report/report.h"

#include "bench/output.h"
#include "report/page.h"

#include <string.h>

const char *report_missing(void)
{
    return page_missing();
}

/* JSON inside <script>: a "<" stands only in strings there, and could end the element. */
static int write_escaped(const char *bytes, size_t count, void *out)
{
    for (size_t i = 0; i < count; i++) {
        int result = bytes[i] == '<' ? fputs("\\u003c", out) : fputc(bytes[i], out);
        if (result == EOF)
            return -1;
    }
    return 0;
}

bool report_write(const json_t *document, const char *path, failure_t *failure)
{
    output_file_t file;
    size_t page_bytes;
    const char *page = page_html(&page_bytes);
    if (page == NULL)
        return failure_set(failure, EXIT_UNAVAILABLE, "this build has no page for reports: %s",
                           page_missing());
    const char *mark = strstr(page, PAGE_MARK);
    const char *rest = mark + strlen(PAGE_MARK);
    if (!output_file_open(&file, path, "-o", failure))
        return false;
    (void)fwrite(page, 1, (size_t)(mark - page), file.stream); /* what fails shows at the end */
    (void)json_dump_callback(document, write_escaped, file.stream,
                             JSON_COMPACT | JSON_REAL_PRECISION(9));
    (void)fwrite(rest, 1, page_bytes - (size_t)(rest - page), file.stream);
    return output_file_commit(&file, failure);
}
