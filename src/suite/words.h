/* SPDX-License-Identifier: Apache-2.0 */
/* Splits a text into words as a shell does, without expanding anything in it. */
#ifndef MOXIE_SUITE_WORDS_H
#define MOXIE_SUITE_WORDS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct words {
    char **list;
    int32_t count;
} words_t;

/* Adds the words of a text: between blanks, with '…', "…" and \ to keep blanks in a word. False:
 * `*why`, which is static, says what is wrong, and the words before that were added. */
bool words_add(words_t *words, const char *text, const char **why);

void words_release(words_t *words);

#endif
