/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a text into tokens: decodes UTF-8, tells words from marks, hashes. */
#include "bench/text.h"

#include <stdlib.h>
#include <string.h>

#define FNV_START UINT64_C(0xCBF29CE484222325)
#define FNV_PRIME UINT64_C(0x100000001B3)

typedef enum code_class { CLASS_SPACE, CLASS_WORD, CLASS_APOSTROPHE, CLASS_MARK } code_class_t;

/* One decoded character. */
typedef struct character {
    uint32_t code;
    size_t byte_count; /* 0: not valid UTF-8, or a control character */
} character_t;

/* What the first byte of a UTF-8 sequence says; `code_min` refuses overlong forms. */
static size_t sequence_length(uint8_t first, uint32_t *code, uint32_t *code_min)
{
    if (first < 0x80) {
        *code = first;
        *code_min = 0;
        return 1;
    }
    if ((first & 0xE0) == 0xC0) {
        *code = first & 0x1Fu;
        *code_min = 0x80;
        return 2;
    }
    if ((first & 0xF0) == 0xE0) {
        *code = first & 0x0Fu;
        *code_min = 0x800;
        return 3;
    }
    *code = first & 0x07u;
    *code_min = 0x10000;
    return (first & 0xF8) == 0xF0 ? 4 : 0;
}

static bool is_forbidden(uint32_t code)
{
    bool is_blank = code >= '\t' && code <= '\r';
    bool is_control = (code < 0x20 && !is_blank) || (code >= 0x7F && code < 0xA0);
    bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
    return is_control || is_surrogate || code > 0x10FFFF;
}

static character_t decode(const char *bytes, size_t count)
{
    static const character_t invalid = {0, 0};
    uint32_t code = 0;
    uint32_t code_min = 0;
    size_t length = sequence_length((uint8_t)bytes[0], &code, &code_min);
    if (length == 0 || length > count)
        return invalid;
    for (size_t i = 1; i < length; i++) {
        uint8_t next = (uint8_t)bytes[i];
        if ((next & 0xC0) != 0x80)
            return invalid;
        code = code << 6 | (next & 0x3Fu);
    }
    if (code < code_min || is_forbidden(code))
        return invalid;
    return (character_t){code, length};
}

static code_class_t classify_ascii(uint32_t code)
{
    bool is_letter = (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    if (is_letter || (code >= '0' && code <= '9'))
        return CLASS_WORD;
    if (code <= ' ')
        return CLASS_SPACE;
    return code == '\'' ? CLASS_APOSTROPHE : CLASS_MARK;
}

static code_class_t classify(uint32_t code)
{
    if (code < 0x80)
        return classify_ascii(code);
    if (code == 0x2019)
        return CLASS_APOSTROPHE;
    bool is_space = code == 0xA0 || (code >= 0x2000 && code <= 0x200F) || code == 0x2028 ||
                    code == 0x2029 || code == 0x202F || code == 0x3000 || code == 0xFEFF;
    if (is_space)
        return CLASS_SPACE;
    bool is_mark = code < 0xC0 || code == 0xD7 || code == 0xF7 ||
                   (code >= 0x2010 && code <= 0x206F) || (code >= 0x2190 && code <= 0x2BFF) ||
                   (code >= 0x3001 && code <= 0x303F);
    return is_mark ? CLASS_MARK : CLASS_WORD;
}

static uint64_t hash_more(uint64_t hash, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        if (byte >= 'A' && byte <= 'Z')
            byte = (uint8_t)(byte + ('a' - 'A'));
        hash = (hash ^ byte) * FNV_PRIME;
    }
    return hash;
}

/* The bytes of the token that starts at `at`: a word, or one mark. The text has been checked. */
static size_t token_length(const file_bytes_t *text, size_t at)
{
    size_t end = at;
    while (end < text->count) {
        character_t character = decode(text->bytes + end, text->count - end);
        code_class_t class = classify(character.code);
        size_t next = end + character.byte_count;
        if (class == CLASS_APOSTROPHE && end > at && next < text->count) {
            character_t behind = decode(text->bytes + next, text->count - next);
            if (classify(behind.code) == CLASS_WORD)
                class = CLASS_WORD;
        }
        if (class != CLASS_WORD)
            return end > at ? end - at : character.byte_count;
        end = next;
    }
    return end - at;
}

static bool check(const file_bytes_t *text, const char *name, failure_t *failure)
{
    long long line = 1;
    for (size_t at = 0; at < text->count;) {
        character_t character = decode(text->bytes + at, text->count - at);
        if (character.byte_count == 0)
            return failure_set(failure, EXIT_USAGE,
                               "%s:%lld: byte %zu (0x%02x) is not text: UTF-8 without control "
                               "characters is expected",
                               name, line, at, (unsigned)(uint8_t)text->bytes[at]);
        line += character.code == '\n';
        at += character.byte_count;
    }
    return true;
}

bool text_tokenise(const file_bytes_t *text, const char *name, text_tokens_t *out,
                   failure_t *failure)
{
    if (!check(text, name, failure))
        return false;
    uint64_t *hash = malloc((text->count + 1) * sizeof(*hash)); /* at most one token a byte */
    if (hash == NULL)
        return failure_set(failure, EXIT_FAILED, "%s: not enough memory for its tokens", name);
    int64_t count = 0;
    for (size_t at = 0; at < text->count;) {
        character_t character = decode(text->bytes + at, text->count - at);
        size_t length = character.byte_count;
        if (classify(character.code) != CLASS_SPACE) {
            length = token_length(text, at);
            hash[count++] = hash_more(FNV_START, text->bytes + at, length);
        }
        at += length;
    }
    *out = (text_tokens_t){hash, count};
    if (count > 0)
        return true;
    text_tokens_release(out);
    return failure_set(failure, EXIT_USAGE, "%s: there is no word in it", name);
}

void text_tokens_release(text_tokens_t *tokens)
{
    free(tokens->hash);
    *tokens = (text_tokens_t){NULL, 0};
}
