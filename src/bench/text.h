/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a text into tokens: words in lower case, and single punctuation marks. */
#ifndef MOXIE_BENCH_TEXT_H
#define MOXIE_BENCH_TEXT_H

#include "bench/failure.h"
#include "bench/file.h"

/* The tokens of a text in their order. Two tokens are the same word when their hashes are. */
typedef struct text_tokens {
    uint64_t *hash; /* [count] FNV-1a of the token's bytes, ASCII letters in lower case */
    int64_t count;
} text_tokens_t;

/*
 * Cuts a text of valid UTF-8 without control characters; `name` is for messages, which name the
 * line. A word is a run of letters and digits, with an apostrophe allowed between two of them.
 */
bool text_tokenise(const file_bytes_t *text, const char *name, text_tokens_t *out,
                   failure_t *failure);

/* Releases what text_tokenise() gave. */
void text_tokens_release(text_tokens_t *tokens);

#endif
