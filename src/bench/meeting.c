/* SPDX-License-Identifier: Apache-2.0 */
/* Makes and removes the folder where ranks meet. */
#include "bench/meeting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* A folder of this user that nobody else can enter; a link is none. */
static bool check_folder(const char *folder, failure_t *failure)
{
    struct stat info;
    if (lstat(folder, &info) != 0) {
        return failure_set(failure, EXIT_FAILED, "%s, where the ranks meet: %s", folder,
                           strerror(errno));
    }
    if (!S_ISDIR(info.st_mode)) {
        return failure_set(failure, EXIT_FAILED,
                           "%s, where the ranks would meet, is not a folder: remove it", folder);
    }
    if (info.st_uid != geteuid()) {
        return failure_set(failure, EXIT_FAILED,
                           "%s, where the ranks would meet, belongs to user %u, not to %u: the "
                           "ranks do not meet there",
                           folder, (unsigned)info.st_uid, (unsigned)geteuid());
    }
    if ((info.st_mode & 0777) != S_IRWXU) {
        return failure_set(failure, EXIT_FAILED,
                           "%s, where the ranks would meet, has mode %04o, not 0700: remove it, or "
                           "take the others' permissions away",
                           folder, (unsigned)(info.st_mode & 0777));
    }
    return true;
}

bool meeting_of_job(meeting_t *meeting, const char *job, failure_t *failure)
{
    char folder[sizeof(meeting->folder)];
    const char *base = getenv("XDG_RUNTIME_DIR");
    *meeting = (meeting_t){.folder = ""};
    /* Slurm passes the variable on to hosts where nobody has logged in: then it is not there. */
    if (base != NULL && base[0] == '/' && access(base, W_OK | X_OK) == 0 &&
        strlen(base) + sizeof("/moxie/.sock") + strlen(job) <= sizeof(meeting->socket_path)) {
        (void)snprintf(folder, sizeof(folder), "%s/moxie", base);
    } else {
        (void)snprintf(folder, sizeof(folder), "/tmp/moxie-%u", (unsigned)geteuid());
    }
    if (mkdir(folder, S_IRWXU) != 0 && errno != EEXIST) {
        return failure_set(failure, EXIT_FAILED, "%s, where the ranks meet, cannot be made: %s",
                           folder, strerror(errno));
    }
    if (!check_folder(folder, failure)) {
        return false;
    }
    int length =
        snprintf(meeting->socket_path, sizeof(meeting->socket_path), "%s/%s.sock", folder, job);
    return length < (int)sizeof(meeting->socket_path) ||
           failure_set(failure, EXIT_FAILED, "%s/%s.sock is too long for a socket's name", folder,
                       job);
}

void meeting_close(meeting_t *meeting)
{
    if (meeting->socket_path[0] != '\0') {
        (void)unlink(meeting->socket_path);
        meeting->socket_path[0] = '\0';
    }
    if (meeting->folder[0] != '\0') {
        (void)rmdir(meeting->folder);
        meeting->folder[0] = '\0';
    }
}
