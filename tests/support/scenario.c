/* SPDX-License-Identifier: Apache-2.0 */
/* Placements and routings of all ranks from a scenario. */
#include "support/scenario.h"

#include "support/payload.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count == 0 ? 1 : count, bytes);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* The n-th choice among `count` that a seed makes. */
static int64_t choose(uint64_t seed, uint64_t n, int64_t count)
{
    return (int64_t)(payload_hash(seed, PAYLOAD_CHOICE, n, 0) % (uint64_t)count);
}

static moxie_dtype_t choose_dtype(uint64_t seed, uint64_t n)
{
    return choose(seed, n, 3) == 0 ? MOXIE_DTYPE_FP32 : MOXIE_DTYPE_BF16;
}

static int64_t choose_hidden(uint64_t seed, int64_t hidden_max)
{
    const int64_t odd[] = {1, 2, 7, 8, 16, 31, 64, 127, 128, 256, 257, 512};
    int64_t hidden =
        choose(seed, 1, 2) == 0 ? odd[choose(seed, 2, 12)] : 1 + choose(seed, 3, hidden_max);
    return hidden > hidden_max ? hidden_max : hidden;
}

scenario_t scenario_random(uint64_t seed, int64_t token_count_max, int64_t hidden_max)
{
    const int64_t alignments[] = {1, 1, 2, 16, 128};
    const int32_t topks[] = {1, 2, 3, 4, 6, 8};
    scenario_t scenario = {
        .seed = seed,
        .hidden = choose_hidden(seed, hidden_max),
        .token_count_max = 1 + choose(seed, 4, token_count_max),
        .alignment = alignments[choose(seed, 5, 5)],
        .expert_count = (int32_t)(1 + choose(seed, 6, 24)),
        .topk = topks[choose(seed, 7, 6)],
        .layout = choose(seed, 8, 2) == 0 ? MOXIE_LAYOUT_RANK_MAJOR : MOXIE_LAYOUT_EXPERT_MAJOR,
        .tokens = choose(seed, 9, 2) == 0 ? TOKENS_RAGGED : (scenario_tokens_t)choose(seed, 10, 3),
        .routing = (scenario_routing_t)(choose(seed, 11, 8) % 3),
        .placement = (scenario_placement_t)choose(seed, 12, 4),
        .weights = (scenario_weights_t)choose(seed, 13, 4),
        .ids = (scenario_ids_t)choose(seed, 14, 3),
        .x_dtype = choose_dtype(seed, 15),
        .y_dtype = choose_dtype(seed, 16),
        .wire_dtype = choose_dtype(seed, 17),
        .out_dtype = choose_dtype(seed, 18),
        .unweighted = choose(seed, 19, 4) == 0,
        .special = choose(seed, 20, 2) == 0,
        .null_outputs = choose(seed, 21, 3) == 0,
        .odd_fenv = choose(seed, 22, 3) == 0,
        .own_state = choose(seed, 23, 4) == 0,
        .aligned = choose(seed, 24, 3) == 0,
        .brings_routing = choose(seed, 25, 2) == 0,
    };
    return scenario;
}

scenario_t scenario_random_fp8(uint64_t seed, int64_t token_count_max, int64_t hidden_max)
{
    scenario_t scenario = scenario_random(seed, token_count_max, hidden_max);
    scenario.quantised = choose(seed, 30, 2) == 0;
    scenario.x_dtype = scenario.quantised ? MOXIE_DTYPE_BF16 : MOXIE_DTYPE_FP8_E4M3;
    scenario.scale_type = (moxie_scale_type_t)(MOXIE_SCALE_FP32 + choose(seed, 31, 3));
    scenario.scale_layout = (moxie_scale_layout_t)(MOXIE_SCALES_ROW_MAJOR + choose(seed, 32, 2));
    return scenario;
}

scenario_t scenario_random_low_latency(uint64_t seed, int64_t token_count_max, int64_t hidden_max,
                                       bool has_fp8)
{
    scenario_t scenario = scenario_random_fp8(seed, token_count_max, hidden_max);
    if (!has_fp8 || choose(seed, 33, 2) == 0) {
        scenario.quantised = false;
        scenario.x_dtype = MOXIE_DTYPE_BF16;
    }
    scenario.mode = MOXIE_MODE_LOW_LATENCY;
    scenario.alignment = 1;
    scenario.halves = choose(seed, 34, 3) == 0;
    return scenario;
}

bool scenario_has_scales(const scenario_t *scenario)
{
    return scenario->quantised || scenario->x_dtype == MOXIE_DTYPE_FP8_E4M3;
}

static moxie_dtype_t or_bf16(moxie_dtype_t dtype)
{
    return dtype == 0 ? MOXIE_DTYPE_BF16 : dtype;
}

scenario_t scenario_complete(const scenario_t *scenario)
{
    scenario_t full = *scenario;
    full.alignment = full.alignment == 0 ? 1 : full.alignment;
    full.layout = full.layout == 0 ? MOXIE_LAYOUT_RANK_MAJOR : full.layout;
    full.x_dtype = or_bf16(full.x_dtype);
    full.scale_type = full.scale_type == 0 ? MOXIE_SCALE_FP32 : full.scale_type;
    full.scale_layout = full.scale_layout == 0 ? MOXIE_SCALES_ROW_MAJOR : full.scale_layout;
    full.y_dtype = or_bf16(full.y_dtype);
    full.wire_dtype = or_bf16(full.wire_dtype);
    full.out_dtype = or_bf16(full.out_dtype);
    return full;
}

static int32_t choose_rank(const scenario_t *scenario, int32_t expert, int32_t rank_count)
{
    const int64_t choice = choose(scenario->seed, 100 + (uint64_t)expert, rank_count);
    if (scenario->placement == PLACEMENT_SOME_EMPTY && rank_count > 1) {
        return (int32_t)(choice | 1) < rank_count ? (int32_t)(choice | 1) : 1;
    }
    return (int32_t)choice;
}

/* Swaps local indices of experts on the same rank: still a permutation there. */
static void permute(const scenario_t *scenario, const int32_t *ranks, int32_t *locals)
{
    for (int32_t expert = 0; expert < scenario->expert_count; expert++) {
        const int32_t other =
            (int32_t)choose(scenario->seed, 5000 + (uint64_t)expert, scenario->expert_count);
        if (ranks[expert] != ranks[other]) {
            continue;
        }
        const int32_t local = locals[expert];
        locals[expert] = locals[other];
        locals[other] = local;
    }
}

static moxie_placement_t *build_placement(const scenario_t *scenario, int32_t rank_count)
{
    const int32_t expert_count = scenario->expert_count;
    moxie_placement_t *placement = NULL;
    if (scenario->placement == PLACEMENT_BLOCK) {
        if (moxie_placement_create_block(expert_count, rank_count, &placement) != MOXIE_OK) {
            abort();
        }
        return placement;
    }
    int32_t *ranks = allocate((size_t)expert_count, sizeof(*ranks));
    int32_t *locals = allocate((size_t)expert_count, sizeof(*locals));
    int32_t *counts = allocate((size_t)rank_count, sizeof(*counts));
    for (int32_t expert = 0; expert < expert_count; expert++) {
        ranks[expert] = choose_rank(scenario, expert, rank_count);
        locals[expert] = counts[ranks[expert]]++;
    }
    const bool permuted = scenario->placement != PLACEMENT_MAP;
    if (permuted) {
        permute(scenario, ranks, locals);
    }
    if (moxie_placement_create_map(expert_count, rank_count, ranks, permuted ? locals : NULL,
                                   &placement) != MOXIE_OK) {
        abort();
    }
    free(ranks);
    free(locals);
    free(counts);
    return placement;
}

/* The seed of ids, weights and token counts; the placement depends on the scenario's alone. */
static uint64_t routing_seed(const scenario_t *scenario)
{
    return payload_hash(scenario->seed, 81, scenario->variant, 0);
}

static int64_t choose_token_count(const scenario_t *scenario, int32_t rank)
{
    switch (scenario->tokens) {
    case TOKENS_FULL:
        return scenario->token_count_max;
    case TOKENS_SOME_EMPTY:
        return rank % 2 == 0 ? 0 : scenario->token_count_max;
    case TOKENS_NONE:
        return 0;
    case TOKENS_RAGGED:
        break;
    }
    return choose(routing_seed(scenario), 200 + (uint64_t)rank, scenario->token_count_max + 1);
}

void scenario_set_id(scenario_world_t *world, int32_t rank, int64_t token, int32_t slot, int64_t id)
{
    const int64_t index = token * world->world.topk + slot;
    if (world->routing[rank].index_type == MOXIE_INDEX_INT64) {
        ((int64_t *)world->ids[rank])[index] = id;
    } else {
        ((int32_t *)world->ids[rank])[index] = (int32_t)id;
    }
}

/* Different experts for one token: a shuffled deck, dealt until it is empty. */
static void route_token(const scenario_t *scenario, scenario_world_t *world, int32_t rank,
                        int64_t token, int32_t *deck)
{
    const bool is_unused =
        scenario->routing == ROUTING_HOLES &&
        payload_hash(routing_seed(scenario), 900, (uint64_t)rank, (uint64_t)token) % 5 == 0;
    for (int32_t slot = 0; slot < scenario->topk; slot++) {
        const uint64_t hash = payload_hash(routing_seed(scenario), PAYLOAD_ROUTING, (uint64_t)rank,
                                           (uint64_t)token * MOXIE_TOPK_MAX + (uint64_t)slot);
        const int32_t left = scenario->expert_count - slot;
        int32_t expert = -1;
        if (left > 0) {
            const int32_t place = slot + (int32_t)(hash % (uint64_t)left);
            expert = deck[place];
            deck[place] = deck[slot];
            deck[slot] = expert;
        }
        if (is_unused || (scenario->routing == ROUTING_HOLES && (hash >> 32) % 3 == 0)) {
            expert = -1;
        }
        if (scenario->routing == ROUTING_ONE_EXPERT) {
            expert = slot == scenario->topk - 1 ? scenario->expert_count / 2 : -1;
        }
        scenario_set_id(world, rank, token, slot, expert);
    }
}

static float choose_weight(const scenario_t *scenario, int32_t rank, int64_t index)
{
    static const float odd[] = {0.0f, -0.0f,  -1.5f,   INFINITY, -INFINITY,
                                NAN,  1e-41f, -1e-44f, 3e38f,    1e-30f};
    const uint64_t hash =
        payload_hash(routing_seed(scenario), PAYLOAD_WEIGHTS, (uint64_t)rank, (uint64_t)index);
    if (scenario->weights == WEIGHTS_ODD && hash % 3 == 0) {
        return odd[(hash >> 8) % 10];
    }
    return (float)(1 + (hash >> 40)) / 16777216.0f;
}

static bool has_weights(const scenario_t *scenario, int32_t rank)
{
    return scenario->weights != WEIGHTS_NONE &&
           (scenario->weights != WEIGHTS_MIXED || rank % 2 == 0);
}

static void build_routing(const scenario_t *scenario, scenario_world_t *world, int32_t rank,
                          int32_t *deck)
{
    moxie_routing_t *routing = &world->routing[rank];
    const bool is_wide =
        scenario->ids == IDS_INT64 || (scenario->ids == IDS_MIXED && rank % 2 == 1);
    *routing = (moxie_routing_t)MOXIE_ROUTING_INIT;
    routing->index_type = is_wide ? MOXIE_INDEX_INT64 : MOXIE_INDEX_INT32;
    routing->token_count = choose_token_count(scenario, rank);
    const size_t slot_count = (size_t)(routing->token_count * scenario->topk);
    world->ids[rank] = allocate(slot_count, is_wide ? sizeof(int64_t) : sizeof(int32_t));
    routing->topk_idx = world->ids[rank];
    for (int64_t token = 0; token < routing->token_count; token++) {
        for (int32_t expert = 0; expert < scenario->expert_count; expert++) {
            deck[expert] = expert;
        }
        route_token(scenario, world, rank, token, deck);
    }
    if (!has_weights(scenario, rank)) {
        return;
    }
    world->weights[rank] = allocate(slot_count, sizeof(float));
    for (size_t index = 0; index < slot_count; index++) {
        world->weights[rank][index] = choose_weight(scenario, rank, (int64_t)index);
    }
    routing->topk_weights = world->weights[rank];
}

void scenario_build(const scenario_t *scenario, int32_t rank_count, scenario_world_t *out)
{
    const size_t ranks = (size_t)rank_count;
    *out = (scenario_world_t){.rank_count = rank_count};
    out->placement = build_placement(scenario, rank_count);
    out->routing = allocate(ranks, sizeof(*out->routing));
    out->ids = allocate(ranks, sizeof(*out->ids));
    out->weights = allocate(ranks, sizeof(*out->weights));
    out->world = (moxie_world_t)MOXIE_WORLD_INIT;
    out->world.placement = out->placement;
    out->world.routing = out->routing;
    out->world.hidden = scenario->hidden;
    out->world.alignment = scenario->alignment;
    out->world.layout = scenario->layout;
    out->world.topk = scenario->topk;
    out->world.mode = scenario->mode;
    out->world.token_count_max = scenario->token_count_max;
    int32_t *deck = allocate((size_t)scenario->expert_count, sizeof(*deck));
    for (int32_t rank = 0; rank < rank_count; rank++) {
        build_routing(scenario, out, rank, deck);
    }
    free(deck);
}

void scenario_free(scenario_world_t *world)
{
    for (int32_t rank = 0; rank < world->rank_count; rank++) {
        free(world->ids[rank]);
        free(world->weights[rank]);
    }
    free(world->ids);
    free(world->weights);
    free(world->routing);
    moxie_placement_destroy(world->placement);
}

moxie_route_options_t scenario_route_options(const scenario_t *scenario,
                                             const scenario_world_t *world)
{
    moxie_route_options_t options = MOXIE_ROUTE_OPTIONS_INIT;
    options.layout = scenario->layout;
    options.expert_count = scenario->expert_count;
    options.topk = scenario->topk;
    options.hidden = scenario->hidden;
    options.token_count_max = scenario->token_count_max;
    options.alignment = scenario->alignment;
    options.mode = scenario->mode;
    options.placement = scenario->placement == PLACEMENT_BLOCK ? NULL : world->placement;
    return options;
}

void scenario_describe(const scenario_t *scenario, char *text, size_t bytes)
{
    snprintf(
        text, bytes,
        "seed %llu.%llu %s%s T<=%lld H %lld E %d K %d align %lld tokens %d routing %d placement %d "
        "weights %d ids %d dtypes %s,%s,%s,%s%s scales %d,%d%s%s%s%s%s%s%s",
        (unsigned long long)scenario->seed, (unsigned long long)scenario->variant,
        scenario->mode == MOXIE_MODE_STANDARD ? ""
        : scenario->halves                    ? "low_latency in halves "
                                              : "low_latency ",
        scenario->layout == MOXIE_LAYOUT_RANK_MAJOR ? "rank_major" : "expert_major",
        (long long)scenario->token_count_max, (long long)scenario->hidden, scenario->expert_count,
        scenario->topk, (long long)scenario->alignment, (int)scenario->tokens,
        (int)scenario->routing, (int)scenario->placement, (int)scenario->weights,
        (int)scenario->ids, moxie_dtype_name(scenario->x_dtype),
        moxie_dtype_name(scenario->y_dtype), moxie_dtype_name(scenario->wire_dtype),
        moxie_dtype_name(scenario->out_dtype), scenario->quantised ? " quantised" : "",
        scenario_has_scales(scenario) ? (int)scenario->scale_type : 0,
        scenario_has_scales(scenario) ? (int)scenario->scale_layout : 0,
        scenario->unweighted ? " unweighted" : "", scenario->special ? " special" : "",
        scenario->null_outputs ? " null_outputs" : "", scenario->own_state ? " own_state" : "",
        scenario->aligned ? " aligned" : "", scenario->odd_fenv ? " odd_fenv" : "",
        scenario->brings_routing ? " brings_routing" : "");
}
