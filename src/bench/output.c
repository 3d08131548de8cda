/* SPDX-License-Identifier: Apache-2.0 */
/* Prepares, names and removes what a run leaves on disk. */
#include "bench/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Names that a folder may try when its name is taken. */
enum { NAME_TRIES = 100 };

/* What mkstemp replaces. */
#define PARTIAL_SUFFIX ".XXXXXX"

/* The file mode that the umask leaves; mkstemp and mkdtemp give the owner's bits only. */
static mode_t mode_allowed(mode_t mode)
{
    mode_t mask = umask(0);
    (void)umask(mask);
    return mode & ~mask;
}

bool output_file_open(output_file_t *file, const char *path, const char *where, failure_t *failure)
{
    struct stat stat_of;
    *file = (output_file_t){.stream = NULL};
    if (strlen(path) + sizeof(PARTIAL_SUFFIX) > sizeof(file->path))
        return failure_set(failure, EXIT_USAGE, "%s: the path is too long", where);
    (void)snprintf(file->path, sizeof(file->path), "%s", path);
    if (stat(path, &stat_of) == 0 && !S_ISREG(stat_of.st_mode))
        return failure_set(failure, EXIT_USAGE, "%s: %s is not a regular file", where, path);
    (void)snprintf(file->partial_path, sizeof(file->partial_path), "%.*s" PARTIAL_SUFFIX,
                   (int)(sizeof(file->path) - sizeof(PARTIAL_SUFFIX)), path);
    int fd = mkostemp(file->partial_path, O_CLOEXEC);
    if (fd < 0) {
        file->partial_path[0] = '\0';
        return failure_set(failure, EXIT_USAGE, "%s: %s cannot be written: %s", where, path,
                           strerror(errno));
    }
    (void)fchmod(fd, mode_allowed(0666));
    file->stream = fdopen(fd, "wb");
    if (file->stream != NULL)
        return true;
    (void)close(fd);
    output_file_discard(file);
    return failure_set(failure, EXIT_FAILED, "%s: not enough memory", where);
}

bool output_file_commit(output_file_t *file, failure_t *failure)
{
    bool is_written = ferror(file->stream) == 0;
    is_written = fclose(file->stream) == 0 && is_written;
    file->stream = NULL;
    if (is_written && rename(file->partial_path, file->path) == 0) {
        file->partial_path[0] = '\0';
        return true;
    }
    failure_set(failure, EXIT_FAILED, "%s cannot be written: %s", file->path, strerror(errno));
    output_file_discard(file);
    return false;
}

void output_file_discard(output_file_t *file)
{
    if (file->stream != NULL)
        (void)fclose(file->stream);
    file->stream = NULL;
    if (file->partial_path[0] != '\0')
        (void)unlink(file->partial_path);
    file->partial_path[0] = '\0';
}

/* Makes the parent and the folders above it; remembers the first that was not there. */
static bool make_parent(output_folder_t *folder)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s", folder->parent);
    for (size_t i = 1; path[i - 1] != '\0'; i++) {
        char end = path[i];
        if (end != '/' && end != '\0')
            continue;
        path[i] = '\0';
        if (mkdir(path, 0777) == 0) {
            if (folder->made_length == 0)
                folder->made_length = i;
        } else if (errno != EEXIST && errno != EISDIR) {
            return false;
        }
        path[i] = end;
        if (end == '\0')
            break;
    }
    return true;
}

/* Removes the folders that were made for this one, deepest first; stops at what is not empty. */
static void unmake_parent(output_folder_t *folder)
{
    if (folder->made_length == 0)
        return;
    size_t length = strlen(folder->parent);
    while (length >= folder->made_length) {
        folder->parent[length] = '\0';
        if (rmdir(folder->parent) != 0 && errno != ENOENT)
            break;
        while (length > 0 && folder->parent[length] != '/')
            length--;
    }
    folder->made_length = 0;
}

bool output_folder_open(output_folder_t *folder, const char *parent, const char *where,
                        failure_t *failure)
{
    static const char pattern[] = "/.moxie-XXXXXX";
    *folder = (output_folder_t){.path = ""};
    /* 256 bytes are left for the name that the folder gets in the end. */
    if (strlen(parent) + 256 > sizeof(folder->parent))
        return failure_set(failure, EXIT_USAGE, "%s: the path is too long", where);
    (void)snprintf(folder->parent, sizeof(folder->parent), "%s", parent);
    (void)snprintf(folder->partial_path, sizeof(folder->partial_path), "%.*s%s",
                   (int)(sizeof(folder->parent) - 256), parent, pattern);
    if (make_parent(folder) && mkdtemp(folder->partial_path) != NULL) {
        (void)chmod(folder->partial_path, mode_allowed(0777));
        return true;
    }
    failure_set(failure, EXIT_USAGE, "%s: no folder can be made in %s: %s", where, parent,
                strerror(errno));
    folder->partial_path[0] = '\0';
    unmake_parent(folder);
    return false;
}

FILE *output_folder_file(const output_folder_t *folder, const char *name, failure_t *failure)
{
    char path[PATH_MAX + 64];
    (void)snprintf(path, sizeof(path), "%s/%s", folder->partial_path, name);
    FILE *stream = fopen(path, "we");
    if (stream == NULL)
        failure_set(failure, EXIT_FAILED, "%s cannot be written: %s", path, strerror(errno));
    return stream;
}

bool output_folder_commit(output_folder_t *folder, const char *prefix, const char *suffix,
                          failure_t *failure)
{
    char stamp[32] = "";
    struct tm local;
    time_t now = time(NULL);
    if (localtime_r(&now, &local) != NULL)
        (void)strftime(stamp, sizeof(stamp), "%Y-%m-%d_%H-%M-%S", &local);
    for (int32_t try = 1; try <= NAME_TRIES; try++) {
        char number[16] = "";
        if (try > 1)
            (void)snprintf(number, sizeof(number), "_%d", try);
        (void)snprintf(folder->path, sizeof(folder->path), "%.3700s/%.180s_%s%s%.100s",
                       folder->parent, prefix, stamp, number, suffix);
        if (rename(folder->partial_path, folder->path) == 0) {
            folder->partial_path[0] = '\0';
            folder->made_length = 0;
            return true;
        }
        if (errno != ENOTEMPTY && errno != EEXIST)
            break;
    }
    return failure_set(failure, EXIT_FAILED, "%s cannot be made: %s", folder->path,
                       strerror(errno));
}

void output_folder_discard(output_folder_t *folder)
{
    if (folder->partial_path[0] == '\0')
        return;
    DIR *entries = opendir(folder->partial_path);
    const struct dirent *entry = NULL;
    while (entries != NULL && (entry = readdir(entries)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(entries), entry->d_name, 0);
    if (entries != NULL)
        (void)closedir(entries);
    (void)rmdir(folder->partial_path);
    folder->partial_path[0] = '\0';
    unmake_parent(folder);
}
