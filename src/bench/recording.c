/* SPDX-License-Identifier: Apache-2.0 */
/* Writes routings into bytes, and reads bytes that may be anything. */
#include "bench/recording.h"

#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define EXPERT_COUNT_MAX (1 << 20)

enum { VERSION = 1, HEADER_BYTES = 32, COUNT_BYTES = 8, SLOT_BYTES = 8, CRC_BYTES = 4 };

static const char magic[8] = {'M', 'O', 'X', 'I', 'E', 'R', 'T', 'G'};

static void put32(char *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static void put64(char *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

static uint32_t checksum(const char *bytes, size_t count)
{
    return (uint32_t)crc32_z(0, (const unsigned char *)bytes, count);
}

/* Both arrays are copied as they lie: ids and weights have four bytes each. */
static void swap32(char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put32(bytes + 4 * i, get32(bytes + 4 * i));
}

bool recording_format(const routing_set_t *set, file_bytes_t *out)
{
    size_t slot_count = (size_t)set->token_start[set->rank_count] * (size_t)set->topk;
    size_t counts_bytes = (size_t)set->rank_count * COUNT_BYTES;
    size_t count = HEADER_BYTES + counts_bytes + slot_count * SLOT_BYTES + CRC_BYTES;
    char *bytes = calloc(count, 1);
    if (bytes == NULL)
        return false;
    memcpy(bytes, magic, sizeof(magic));
    put32(bytes + 8, VERSION);
    put32(bytes + 12, (uint32_t)set->rank_count);
    put32(bytes + 16, (uint32_t)set->expert_count);
    put32(bytes + 20, (uint32_t)set->topk);
    put64(bytes + 24, (uint64_t)set->token_start[set->rank_count]);
    for (int32_t rank = 0; rank < set->rank_count; rank++)
        put64(bytes + HEADER_BYTES + (size_t)rank * COUNT_BYTES,
              (uint64_t)routing_token_count(set, rank));
    char *ids = bytes + HEADER_BYTES + counts_bytes;
    memcpy(ids, set->topk_idx, slot_count * sizeof(int32_t));
    memcpy(ids + slot_count * sizeof(int32_t), set->topk_weights, slot_count * sizeof(float));
    swap32(ids, slot_count * 2);
    put32(bytes + count - CRC_BYTES, checksum(bytes, count - CRC_BYTES));
    *out = (file_bytes_t){bytes, count};
    return true;
}

/* The header's numbers, still as unsigned as they were written. */
typedef struct header {
    uint32_t rank_count;
    uint32_t expert_count;
    uint32_t topk;
    uint64_t token_count_sum;
} header_t;

static bool parse_header(const file_bytes_t *file, const char *name, header_t *header,
                         failure_t *failure)
{
    if (file->count < sizeof(magic) || memcmp(file->bytes, magic, sizeof(magic)) != 0)
        return failure_set(failure, EXIT_USAGE, "%s: is not a recorded routing", name);
    if (file->count < HEADER_BYTES + CRC_BYTES)
        return failure_set(failure, EXIT_USAGE, "%s: is cut off inside its header", name);
    uint32_t version = get32(file->bytes + 8);
    if (version != VERSION)
        return failure_set(failure, EXIT_USAGE, "%s: has version %u, this program reads version %d",
                           name, version, VERSION);
    *header = (header_t){get32(file->bytes + 12), get32(file->bytes + 16), get32(file->bytes + 20),
                         get64(file->bytes + 24)};
    if (header->rank_count < 1 || header->rank_count > MOXIE_RANK_COUNT_MAX)
        return failure_set(failure, EXIT_USAGE, "%s: has %u ranks, it can have 1 to %d", name,
                           header->rank_count, MOXIE_RANK_COUNT_MAX);
    if (header->expert_count < 1 || header->expert_count > EXPERT_COUNT_MAX)
        return failure_set(failure, EXIT_USAGE, "%s: has %u experts, it can have 1 to %d", name,
                           header->expert_count, EXPERT_COUNT_MAX);
    if (header->topk < 1 || header->topk > MOXIE_TOPK_MAX || header->topk > header->expert_count)
        return failure_set(failure, EXIT_USAGE, "%s: has topk %u with %u experts", name,
                           header->topk, header->expert_count);
    return true;
}

/* Whether the file is as long as its header says, and unchanged since it was written. */
static bool check_bytes(const file_bytes_t *file, const char *name, const header_t *header,
                        failure_t *failure)
{
    uint64_t fixed = HEADER_BYTES + (uint64_t)header->rank_count * COUNT_BYTES + CRC_BYTES;
    uint64_t token_bytes = (uint64_t)header->topk * SLOT_BYTES;
    uint64_t room = file->count < fixed ? 0 : (file->count - fixed) / token_bytes;
    if (file->count < fixed || header->token_count_sum > room)
        return failure_set(failure, EXIT_USAGE,
                           "%s: is cut off: its header promises %llu tokens, there is room for "
                           "%llu",
                           name, (unsigned long long)header->token_count_sum,
                           (unsigned long long)room);
    uint64_t expected = fixed + header->token_count_sum * token_bytes;
    if (file->count != expected)
        return failure_set(failure, EXIT_USAGE, "%s: has %zu bytes, its header says %llu", name,
                           file->count, (unsigned long long)expected);
    size_t crc_at = file->count - CRC_BYTES;
    if (get32(file->bytes + crc_at) != checksum(file->bytes, crc_at))
        return failure_set(failure, EXIT_USAGE, "%s: is damaged: its checksum is wrong", name);
    return true;
}

static bool parse_counts(const file_bytes_t *file, const char *name, const header_t *header,
                         int64_t *token_count, failure_t *failure)
{
    uint64_t left = header->token_count_sum;
    for (uint32_t rank = 0; rank < header->rank_count; rank++) {
        uint64_t count = get64(file->bytes + HEADER_BYTES + (size_t)rank * COUNT_BYTES);
        if (count > left)
            return failure_set(failure, EXIT_USAGE,
                               "%s: the tokens of rank %u are more than the %llu of all ranks",
                               name, rank, (unsigned long long)header->token_count_sum);
        token_count[rank] = (int64_t)count;
        left -= count;
    }
    if (left > 0)
        return failure_set(failure, EXIT_USAGE,
                           "%s: the ranks' tokens are %llu fewer than the header says", name,
                           (unsigned long long)left);
    return true;
}

static bool check_token(const routing_set_t *set, const char *name, int32_t rank, int64_t token,
                        failure_t *failure)
{
    int64_t first = (set->token_start[rank] + token) * set->topk;
    for (int32_t slot = 0; slot < set->topk; slot++) {
        int32_t id = set->topk_idx[first + slot];
        const char *fault = NULL;
        if (id < -1 || id >= set->expert_count)
            fault = "is out of range";
        for (int32_t earlier = 0; earlier < slot && id >= 0; earlier++)
            if (set->topk_idx[first + earlier] == id)
                fault = "is there twice";
        if (fault != NULL)
            return failure_set(failure, EXIT_USAGE,
                               "%s: rank %d, token %lld, slot %d: expert %d %s", name, rank,
                               (long long)token, slot, id, fault);
        if (!isfinite(set->topk_weights[first + slot]))
            return failure_set(failure, EXIT_USAGE,
                               "%s: rank %d, token %lld, slot %d: the weight is not finite", name,
                               rank, (long long)token, slot);
    }
    return true;
}

static bool check_tokens(const routing_set_t *set, const char *name, failure_t *failure)
{
    for (int32_t rank = 0; rank < set->rank_count; rank++)
        for (int64_t token = 0; token < routing_token_count(set, rank); token++)
            if (!check_token(set, name, rank, token, failure))
                return false;
    return true;
}

bool recording_parse(const file_bytes_t *file, const char *name, routing_set_t *set,
                     failure_t *failure)
{
    header_t header = {0};
    int64_t token_count[MOXIE_RANK_COUNT_MAX];
    *set = (routing_set_t){0};
    if (!parse_header(file, name, &header, failure) || !check_bytes(file, name, &header, failure) ||
        !parse_counts(file, name, &header, token_count, failure))
        return false;
    if (!routing_set_init(set, (int32_t)header.rank_count, (int32_t)header.expert_count,
                          (int32_t)header.topk, token_count))
        return failure_set(failure, EXIT_USAGE, "%s: not enough memory for it", name);
    size_t slot_count = (size_t)header.token_count_sum * header.topk;
    const char *ids = file->bytes + HEADER_BYTES + (size_t)header.rank_count * COUNT_BYTES;
    memcpy(set->topk_idx, ids, slot_count * sizeof(int32_t));
    memcpy(set->topk_weights, ids + slot_count * sizeof(int32_t), slot_count * sizeof(float));
    swap32((char *)set->topk_idx, slot_count);
    swap32((char *)set->topk_weights, slot_count);
    if (check_tokens(set, name, failure))
        return true;
    routing_set_release(set);
    return false;
}

bool recording_read(const char *path, const char *where, routing_set_t *set, failure_t *failure)
{
    file_bytes_t file;
    if (!file_read(path, where, SIZE_MAX / 4, &file, failure))
        return false;
    bool is_read = recording_parse(&file, path, set, failure);
    file_release(&file);
    return is_read;
}
