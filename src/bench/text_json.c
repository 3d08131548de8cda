/* SPDX-License-Identifier: Apache-2.0 */
/* Makes JSON strings. */
#include "bench/text_json.h"

#include <stdlib.h>
#include <string.h>

json_t *text_json(const char *text)
{
    if (text == NULL)
        return json_null();
    json_t *json = json_string(text);
    char *copy = json == NULL ? strdup(text) : NULL;
    for (char *c = copy; c != NULL && *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    if (copy != NULL)
        json = json_string(copy);
    free(copy);
    return json;
}
