/* SPDX-License-Identifier: Apache-2.0 */
/* The library's version. */
#include "moxie/version.h"

#define TEXT_OF(number)                   #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

int moxie_version(void)
{
    return MOXIE_VERSION;
}

const char *moxie_version_text(void)
{
    return VERSION_TEXT(MOXIE_VERSION_MAJOR, MOXIE_VERSION_MINOR, MOXIE_VERSION_PATCH);
}
