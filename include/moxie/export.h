/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Symbol visibility. Everything that is not marked MOXIE_API stays inside libmoxie.
 */
#ifndef MOXIE_EXPORT_H
#define MOXIE_EXPORT_H

/** Marks a function of the public C ABI. */
#define MOXIE_API __attribute__((visibility("default")))

#ifdef __cplusplus
/** Opens C linkage in C++; nothing in C. */
#define MOXIE_BEGIN_DECLS extern "C" {
/** Closes what MOXIE_BEGIN_DECLS opened. */
#define MOXIE_END_DECLS }
#else
#define MOXIE_BEGIN_DECLS
#define MOXIE_END_DECLS
#endif

#endif
