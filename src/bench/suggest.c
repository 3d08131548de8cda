/* SPDX-License-Identifier: Apache-2.0 */
/* The edit distance of Levenshtein, on one row of its table. */
#include "bench/suggest.h"

#include <string.h>

enum { LENGTH_MAX = 63 };

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

size_t suggest_distance(const char *one, const char *other)
{
    size_t one_length = strnlen(one, LENGTH_MAX);
    size_t other_length = strnlen(other, LENGTH_MAX);
    size_t row[LENGTH_MAX + 1];
    for (size_t j = 0; j <= other_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= one_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= other_length; j++) {
            size_t above = row[j];
            size_t change = diagonal + (one[i - 1] != other[j - 1]);
            row[j] = smallest(above + 1, row[j - 1] + 1, change);
            diagonal = above;
        }
    }
    return row[other_length];
}

void suggestion_offer(suggestion_t *suggestion, const char *candidate)
{
    size_t distance = suggest_distance(suggestion->word, candidate);
    if (distance > strlen(suggestion->word) / 3 + 1)
        return;
    if (suggestion->nearest == NULL || distance < suggestion->distance) {
        suggestion->nearest = candidate;
        suggestion->distance = distance;
    }
}
