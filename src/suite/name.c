/* SPDX-License-Identifier: Apache-2.0 */
/* Checks names of folders. */
#include "suite/name.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* A folder's name has 255 bytes at most, and gets a date behind it. */
enum { NAME_BYTES_MAX = 200 };

bool name_check(const char *name, char why[NAME_WHY_BYTES])
{
    const char *what = NULL;
    if (name[0] == '\0')
        what = "it must not be empty";
    else if (strlen(name) > NAME_BYTES_MAX)
        what = "it is too long for the name of a folder";
    else if (strchr(name, '/') != NULL)
        what = "it names a folder, and must not have a slash";
    else if (name[0] == '.')
        what = "it names a folder, and must not begin with a dot";
    for (const char *c = name; *c != '\0' && what == NULL; c++)
        if (iscntrl((unsigned char)*c))
            what = "it names a folder, and must not have control characters";
    if (what != NULL)
        (void)snprintf(why, NAME_WHY_BYTES, "%s", what);
    return what == NULL;
}
