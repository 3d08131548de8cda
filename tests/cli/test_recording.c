/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded routings: written and read back unchanged; anything else is refused and never crashes.
 */
#include "support/check.h"

#include "bench/random.h"
#include "bench/recording.h"

#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Two ranks of 3 and 1 tokens, 4 experts, topk 2. */
static file_bytes_t sample(void)
{
    static const int64_t token_count[] = {3, 1};
    static const int32_t ids[] = {0, 1, 1, 3, -1, -1, 2, -1};
    static const float weights[] = {0.5f, 0.5f, 1.0f, -2.0f, 0.0f, 0.0f, 1.0f, 0.0f};
    routing_set_t set;
    file_bytes_t file;
    assert_true(routing_set_init(&set, 2, 4, 2, token_count));
    memcpy(set.topk_idx, ids, sizeof(ids));
    memcpy(set.topk_weights, weights, sizeof(weights));
    assert_true(recording_format(&set, &file));
    routing_set_release(&set);
    return file;
}

static void seal(file_bytes_t *file)
{
    uint32_t crc = htole32((uint32_t)crc32_z(0, (const Bytef *)file->bytes, file->count - 4));
    memcpy(file->bytes + file->count - 4, &crc, sizeof(crc));
}

static void set32(file_bytes_t *file, size_t at, uint32_t value)
{
    value = htole32(value);
    memcpy(file->bytes + at, &value, sizeof(value));
}

static void set64(file_bytes_t *file, size_t at, uint64_t value)
{
    value = htole64(value);
    memcpy(file->bytes + at, &value, sizeof(value));
}

/* A heap copy of exactly its bytes, so that a sanitizer sees a read behind them. */
static bool parse(const char *bytes, size_t count, failure_t *failure)
{
    file_bytes_t exact = {malloc(count > 0 ? count : 1), count};
    routing_set_t set;
    assert_non_null(exact.bytes);
    if (count > 0)
        memcpy(exact.bytes, bytes, count);
    bool is_read = recording_parse(&exact, "r.bin", &set, failure);
    if (is_read)
        routing_set_release(&set);
    else
        assert_int_equal(failure->exit_code, EXIT_USAGE);
    file_release(&exact);
    return is_read;
}

static void refuse(const file_bytes_t *file, const char *part)
{
    failure_t failure = {0};
    assert_false(parse(file->bytes, file->count, &failure));
    if (strstr(failure.sentence, part) == NULL)
        fail_msg("'%s' does not say '%s'", failure.sentence, part);
}

static void test_round_trip(void **state)
{
    (void)state;
    file_bytes_t file = sample();
    file_bytes_t again;
    routing_set_t set;
    failure_t failure = {0};
    assert_int_equal(file.count, 32 + 2 * 8 + 4 * 2 * 8 + 4); /* docs/routing-format.md */
    assert_true(recording_parse(&file, "r.bin", &set, &failure));
    assert_int_equal(set.rank_count, 2);
    assert_int_equal(set.expert_count, 4);
    assert_int_equal(set.topk, 2);
    assert_int_equal(routing_token_count(&set, 0), 3);
    assert_int_equal(set.topk_idx[3], 3);
    assert_true(set.topk_weights[3] == -2.0f);
    assert_true(recording_format(&set, &again));
    assert_int_equal(again.count, file.count);
    assert_memory_equal(again.bytes, file.bytes, file.count);
    routing_set_release(&set);
    file_release(&file);
    file_release(&again);
}

static void test_every_truncation(void **state)
{
    (void)state;
    file_bytes_t file = sample();
    for (size_t count = 0; count < file.count; count++) {
        failure_t failure = {0};
        assert_false(parse(file.bytes, count, &failure));
        assert_non_null(strstr(failure.sentence, "r.bin: "));
    }
    file_release(&file);
}

static void test_every_flipped_bit(void **state)
{
    (void)state;
    file_bytes_t file = sample();
    for (size_t bit = 0; bit < file.count * 8; bit++) {
        failure_t failure = {0};
        file.bytes[bit / 8] = (char)(file.bytes[bit / 8] ^ (1 << bit % 8));
        assert_false(parse(file.bytes, file.count, &failure));
        file.bytes[bit / 8] = (char)(file.bytes[bit / 8] ^ (1 << bit % 8));
    }
    file_release(&file);
}

static void test_each_field(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
        const char *part;
    } faults[] = {
        {8, 2, "has version 2"},
        {12, 0, "has 0 ranks"},
        {12, 513, "has 513 ranks"},
        {16, 0, "has 0 experts"},
        {16, UINT32_MAX, "experts"},
        {20, 0, "topk 0"},
        {20, 65, "topk 65"},
        {20, 5, "topk 5 with 4 experts"},
        {24, 5, "promises 5 tokens"},
        {24, 3, "its header says"},
        {48, 4, "rank 0, token 0, slot 0: expert 4 is out of range"},
        {48, (uint32_t)-2, "expert -2 is out of range"},
        {52, 0, "slot 1: expert 0 is there twice"},
        {80, 0x7F800000, "rank 0, token 0, slot 0: the weight is not finite"},
        {80, 0x7FC00000, "not finite"},
    };
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        file_bytes_t file = sample();
        set32(&file, faults[i].at, faults[i].value);
        seal(&file);
        refuse(&file, faults[i].part);
        file_release(&file);
    }
    file_bytes_t file = sample();
    set64(&file, 24, UINT64_MAX / 16);
    seal(&file);
    refuse(&file, "cut off");
    set64(&file, 24, 4);
    set64(&file, 32, UINT64_MAX);
    seal(&file);
    refuse(&file, "the tokens of rank 0");
    set64(&file, 32, 2);
    seal(&file);
    refuse(&file, "1 fewer");
    file_release(&file);
    char bytes[] = "\x7f"
                   "ELF garbage that is long enough to hold a header and more";
    file_bytes_t garbage = {bytes, sizeof(bytes)};
    refuse(&garbage, "is not a recorded routing");
}

/* Random damage under a right checksum: refused or read, never a crash. */
static void test_random_damage(void **state)
{
    (void)state;
    uint64_t random = random_key(1, 1, 1);
    file_bytes_t original = sample();
    for (int round = 0; round < 20000; round++) {
        char bytes[256];
        file_bytes_t file = {bytes, original.count};
        failure_t failure = {0};
        memcpy(bytes, original.bytes, original.count);
        if (random_below(&random, 4) == 0)
            file.count = 36 + random_below(&random, original.count - 36);
        for (uint64_t damage = 1 + random_below(&random, 4); damage > 0; damage--)
            bytes[random_below(&random, file.count)] = (char)random_next(&random);
        seal(&file);
        (void)parse(file.bytes, file.count, &failure);
    }
    file_release(&original);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_flipped_bit), cmocka_unit_test(test_each_field),
        cmocka_unit_test(test_random_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
