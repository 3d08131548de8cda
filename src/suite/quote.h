/* SPDX-License-Identifier: Apache-2.0 */
/* Writes values that come from files into files that programs read: nothing in them means more than
 * itself. */
#ifndef MOXIE_SUITE_QUOTE_H
#define MOXIE_SUITE_QUOTE_H

#include <stdio.h>

/* "…" of a POSIX shell: no expansion happens in it. */
void quote_shell(FILE *out, const char *text);

/* The same, without quotes where the text needs none: a word of a command. */
void quote_word(FILE *out, const char *text);

/* A word of a line "#SBATCH", in which sbatch keeps everything that stands in quotes. It must have
 * no control characters. */
void quote_directive(FILE *out, const char *text);

/* "…" of TOML's basic strings, which YAML reads as well. */
void quote_string(FILE *out, const char *text);

/* A field of CSV. */
void quote_csv(FILE *out, const char *text);

#endif
