/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * The version of the headers a program was built with, and of the library it runs with.
 */
#ifndef MOXIE_VERSION_H
#define MOXIE_VERSION_H

#include "moxie/export.h"

MOXIE_BEGIN_DECLS

#define MOXIE_VERSION_MAJOR 0 /**< changes with the ABI, from 1 on */
#define MOXIE_VERSION_MINOR 1 /**< changes with every feature, and before 1.0 with the ABI */
#define MOXIE_VERSION_PATCH 0 /**< changes with every release that only repairs */
/** The headers' version as one number that grows: major · 10000 + minor · 100 + patch. */
#define MOXIE_VERSION                                                                              \
    (MOXIE_VERSION_MAJOR * 10000 + MOXIE_VERSION_MINOR * 100 + MOXIE_VERSION_PATCH)

/** The version of the library that is running, in the form of MOXIE_VERSION. */
MOXIE_API int moxie_version(void);

/** The version of the library that is running as text, "0.1.0". Static; never NULL. */
MOXIE_API const char *moxie_version_text(void);

MOXIE_END_DECLS

#endif
