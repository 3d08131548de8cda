/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of any origin as JSON. */
#ifndef MOXIE_BENCH_TEXT_JSON_H
#define MOXIE_BENCH_TEXT_JSON_H

#include <jansson.h>

/* A string, or null for NULL; bytes that are no UTF-8, as paths may have, become '?'. A new
 * reference. */
json_t *text_json(const char *text);

#endif
