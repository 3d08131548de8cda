/* SPDX-License-Identifier: Apache-2.0 */
/* Embeds what page/ was bundled into; the build says where that is. */
#include "report/page.h"

extern const char page_bytes[];
extern const char page_end[];

__asm__(".pushsection .rodata.page, \"a\", %progbits\n"
        ".globl page_bytes, page_end\n"
        ".hidden page_bytes, page_end\n"
        "page_bytes: .incbin \"" PAGE_FILE "\"\n"
        "page_end: .byte 0\n"
        ".popsection\n");

const char *page_html(size_t *bytes)
{
    *bytes = (size_t)(page_end - page_bytes);
    return page_bytes;
}

const char *page_missing(void)
{
    return "";
}
