/* SPDX-License-Identifier: Apache-2.0 */
/* Embeds what page/ was bundled into; the build says where that is. */
#include "report/page.h"

extern const char page_text[]; /* ends with a NUL */
extern const size_t page_text_bytes;

_Static_assert(sizeof(size_t) == 8, "the size is written as 8 bytes");

__asm__(".pushsection .rodata.page, \"a\", %progbits\n"
        ".globl page_text, page_text_bytes\n"
        ".hidden page_text, page_text_bytes\n"
        "page_text: .incbin \"" PAGE_FILE "\"\n"
        ".Lpage_text_end: .byte 0\n"
        ".balign 8\n"
        "page_text_bytes: .quad .Lpage_text_end - page_text\n"
        ".popsection\n");

const char *page_html(size_t *bytes)
{
    *bytes = page_text_bytes;
    return page_text;
}

const char *page_missing(void)
{
    return "";
}
