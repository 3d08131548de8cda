/* SPDX-License-Identifier: Apache-2.0 */
/* The table of shapes: hidden, experts and topk as the models' published configurations say. */
#include "bench/shape.h"

#include "bench/suggest.h"

#include <string.h>

static const shape_t shapes[] = {
    {"qwen3-30b-a3b", 2048, 128, 8}, {"qwen3-235b-a22b", 4096, 128, 8},
    {"deepseek-v3", 7168, 256, 8},   {"mixtral-8x7b", 4096, 8, 2},
    {"gpt-oss-120b", 2880, 128, 4},
};

const shape_t *shape_at(int32_t index)
{
    int32_t count = (int32_t)(sizeof(shapes) / sizeof(shapes[0]));
    return index >= 0 && index < count ? &shapes[index] : NULL;
}

const shape_t *shape_find(const char *name, const char **nearest)
{
    suggestion_t suggestion = {.word = name};
    for (int32_t i = 0; shape_at(i) != NULL; i++) {
        if (strcmp(shape_at(i)->name, name) == 0)
            return shape_at(i);
        suggestion_offer(&suggestion, shape_at(i)->name);
    }
    *nearest = suggestion.nearest;
    return NULL;
}
