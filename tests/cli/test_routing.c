/* SPDX-License-Identifier: Apache-2.0 */
/* Routing generators: valid, deterministic to the bit, and of the promised distribution. */
#include "support/check.h"

#include "bench/routing.h"
#include "bench/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static routing_set_t make(const char *text, uint64_t seed, int32_t rank_count, int64_t tokens,
                          int32_t expert_count, int32_t topk)
{
    int64_t token_count[MOXIE_RANK_COUNT_MAX];
    routing_spec_t spec;
    routing_set_t set;
    failure_t failure = {0};
    for (int32_t rank = 0; rank < rank_count; rank++)
        token_count[rank] = tokens;
    assert_true(routing_spec_parse(text, "--routing", &spec, &failure));
    assert_true(routing_set_init(&set, rank_count, expert_count, topk, token_count));
    if (!routing_generate(&spec, seed, &set, &failure))
        fail_msg("%s: %s", text, failure.sentence);
    return set;
}

static uint32_t checksum(const routing_set_t *set)
{
    size_t slots = (size_t)set->token_start[set->rank_count] * (size_t)set->topk;
    uLong crc = crc32_z(0, (const Bytef *)set->topk_idx, slots * sizeof(int32_t));
    return (uint32_t)crc32_z(crc, (const Bytef *)set->topk_weights, slots * sizeof(float));
}

static void check_valid(const routing_set_t *set)
{
    int64_t token_count = set->token_start[set->rank_count];
    for (int64_t token = 0; token < token_count; token++) {
        const int32_t *ids = set->topk_idx + token * set->topk;
        const float *weights = set->topk_weights + token * set->topk;
        double sum = 0.0;
        for (int32_t slot = 0; slot < set->topk; slot++) {
            assert_in_range(ids[slot], 0, set->expert_count - 1);
            for (int32_t earlier = 0; earlier < slot; earlier++)
                assert_int_not_equal(ids[slot], ids[earlier]);
            assert_true(weights[slot] > 0.0f && weights[slot] <= 1.0f);
            sum += (double)weights[slot];
        }
        assert_true(fabs(sum - 1.0) < 1e-5);
    }
}

/* A text of ours, so that no test depends on the repository's. */
static char text_routing[64];

static int write_text(void **state)
{
    static const char text[] = "The whale, the WHALE!\nDon't \xe2\x80\x94 don\xe2\x80\x99t; a "
                               "b c d e f g h i j k l m n o p.\n";
    (void)state;
    (void)snprintf(text_routing, sizeof(text_routing), "text:/tmp/moxie-test-text-%d", getpid());
    FILE *file = fopen(text_routing + 5, "w");
    if (file == NULL)
        return -1;
    (void)fputs(text, file);
    return fclose(file);
}

static int remove_text(void **state)
{
    (void)state;
    return unlink(text_routing + 5);
}

static void test_all_are_valid_and_deterministic(void **state)
{
    (void)state;
    const char *const kinds[] = {"uniform",  "balanced", "zipf:0",
                                 "zipf:1.2", "zipf:16",  text_routing};
    static const int32_t shapes[][2] = {{1, 1}, {3, 3}, {13, 4}, {128, 8}, {64, 64}};
    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        for (size_t shape = 0; shape < sizeof(shapes) / sizeof(shapes[0]); shape++) {
            routing_set_t one = make(kinds[kind], 7, 3, 50, shapes[shape][0], shapes[shape][1]);
            routing_set_t same = make(kinds[kind], 7, 3, 50, shapes[shape][0], shapes[shape][1]);
            routing_set_t other = make(kinds[kind], 8, 3, 50, shapes[shape][0], shapes[shape][1]);
            check_valid(&one);
            assert_int_equal(checksum(&one), checksum(&same));
            if (shapes[shape][1] > 1)
                assert_int_not_equal(checksum(&one), checksum(&other));
            routing_set_release(&one);
            routing_set_release(&same);
            routing_set_release(&other);
        }
    }
}

/* A rank's routing does not depend on how many ranks or tokens there are beside it. */
static void test_ranks_are_independent(void **state)
{
    (void)state;
    static const char *const kinds[] = {"uniform", "balanced", "zipf:1.2"};
    for (size_t kind = 0; kind < 3; kind++) {
        routing_set_t two = make(kinds[kind], 1, 2, 40, 16, 4);
        routing_set_t five = make(kinds[kind], 1, 5, 20, 16, 4);
        for (int32_t rank = 0; rank < 2; rank++) {
            moxie_routing_t a = routing_of_rank(&two, rank);
            moxie_routing_t b = routing_of_rank(&five, rank);
            assert_memory_equal(a.topk_idx, b.topk_idx, 20 * 4 * sizeof(int32_t));
            assert_memory_equal(a.topk_weights, b.topk_weights, 20 * 4 * sizeof(float));
        }
        routing_set_release(&two);
        routing_set_release(&five);
    }
}

static void count_experts(const routing_set_t *set, int64_t *count)
{
    int64_t slots = set->token_start[set->rank_count] * set->topk;
    for (int64_t slot = 0; slot < slots; slot++)
        count[set->topk_idx[slot]]++;
}

static void test_distributions(void **state)
{
    (void)state;
    int64_t uniform[16] = {0};
    int64_t balanced[16] = {0};
    int64_t skewed[16] = {0};
    routing_set_t set = make("uniform", 1, 4, 4000, 16, 2);
    count_experts(&set, uniform);
    routing_set_release(&set);
    set = make("balanced", 1, 4, 4000, 16, 2);
    assert_int_equal(set.topk_idx[9 * 2 + 1], (9 * 2 + 1) % 16);
    count_experts(&set, balanced);
    routing_set_release(&set);
    set = make("zipf:1", 1, 4, 4000, 16, 1);
    count_experts(&set, skewed);
    routing_set_release(&set);
    int64_t most = 0;
    int64_t least = INT64_MAX;
    for (int expert = 0; expert < 16; expert++) {
        assert_in_range(uniform[expert], 1800, 2200);
        assert_int_equal(balanced[expert], 2000);
        most = skewed[expert] > most ? skewed[expert] : most;
        least = skewed[expert] < least ? skewed[expert] : least;
    }
    /* 16000 draws over H(16) = 3.3807: 4733 for the first place, 296 for the last. */
    assert_in_range(most, 4500, 4950);
    assert_in_range(least, 230, 370);
}

/* The same word goes to the same experts; the ranks read the text in turn and it starts again. */
static void test_text_routing(void **state)
{
    (void)state;
    routing_set_t set = make(text_routing, 1, 2, 30, 32, 3);
    size_t row = 3 * sizeof(int32_t);
    assert_memory_equal(set.topk_idx, set.topk_idx + 3 * 3, row);     /* The … the */
    assert_memory_equal(set.topk_idx + 3, set.topk_idx + 4 * 3, row); /* whale … WHALE */
    assert_memory_not_equal(set.topk_idx, set.topk_idx + 3, row);
    routing_set_t longer = make(text_routing, 1, 1, 60, 32, 3);
    assert_memory_equal(set.topk_idx, longer.topk_idx, 60 * row);
    routing_set_release(&set);
    routing_set_release(&longer);
}

static int64_t count_tokens(const char *text, size_t count, failure_t *failure)
{
    char copy[256];
    memcpy(copy, text, count);
    copy[count] = '\0';
    file_bytes_t file = {copy, count};
    text_tokens_t tokens = {0};
    if (!text_tokenise(&file, "a.txt", &tokens, failure))
        return -1;
    int64_t token_count = tokens.count;
    text_tokens_release(&tokens);
    return token_count;
}

static void test_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t count;
    } texts[] = {
        {"one", 1},
        {"one two\n", 2},
        {"one,two", 3},
        {"don't", 1},
        {"'tis' o'clock", 4},
        {"a--b", 4},
        {"42nd St.", 3},
        {"na\xc3\xafve", 1},
        {"a\xe2\x80\x94z", 3},
        {"it\xe2\x80\x99s", 1},
        {"\xef\xbb\xbfx", 1},
        {"!?", 2},
    };
    failure_t failure = {0};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        int64_t count = count_tokens(texts[i].text, strlen(texts[i].text), &failure);
        if (count != texts[i].count)
            fail_msg("'%s' has %d tokens", texts[i].text, (int)count);
    }
}

static void test_what_is_no_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        const char *part;
    } texts[] = {
        {"", 0, "no word"},          {" \n\t ", 4, "no word"},
        {"a\n\0b", 4, "a.txt:2"},    {"a\n\nb\x80", 5, "a.txt:3: byte 4 (0x80)"},
        {"ab\xe2\x80", 4, "byte 2"}, {"\xc0\xaf", 2, "byte 0"},
        {"\xed\xa0\x80", 3, "0xed"}, {"\xf5\x80\x80\x80", 4, "0xf5"},
        {"\x1b[0m", 4, "0x1b"},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        failure_t failure = {0};
        assert_int_equal(count_tokens(texts[i].text, texts[i].count, &failure), -1);
        assert_int_equal(failure.exit_code, EXIT_USAGE);
        if (strstr(failure.sentence, texts[i].part) == NULL)
            fail_msg("'%s' does not say '%s'", failure.sentence, texts[i].part);
    }
}

static void test_rows_to_peer(void **state)
{
    (void)state;
    const int64_t token_count[] = {3, 1};
    routing_set_t set;
    moxie_placement_t *placement = NULL;
    int64_t rows[2];
    static const int32_t ids[] = {0, 1, 1, 3, -1, -1, 2, -1};
    assert_true(routing_set_init(&set, 2, 4, 2, token_count));
    memcpy(set.topk_idx, ids, sizeof(ids));
    assert_ok(moxie_placement_create_block(4, 2, &placement));
    routing_rows_to_peer(&set, placement, 0, rows);
    assert_int_equal(rows[0], 2);
    assert_int_equal(rows[1], 1);
    routing_rows_to_peer(&set, placement, 1, rows);
    assert_int_equal(rows[0], 0);
    assert_int_equal(rows[1], 1);
    moxie_placement_destroy(placement);
    routing_set_release(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_valid_and_deterministic),
        cmocka_unit_test(test_ranks_are_independent),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_text_routing),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_what_is_no_text),
        cmocka_unit_test(test_rows_to_peer),
    };
    return cmocka_run_group_tests(tests, write_text, remove_text);
}
