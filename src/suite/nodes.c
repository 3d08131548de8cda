/* SPDX-License-Identifier: Apache-2.0 */
/* Reads names of nodes. */
#include "suite/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a host's name at most, and digits of its number. */
enum { HOST_BYTES_MAX = 255, DIGIT_COUNT_MAX = 9 };

static bool is_known(const node_list_t *list, const char *name)
{
    for (int32_t i = 0; i < list->count; i++)
        if (strcmp(list->names[i], name) == 0)
            return true;
    return false;
}

static bool append(node_list_t *list, const char *name)
{
    char **grown = realloc((void *)list->names, ((size_t)list->count + 1) * sizeof(*grown));
    if (grown == NULL)
        return false;
    list->names = grown;
    list->names[list->count] = strdup(name);
    if (list->names[list->count] == NULL)
        return false;
    list->count++;
    return true;
}

static bool add(node_list_t *list, const char *name, char why[NODES_WHY_BYTES])
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (name[0] == '\0' || name[0] == '-' || name[strspn(name, allowed)] != '\0') {
        (void)snprintf(why, NODES_WHY_BYTES, "'%.100s' is no name of a host", name);
        return false;
    }
    if (is_known(list, name)) {
        (void)snprintf(why, NODES_WHY_BYTES, "it names '%.100s' twice", name);
        return false;
    }
    if (list->count == NODE_COUNT_MAX) {
        (void)snprintf(why, NODES_WHY_BYTES, "it names more than %d nodes", NODE_COUNT_MAX);
        return false;
    }
    if (!append(list, name)) {
        (void)snprintf(why, NODES_WHY_BYTES, "not enough memory");
        return false;
    }
    return true;
}

/* A number of at most nine digits; returns how many it has, 0: none or too many. */
static int read_digits(const char *text, long *out)
{
    size_t length = strspn(text, "0123456789");
    *out = length > 0 && length <= DIGIT_COUNT_MAX ? strtol(text, NULL, 10) : 0;
    return length <= DIGIT_COUNT_MAX ? (int)length : 0;
}

/* "0-3" or "7" between `before` and `after`; moves `at` behind it. */
static bool add_range(node_list_t *list, const char *before, int before_length, const char **at,
                      const char *after, char why[NODES_WHY_BYTES])
{
    long first = 0;
    int width = read_digits(*at, &first);
    long last = first;
    int last_width = width;
    const char *end = *at + width;
    if (width > 0 && *end == '-') {
        last_width = read_digits(end + 1, &last);
        end += 1 + last_width;
    }
    if (width == 0 || last_width == 0 || last < first) {
        (void)snprintf(why, NODES_WHY_BYTES, "'%.100s' is no range of numbers, as in n[0-3,8]",
                       *at);
        return false;
    }
    *at = end;
    for (long number = first; number <= last; number++) {
        char name[HOST_BYTES_MAX + 1];
        (void)snprintf(name, sizeof(name), "%.*s%0*ld%s", before_length, before, width, number,
                       after);
        if (!add(list, name, why))
            return false;
    }
    return true;
}

/* One name, perhaps with a bracket in it. */
static bool add_host(node_list_t *list, const char *text, char why[NODES_WHY_BYTES])
{
    const char *open = strchr(text, '[');
    const char *close = open == NULL ? NULL : strchr(open, ']');
    if (open == NULL)
        return add(list, text, why);
    if (close == NULL || strchr(close, '[') != NULL || strlen(text) > HOST_BYTES_MAX / 2) {
        (void)snprintf(why, NODES_WHY_BYTES, "'%.100s' is no range of hosts, as n[0-3,8] is", text);
        return false;
    }
    const char *at = open + 1;
    for (;;) {
        if (!add_range(list, text, (int)(open - text), &at, close + 1, why))
            return false;
        if (at == close)
            return true;
        if (*at++ != ',') {
            (void)snprintf(why, NODES_WHY_BYTES, "'%.100s' is no range of hosts, as n[0-3,8] is",
                           text);
            return false;
        }
    }
}

/* Where the next comma is that is in no bracket, or the end. */
static char *find_comma(char *text)
{
    bool is_inside = false;
    for (; *text != '\0'; text++) {
        is_inside = *text == '[' || (is_inside && *text != ']');
        if (*text == ',' && !is_inside)
            break;
    }
    return text;
}

bool nodes_add_hosts(node_list_t *list, const char *text, char why[NODES_WHY_BYTES])
{
    char *copy = strdup(text);
    bool is_done = copy != NULL;
    bool is_last = false;
    (void)snprintf(why, NODES_WHY_BYTES, "not enough memory");
    for (char *at = copy; is_done && !is_last;) {
        char *end = find_comma(at);
        is_last = *end == '\0';
        *end = '\0';
        is_done = add_host(list, at, why);
        at = end + 1;
    }
    free(copy);
    return is_done;
}

void nodes_remove(node_list_t *list, const node_list_t *others)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < list->count; i++) {
        if (is_known(others, list->names[i]))
            free(list->names[i]);
        else
            list->names[kept++] = list->names[i];
    }
    list->count = kept;
}

void nodes_release(node_list_t *list)
{
    for (int32_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free((void *)list->names);
    *list = (node_list_t){0};
}

bool nodes_is_group(const char *text)
{
    return strchr(text, ':') != NULL;
}

bool nodes_read_group(const char *text, node_want_t *out, char why[NODES_WHY_BYTES])
{
    size_t partition = strcspn(text, ":");
    const char *group = text + partition + 1;
    size_t group_length = strcspn(group, ":");
    const char *count = group[group_length] == '\0' ? "" : group + group_length + 1;
    long number = 0;
    bool has_names = partition > 0 && group_length > 0 && partition < sizeof(out->partition) &&
                     group_length < sizeof(out->group);
    bool is_all = strcmp(count, "max_avail") == 0;
    bool is_number = read_digits(count, &number) == (int)strlen(count) && number > 0;
    if (!has_names || (!is_all && !is_number)) {
        (void)snprintf(why, NODES_WHY_BYTES,
                       "'%.100s' is none of PARTITION:GROUP:N and PARTITION:GROUP:max_avail", text);
        return false;
    }
    if (number > NODE_COUNT_MAX) {
        (void)snprintf(why, NODES_WHY_BYTES, "it asks for more than %d nodes", NODE_COUNT_MAX);
        return false;
    }
    (void)snprintf(out->partition, sizeof(out->partition), "%.*s", (int)partition, text);
    (void)snprintf(out->group, sizeof(out->group), "%.*s", (int)group_length, group);
    out->count = (int32_t)number;
    return true;
}
