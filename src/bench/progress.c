/* SPDX-License-Identifier: Apache-2.0 */
/* Draws one line again and again. */
#include "bench/progress.h"

#include <stdio.h>
#include <unistd.h>

enum { BAR_WIDTH = 40 };

bool progress_is_visible(void)
{
    return isatty(STDERR_FILENO) == 1;
}

void progress_draw(const char *what, int64_t done, int64_t count)
{
    static const char full[BAR_WIDTH + 1] = "########################################";
    static const char empty[BAR_WIDTH + 1] = "........................................";
    if (!progress_is_visible())
        return;
    int filled = count > 0 ? (int)(done * BAR_WIDTH / count) : 0;
    (void)fprintf(stderr, "\r[%.*s%.*s] %-24s", filled, full, BAR_WIDTH - filled, empty, what);
    (void)fflush(stderr);
}

void progress_clear(void)
{
    if (progress_is_visible())
        (void)fprintf(stderr, "\r%*s\r", BAR_WIDTH + 28, "");
}
