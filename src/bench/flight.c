/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and shortens what a flight recorder says. */
#include "bench/flight.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Operations that a person gets to see. */
enum { SHOWN_COUNT = 5 };

/* How a line of an operation begins. */
static const char op_mark[] = "\n  op ";

char *flight_read(const moxie_group_t *group)
{
    char *text = NULL;
    int fd = memfd_create("flight", MFD_CLOEXEC);
    if (fd >= 0 && moxie_group_dump(group, fd) == MOXIE_OK) {
        off_t bytes = lseek(fd, 0, SEEK_END);
        text = bytes < 0 ? NULL : calloc(1, (size_t)bytes + 1);
        if (text != NULL && pread(fd, text, (size_t)bytes, 0) != bytes) {
            free(text);
            text = NULL;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return text;
}

void flight_print(const char *text, int32_t rank, FILE *out)
{
    const char *first[SHOWN_COUNT]; /* a ring: where the last operations begin */
    size_t count = 0;
    for (const char *at = strstr(text, op_mark); at != NULL; at = strstr(at + 1, op_mark)) {
        first[count++ % SHOWN_COUNT] = at + 1;
    }
    size_t shown = count < SHOWN_COUNT ? count : SHOWN_COUNT;
    (void)fprintf(out, "what rank %d did last:\n", rank);
    for (size_t i = count - shown; i < count; i++) {
        const char *line = first[i % SHOWN_COUNT];
        (void)fprintf(out, "%.*s\n", (int)strcspn(line, "\n"), line);
    }
}
