/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded routings. The bytes are read as they are, and once more with the right checksum, which
 * no fuzzer would guess; what is accepted must be written again as it was. */
#include "bench/recording.h"
#include "fuzz/fuzz.h"

#include <endian.h>
#include <zlib.h>

static void parse(const file_bytes_t *file)
{
    failure_t failure = {0};
    routing_set_t set;
    if (!recording_parse(file, "input", &set, &failure)) {
        FUZZ_REQUIRE(failure.exit_code == EXIT_USAGE && failure.sentence[0] != '\0');
        return;
    }
    file_bytes_t again;
    FUZZ_REQUIRE(recording_format(&set, &again));
    FUZZ_REQUIRE(again.count == file->count && memcmp(again.bytes, file->bytes, file->count) == 0);
    file_release(&again);
    routing_set_release(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    file_bytes_t file = {malloc(count + 1), count};
    if (file.bytes == NULL) {
        return 0;
    }
    memcpy(file.bytes, bytes, count);
    parse(&file);
    if (count >= 4) {
        const uint32_t crc =
            htole32((uint32_t)crc32_z(0, (const unsigned char *)file.bytes, count - 4));
        memcpy(file.bytes + count - 4, &crc, sizeof(crc));
        parse(&file);
    }
    file_release(&file);
    return 0;
}
