/* SPDX-License-Identifier: Apache-2.0 */
/* Makes and removes the folder where ranks meet. */
#include "bench/meeting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char folder_pattern[] = "/moxie-XXXXXX";
static const char socket_name[] = "/rendezvous";

static bool try_base(meeting_t *meeting, const char *base)
{
    if (base == NULL || base[0] != '/' ||
        strlen(base) + sizeof(folder_pattern) > sizeof(meeting->folder))
        return false;
    (void)snprintf(meeting->folder, sizeof(meeting->folder), "%s%s", base, folder_pattern);
    if (mkdtemp(meeting->folder) != NULL) /* mode 0700 */
        return true;
    meeting->folder[0] = '\0';
    return false;
}

bool meeting_open(meeting_t *meeting, failure_t *failure)
{
    *meeting = (meeting_t){.folder = ""};
    if (!try_base(meeting, getenv("XDG_RUNTIME_DIR")) && !try_base(meeting, "/tmp"))
        return failure_set(failure, EXIT_FAILED, "no folder for the ranks to meet in /tmp: %s",
                           strerror(errno));
    (void)snprintf(meeting->socket_path, sizeof(meeting->socket_path), "%s%s", meeting->folder,
                   socket_name);
    return true;
}

void meeting_close(meeting_t *meeting)
{
    if (meeting->folder[0] == '\0')
        return;
    (void)unlink(meeting->socket_path);
    (void)rmdir(meeting->folder);
    meeting->folder[0] = '\0';
}
