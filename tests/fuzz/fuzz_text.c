/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that become tokens. */
#include "bench/text.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    file_bytes_t text = {malloc(count > 0 ? count : 1), count};
    if (text.bytes == NULL) {
        return 0;
    }
    memcpy(text.bytes, bytes, count); /* no NUL behind it: the count must be enough */
    failure_t failure = {0};
    text_tokens_t tokens;
    if (text_tokenise(&text, "input", &tokens, &failure)) {
        FUZZ_REQUIRE(tokens.count > 0 && (size_t)tokens.count <= count);
        text_tokens_release(&tokens);
    } else {
        FUZZ_REQUIRE(failure.exit_code == EXIT_USAGE && failure.sentence[0] != '\0');
    }
    file_release(&text);
    return 0;
}
