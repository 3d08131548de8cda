/* SPDX-License-Identifier: Apache-2.0 */
/* Makes folders and files. */
#include "suite/tree.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* Names that a new folder may try. */
enum { NAME_TRIES = 1000 };

void tree_stamp(time_t when, char stamp[STAMP_BYTES])
{
    struct tm local;
    stamp[0] = '\0';
    if (localtime_r(&when, &local) != NULL)
        (void)strftime(stamp, STAMP_BYTES, "%Y-%m-%d_%H-%M-%S", &local);
}

bool tree_make(const char *path, failure_t *failure)
{
    char part[PATH_MAX];
    struct stat stat_of;
    if (strlen(path) >= sizeof(part))
        return failure_set(failure, EXIT_USAGE, "%.100s…: the path is too long", path);
    for (size_t i = 1;; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            (void)snprintf(part, sizeof(part), "%.*s", (int)i, path);
            if (mkdir(part, 0777) != 0 && errno != EEXIST)
                return failure_set(failure, EXIT_USAGE, "%s: no folder can be made: %s", part,
                                   strerror(errno));
        }
        if (path[i] == '\0')
            break;
    }
    return (stat(path, &stat_of) == 0 && S_ISDIR(stat_of.st_mode)) ||
           failure_set(failure, EXIT_USAGE, "%s is no folder", path);
}

bool tree_make_new(const char *parent, const char *name, time_t when, char *out, size_t size,
                   failure_t *failure)
{
    char stamp[STAMP_BYTES];
    tree_stamp(when, stamp);
    if (!tree_make(parent, failure))
        return false;
    for (int try = 1; try <= NAME_TRIES; try++) {
        char number[16] = "";
        if (try > 1)
            (void)snprintf(number, sizeof(number), "_%d", try);
        int length = snprintf(out, size, "%s/%s_%s%s", parent, name, stamp, number);
        if (length < 0 || (size_t)length >= size)
            return failure_set(failure, EXIT_USAGE, "%.100s…: the path is too long", parent);
        if (mkdir(out, 0777) == 0)
            return true;
        if (errno != EEXIST)
            break;
    }
    return failure_set(failure, EXIT_USAGE, "%s: no folder can be made: %s", out, strerror(errno));
}

FILE *tree_open(const char *folder, const char *name, failure_t *failure)
{
    char path[PATH_MAX + 256];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        failure_set(failure, EXIT_FAILED, "%s cannot be written: %s", path, strerror(errno));
    return file;
}

bool tree_close(FILE *file, const char *folder, const char *name, failure_t *failure)
{
    bool is_written = ferror(file) == 0;
    is_written = fclose(file) == 0 && is_written;
    return is_written ||
           failure_set(failure, EXIT_FAILED, "%s/%s could not be written", folder, name);
}
