/* SPDX-License-Identifier: Apache-2.0 */
/* Memory laid out by an arena: as a call is given it, and as the test fills it and looks at it. On
 * the CPU both are the same. */
#ifndef SUPPORT_PIECE_H
#define SUPPORT_PIECE_H

#include "moxie/window.h"
#include "support/arena.h"
#include "support/device.h"

typedef struct piece {
    device_t *device;
    const arena_t *arena;
    void *host;
    void *given;
    bool is_home; /* allocated here, not in a window */
} piece_t;

/* Of the device, in no window; poisoned. */
piece_t piece_at_home(device_t *device, const arena_t *arena);

/* At the beginning of a window of this rank; poisoned. */
piece_t piece_in_window(device_t *device, const arena_t *arena, const moxie_window_t *window);

void piece_free(piece_t *piece);

/* A buffer, as the test sees it. */
void *piece_host(const piece_t *piece, size_t region);

/* Brings to the device what the test has written, and back what calls have written. */
void piece_upload(const piece_t *piece);
void piece_download(const piece_t *piece);

/* Overwrites what the call was given, in stream order, and leaves it all open. */
void piece_scramble(const piece_t *piece);

#endif
