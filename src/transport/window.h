/* SPDX-License-Identifier: Apache-2.0 */
/* What every backend's window begins with. */
#ifndef MOXIE_TRANSPORT_WINDOW_H
#define MOXIE_TRANSPORT_WINDOW_H

#include "moxie/window.h"

struct moxie_window {
    moxie_group_t *group;
    void *base;
    size_t bytes;
};

#endif
