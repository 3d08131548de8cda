/* SPDX-License-Identifier: Apache-2.0 */
/* Quotes of the shell, TOML, YAML and CSV. */
#include "suite/quote.h"

#include <stdbool.h>
#include <string.h>

void quote_shell(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (strchr("\"\\$`", *text) != NULL)
            (void)fputc('\\', out);
        (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

/* Whether a word means only itself wherever it stands. */
static bool is_plain(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_./:,=+@%";
    return text[0] != '\0' && text[strspn(text, plain)] == '\0';
}

void quote_word(FILE *out, const char *text)
{
    if (is_plain(text))
        (void)fputs(text, out);
    else
        quote_shell(out, text);
}

void quote_directive(FILE *out, const char *text)
{
    if (is_plain(text)) {
        (void)fputs(text, out);
        return;
    }
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', out);
        (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

void quote_string(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            (void)fprintf(out, "\\u%04x", c);
        else
            (void)fprintf(out, "%s%c", c == '"' || c == '\\' ? "\\" : "", c);
    }
    (void)fputc('"', out);
}

void quote_csv(FILE *out, const char *text)
{
    if (text[strcspn(text, ",\"\r\n")] == '\0') {
        (void)fputs(text, out);
        return;
    }
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"')
            (void)fputc('"', out);
        (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}
