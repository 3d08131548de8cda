/* SPDX-License-Identifier: Apache-2.0 */
/* Reads whole files. */
#include "bench/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads until the end or until `count` bytes are there; returns the bytes read, -1 on an error. */
static ssize_t read_fully(int fd, char *bytes, size_t count)
{
    size_t done = 0;
    while (done < count) {
        ssize_t got = read(fd, bytes + done, count - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static bool read_open(int fd, const char *path, const char *where, size_t count_max,
                      file_bytes_t *out, failure_t *failure)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0)
        return failure_set(failure, EXIT_USAGE, "%s: %s: %s", where, path, strerror(errno));
    if (S_ISDIR(stat.st_mode))
        return failure_set(failure, EXIT_USAGE, "%s: %s is a folder, not a file", where, path);
    if (!S_ISREG(stat.st_mode))
        return failure_set(failure, EXIT_USAGE, "%s: %s is not a regular file", where, path);
    if ((uint64_t)stat.st_size > count_max)
        return failure_set(failure, EXIT_USAGE, "%s: %s has %lld bytes, at most %zu are read",
                           where, path, (long long)stat.st_size, count_max);
    size_t count = (size_t)stat.st_size;
    char *bytes = malloc(count + 1);
    if (bytes == NULL)
        return failure_set(failure, EXIT_USAGE, "%s: %s: not enough memory for its %zu bytes",
                           where, path, count);
    ssize_t got = read_fully(fd, bytes, count);
    if (got < 0) {
        failure_set(failure, EXIT_USAGE, "%s: %s: %s", where, path, strerror(errno));
        free(bytes);
        return false;
    }
    bytes[got] = '\0';
    *out = (file_bytes_t){bytes, (size_t)got};
    return true;
}

bool file_read(const char *path, const char *where, size_t count_max, file_bytes_t *out,
               failure_t *failure)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block the open */
    if (fd < 0)
        return failure_set(failure, EXIT_USAGE, "%s: %s: %s", where, path, strerror(errno));
    bool is_read = read_open(fd, path, where, count_max, out, failure);
    (void)close(fd);
    return is_read;
}

void file_release(file_bytes_t *file)
{
    free(file->bytes);
    *file = (file_bytes_t){NULL, 0};
}
