/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: checks, the walk over all tokens, and the conversions its sums use.
 *
 * Everything here loops over the definitions of an exchange and shares no code with routes, layouts
 * or backends, so that it cannot share their mistakes. Slow on purpose; allocates counters and a
 * few rows only. It assumes the default floating-point environment (round to nearest even, no
 * flushing of subnormals): unlike the exchange, it does not set one. */
#include "core/error.h"
#include "core/options.h"
#include "core/reference_walk.h"

#include <stdlib.h>
#include <string.h>

/* The quiet NaN that every NaN in an fp32 result becomes. */
#define CANONICAL_NAN_FP32 0x7FFFFFFFu

static int64_t id_at(const moxie_world_t *world, int32_t rank, int64_t token, int32_t slot)
{
    const moxie_routing_t *routing = &world->routing[rank];
    int64_t index = token * world->topk + slot;
    if (routing->index_type == MOXIE_INDEX_INT64) {
        return ((const int64_t *)routing->topk_idx)[index];
    }
    return ((const int32_t *)routing->topk_idx)[index];
}

static float weight_at(const moxie_world_t *world, int32_t rank, int64_t token, int32_t slot)
{
    const float *weights = world->routing[rank].topk_weights;
    return weights == NULL ? 1.0f : weights[token * world->topk + slot];
}

static moxie_status_t check_shape(const moxie_world_t *world)
{
    if (world->placement == NULL || world->routing == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: a world needs a placement and routings");
    }
    if (world->hidden < 1 || world->alignment < 1 || world->alignment > INT32_MAX) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "reference: hidden %lld or alignment %lld is out of range",
                         (long long)world->hidden, (long long)world->alignment);
    }
    if (world->topk < 1 || world->topk > MOXIE_TOPK_MAX) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: topk %d is not in [1, %d]", world->topk,
                         MOXIE_TOPK_MAX);
    }
    if (world->layout != MOXIE_LAYOUT_RANK_MAJOR && world->layout != MOXIE_LAYOUT_EXPERT_MAJOR) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: %d is no layout", (int)world->layout);
    }
    if (world->mode != MOXIE_MODE_STANDARD &&
        (world->mode != MOXIE_MODE_LOW_LATENCY || world->alignment != 1 ||
         world->token_count_max < 0)) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "reference: %d is no mode, or alignment %lld or token_count_max %lld not "
                         "one of low latency",
                         (int)world->mode, (long long)world->alignment,
                         (long long)world->token_count_max);
    }
    return MOXIE_OK;
}

static moxie_status_t check_routing_shape(const moxie_world_t *world, int32_t rank)
{
    const moxie_routing_t *routing = &world->routing[rank];
    if (world->mode == MOXIE_MODE_LOW_LATENCY && routing->token_count > world->token_count_max) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: rank %d has %lld tokens, of %lld at most",
                         rank, (long long)routing->token_count, (long long)world->token_count_max);
    }
    bool type_known =
        routing->index_type == MOXIE_INDEX_INT32 || routing->index_type == MOXIE_INDEX_INT64;
    if (routing->size >= sizeof(*routing) && routing->token_count >= 0 && type_known &&
        (routing->topk_idx != NULL || routing->token_count == 0)) {
        return MOXIE_OK;
    }
    return error_set(MOXIE_ERR_ARGUMENT,
                     "reference: the routing of rank %d has no size, no ids, an unknown id type "
                     "or a negative token count",
                     rank);
}

static moxie_status_t refuse_id(int32_t rank, int64_t token, int32_t slot, int64_t id,
                                const char *why)
{
    error_set(MOXIE_ERR_ROUTING, "rank %d, token %lld, slot %d: expert %lld %s", rank,
              (long long)token, slot, (long long)id, why);
    moxie_error_t *detail = error_detail();
    detail->peer = rank;
    detail->token = token;
    detail->slot = slot;
    detail->observed = id;
    return MOXIE_ERR_ROUTING;
}

static moxie_status_t check_token(const moxie_world_t *world, int32_t rank, int64_t token)
{
    int64_t expert_count = moxie_placement_expert_count(world->placement);
    for (int32_t slot = 0; slot < world->topk; slot++) {
        int64_t id = id_at(world, rank, token, slot);
        if (id == -1) {
            continue;
        }
        if (id < -1 || id >= expert_count) {
            return refuse_id(rank, token, slot, id, "is out of range");
        }
        for (int32_t earlier = 0; earlier < slot; earlier++) {
            if (id_at(world, rank, token, earlier) == id) {
                return refuse_id(rank, token, slot, id, "is there twice");
            }
        }
    }
    return MOXIE_OK;
}

static moxie_status_t check_world(const moxie_world_t *world)
{
    moxie_status_t status = check_shape(world);
    if (status != MOXIE_OK) {
        return status;
    }
    int32_t rank_count = moxie_placement_rank_count(world->placement);
    for (int32_t rank = 0; rank < rank_count; rank++) {
        status = check_routing_shape(world, rank);
        for (int64_t token = 0; status == MOXIE_OK && token < world->routing[rank].token_count;
             token++) {
            status = check_token(world, rank, token);
        }
        if (status != MOXIE_OK) {
            return status;
        }
    }
    return MOXIE_OK;
}

moxie_status_t moxie_reference_check(const moxie_world_t *callers)
{
    moxie_world_t world = MOXIE_WORLD_INIT;
    moxie_status_t status = options_read(&world, callers, sizeof(world), "reference: world");
    return status != MOXIE_OK ? status : check_world(&world);
}

/* Looks up the slots of the current token; no rows yet. */
static void read_slots(reference_walk_t *walk)
{
    const moxie_world_t *world = walk->world;
    for (int32_t slot = 0; slot < world->topk; slot++) {
        int32_t expert = (int32_t)id_at(world, walk->source, walk->token, slot);
        walk->expert[slot] = expert;
        walk->rank[slot] = expert < 0 ? -1 : moxie_placement_rank(world->placement, expert);
        walk->local[slot] = expert < 0 ? -1 : moxie_placement_local(world->placement, expert);
        walk->weight[slot] = weight_at(world, walk->source, walk->token, slot);
        walk->row[slot] = -1;
    }
}

static bool is_low_latency(const reference_walk_t *walk)
{
    return walk->world->mode == MOXIE_MODE_LOW_LATENCY;
}

int64_t reference_slot_count(const reference_walk_t *walk)
{
    return moxie_placement_rank_count(walk->world->placement) * walk->world->token_count_max;
}

/* Low latency: the rows of a source begin at its slots, on every rank. */
static void start_source(reference_walk_t *walk)
{
    for (int32_t rank = 0; rank < moxie_placement_rank_count(walk->world->placement); rank++) {
        walk->next_row[rank] = walk->source * walk->world->token_count_max;
    }
}

/* One row a rank, however many of the token's experts it holds. */
static void count_rank_major(reference_walk_t *walk)
{
    int32_t topk = walk->world->topk;
    if (is_low_latency(walk) && walk->token == 0) {
        start_source(walk);
    }
    for (int32_t slot = 0; slot < topk; slot++) {
        if (walk->rank[slot] < 0 || walk->row[slot] >= 0) {
            continue;
        }
        int64_t row = walk->next_row[walk->rank[slot]]++;
        for (int32_t later = slot; later < topk; later++) {
            if (walk->rank[later] == walk->rank[slot]) {
                walk->row[later] = row;
            }
        }
    }
}

/* One row a slot, in its expert's block. */
static void count_expert_major(reference_walk_t *walk)
{
    for (int32_t slot = 0; slot < walk->world->topk; slot++) {
        if (walk->expert[slot] >= 0) {
            walk->row[slot] = walk->next_row[walk->expert[slot]]++;
        }
    }
}

static bool next_token(reference_walk_t *walk)
{
    int32_t rank_count = moxie_placement_rank_count(walk->world->placement);
    walk->token++;
    while (walk->source < rank_count &&
           walk->token >= walk->world->routing[walk->source].token_count) {
        walk->source++;
        walk->token = 0;
    }
    if (walk->source >= rank_count) {
        return false;
    }
    read_slots(walk);
    return true;
}

bool reference_walk_next(reference_walk_t *walk)
{
    if (!next_token(walk)) {
        return false;
    }
    if (walk->world->layout == MOXIE_LAYOUT_RANK_MAJOR) {
        count_rank_major(walk);
    } else {
        count_expert_major(walk);
    }
    return true;
}

static void rewind_walk(reference_walk_t *walk)
{
    walk->source = 0;
    walk->token = -1;
}

int64_t reference_block_rows(const reference_walk_t *walk, int32_t expert)
{
    int64_t alignment = walk->world->alignment;
    if (is_low_latency(walk)) {
        return reference_slot_count(walk);
    }
    return (walk->expert_rows[expert] + alignment - 1) / alignment * alignment;
}

static void start_blocks(reference_walk_t *walk)
{
    const moxie_placement_t *placement = walk->world->placement;
    for (int32_t rank = 0; rank < moxie_placement_rank_count(placement); rank++) {
        int64_t start = 0;
        for (int32_t local = 0; local < moxie_placement_local_count(placement, rank); local++) {
            int32_t expert = moxie_placement_expert(placement, rank, local);
            walk->next_row[expert] = start;
            start += reference_block_rows(walk, expert);
        }
    }
}

moxie_status_t reference_walk_begin(reference_walk_t *walk, const moxie_world_t *callers,
                                    int32_t rank)
{
    *walk = (reference_walk_t){.own_world = MOXIE_WORLD_INIT, .world = &walk->own_world};
    moxie_status_t status =
        options_read(&walk->own_world, callers, sizeof(walk->own_world), "reference: world");
    if (status == MOXIE_OK) {
        status = check_world(walk->world);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    const moxie_world_t *world = walk->world;
    int32_t rank_count = moxie_placement_rank_count(world->placement);
    int32_t expert_count = moxie_placement_expert_count(world->placement);
    if (rank < 0 || rank >= rank_count) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: there is no rank %d among %d", rank,
                         rank_count);
    }
    size_t counter_count = (size_t)(rank_count > expert_count ? rank_count : expert_count);
    walk->next_row = calloc(counter_count, sizeof(*walk->next_row));
    walk->expert_rows = calloc(counter_count, sizeof(*walk->expert_rows));
    if (walk->next_row == NULL || walk->expert_rows == NULL) {
        reference_walk_end(walk);
        return error_set(MOXIE_ERR_MEMORY, "reference: no memory for counters");
    }
    rewind_walk(walk);
    while (next_token(walk)) {
        for (int32_t slot = 0; slot < world->topk; slot++) {
            if (walk->expert[slot] >= 0) {
                walk->expert_rows[walk->expert[slot]]++;
            }
        }
    }
    if (world->layout == MOXIE_LAYOUT_EXPERT_MAJOR) {
        start_blocks(walk);
    }
    rewind_walk(walk);
    return MOXIE_OK;
}

void reference_walk_end(reference_walk_t *walk)
{
    free(walk->next_row);
    free(walk->expert_rows);
    walk->next_row = NULL;
    walk->expert_rows = NULL;
}

static int64_t rank_major_rows(const reference_walk_t *walk, int32_t rank)
{
    reference_walk_t counting = *walk; /* its own position; shares no counter that is written */
    int64_t row_count = 0;
    rewind_walk(&counting);
    while (next_token(&counting)) {
        bool is_there = false;
        for (int32_t slot = 0; slot < walk->world->topk; slot++) {
            is_there = is_there || counting.rank[slot] == rank;
        }
        row_count += is_there;
    }
    return row_count;
}

int64_t reference_recv_rows(const reference_walk_t *walk, int32_t rank)
{
    const moxie_placement_t *placement = walk->world->placement;
    if (walk->world->layout == MOXIE_LAYOUT_RANK_MAJOR) {
        return is_low_latency(walk) ? reference_slot_count(walk) : rank_major_rows(walk, rank);
    }
    int64_t row_count = 0;
    for (int32_t local = 0; local < moxie_placement_local_count(placement, rank); local++) {
        row_count += reference_block_rows(walk, moxie_placement_expert(placement, rank, local));
    }
    return row_count;
}

moxie_status_t moxie_reference_recv_rows(const moxie_world_t *world, int32_t rank,
                                         int64_t *row_count)
{
    reference_walk_t walk;
    if (row_count == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: nowhere to put the row count");
    }
    moxie_status_t status = reference_walk_begin(&walk, world, rank);
    if (status != MOXIE_OK) {
        return status;
    }
    *row_count = reference_recv_rows(&walk, rank);
    reference_walk_end(&walk);
    return MOXIE_OK;
}

moxie_status_t reference_check_dtype(moxie_dtype_t dtype, const char *name)
{
    if (dtype == MOXIE_DTYPE_BF16 || dtype == MOXIE_DTYPE_FP32) {
        return MOXIE_OK;
    }
    return error_set(MOXIE_ERR_ARGUMENT, "reference: the type of %s is neither bf16 nor fp32",
                     name);
}

moxie_status_t reference_check_reader(const moxie_row_reader_t *reader, moxie_dtype_t dtype,
                                      const char *name)
{
    if (reader == NULL || reader->row == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: no reader for %s", name);
    }
    if (reader->dtype != dtype) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: %s are read as %s, not %s", name,
                         moxie_dtype_name(reader->dtype), moxie_dtype_name(dtype));
    }
    return reference_check_dtype(dtype, name);
}

void reference_load(moxie_dtype_t dtype, const void *elements, int64_t count, float *out)
{
    if (dtype == MOXIE_DTYPE_FP32) {
        memcpy(out, elements, (size_t)count * sizeof(float));
        return;
    }
    const uint16_t *bits = elements;
    for (int64_t i = 0; i < count; i++) {
        out[i] = moxie_bf16_to_float(bits[i]);
    }
}

void reference_store(moxie_dtype_t dtype, const float *values, int64_t count, void *out)
{
    if (dtype == MOXIE_DTYPE_BF16) {
        uint16_t *bits = out;
        for (int64_t i = 0; i < count; i++) {
            bits[i] = moxie_bf16_from_float(values[i]);
        }
        return;
    }
    uint32_t *words = out;
    memcpy(words, values, (size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
        if ((words[i] & 0x7FFFFFFFu) > 0x7F800000u) {
            words[i] = CANONICAL_NAN_FP32;
        }
    }
}
