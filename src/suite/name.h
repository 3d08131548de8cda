/* SPDX-License-Identifier: Apache-2.0 */
/* Names that become names of folders. */
#ifndef MOXIE_SUITE_NAME_H
#define MOXIE_SUITE_NAME_H

#include <stdbool.h>

enum { NAME_WHY_BYTES = 160 };

/* Whether a name can be that of a folder: not empty, no slash, no control character, none of those
 * that mean something. `why` says what is wrong. */
bool name_check(const char *name, char why[NAME_WHY_BYTES]);

#endif
