/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target on every file of a folder, so that a find, once fixed, stays fixed. */
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <limits.h>

enum { INPUT_BYTES_MAX = 1 << 20 };

/* In memory of exactly its size, so that a sanitizer sees a byte too many. */
static int replay_file(const char *path)
{
    static uint8_t buffer[INPUT_BYTES_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    const size_t count = fread(buffer, 1, sizeof(buffer), file);
    (void)fclose(file);
    uint8_t *bytes = malloc(count > 0 ? count : 1);
    if (bytes == NULL) {
        return 1;
    }
    memcpy(bytes, buffer, count);
    fprintf(stderr, "%s\n", path);
    (void)LLVMFuzzerTestOneInput(bytes, count);
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    DIR *folder = opendir(argv[1]);
    if (folder == NULL) {
        perror(argv[1]);
        return 1;
    }
    int failed = 0;
    int replayed_count = 0;
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        failed |= replay_file(path);
        replayed_count++;
    }
    (void)closedir(folder);
    printf("%d inputs\n", replayed_count);
    return failed != 0 || replayed_count == 0;
}
