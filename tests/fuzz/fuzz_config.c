/* SPDX-License-Identifier: Apache-2.0 */
/* --config files: TOML, keys, types, values. */
#include "cli/config.h"
#include "fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static int fd = -1;
    char path[64];
    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    FUZZ_REQUIRE(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, count, 0) == (ssize_t)count);
    options_t options;
    failure_t failure = {0};
    FUZZ_REQUIRE(options_init(&options));
    options.config = strdup(path);
    if (!config_read(&options, &failure)) {
        FUZZ_REQUIRE(failure.exit_code != EXIT_DONE && failure.sentence[0] != '\0');
    }
    options_release(&options);
    return 0;
}
