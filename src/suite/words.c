/* SPDX-License-Identifier: Apache-2.0 */
/* Splits a text into words. */
#include "suite/words.h"

#include <stdlib.h>
#include <string.h>

static const char blanks[] = " \t\r\n";

/* Takes `text`, which is the words' from now on. */
static bool append(words_t *words, char *text)
{
    char **grown = text == NULL ? NULL
                                : realloc((void *)words->list,
                                          ((size_t)words->count + 1) * sizeof(*words->list));
    if (grown == NULL) {
        free(text);
        return false;
    }
    words->list = grown;
    words->list[words->count++] = text;
    return true;
}

/* Copies one word without its quotes; returns where it ends, or NULL when a quote is left open. */
static const char *copy_word(const char *at, char *to)
{
    char quote = '\0';
    for (; *at != '\0' && (quote != '\0' || strchr(blanks, *at) == NULL); at++) {
        if (*at == quote)
            quote = '\0';
        else if (quote == '\0' && (*at == '"' || *at == '\''))
            quote = *at;
        else if (*at == '\\' && quote != '\'' && at[1] != '\0')
            *to++ = *++at;
        else
            *to++ = *at;
    }
    *to = '\0';
    return quote == '\0' ? at : NULL;
}

bool words_add(words_t *words, const char *text, const char **why)
{
    for (;;) {
        text += strspn(text, blanks);
        if (*text == '\0')
            return true;
        char *word = malloc(strlen(text) + 1);
        text = word == NULL ? NULL : copy_word(text, word);
        if (text == NULL || !append(words, word)) {
            *why = word == NULL || text != NULL ? "not enough memory" : "a quote is not closed";
            if (text == NULL)
                free(word);
            return false;
        }
    }
}

void words_release(words_t *words)
{
    for (int32_t i = 0; i < words->count; i++)
        free(words->list[i]);
    free((void *)words->list);
    *words = (words_t){0};
}
