/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The append-only rule of public structs. Each begins with `size`, the sizeof its caller was
 * compiled with: an older caller's struct is shorter than ours, a newer one's longer.
 */
#ifndef MOXIE_CORE_OPTIONS_H
#define MOXIE_CORE_OPTIONS_H

#include "moxie/status.h"

/*
 * Reads a caller's struct into ours of `bytes` bytes, which holds the defaults of what an older
 * caller does not know. A newer caller's unknown fields must be zero. `name` is for the error.
 */
moxie_status_t options_read(void *ours, const void *callers, size_t bytes, const char *name);

/* Writes our struct into the caller's: as much of it as the caller's `size` has room for. */
void options_write(void *callers, const void *ours, size_t bytes);

/* The same, with an error when there is no struct or its `size` is not set. */
moxie_status_t options_write_checked(void *callers, const void *ours, size_t bytes,
                                     const char *name);

#endif
