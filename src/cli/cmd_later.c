/* SPDX-License-Identifier: Apache-2.0 */
/* report: named by the contract, not built yet. */
#include "cli/cli.h"

#include <stdio.h>

int cmd_later(int argc, char **argv)
{
    (void)argc;
    (void)fprintf(stderr, "%s: not built yet in this version\n", argv[0]);
    return EXIT_UNAVAILABLE;
}
