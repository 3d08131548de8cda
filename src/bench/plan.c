/* SPDX-License-Identifier: Apache-2.0 */
/* Decides what a run will do: shape, ranks, routing, rows, memory; checks one against the other. */
#include "bench/plan.h"

#include "bench/baseline.h"
#include "bench/memory_need.h"
#include "bench/place.h"
#include "bench/recording.h"
#include "bench/shape.h"
#include "bench/trace.h"
#include "bench/tuned.h"
#include "moxie/backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_given(const plan_t *plan, option_id_t id)
{
    return option_is_given(plan->options, id);
}

/* Without a launcher this process starts the ranks; with one there are as many as it started. */
static bool decide_ranks(plan_t *plan, failure_t *failure)
{
    const launcher_t *launcher = &plan->launcher;
    plan->rank_count = place_rank_count(plan);
    if (launcher->name == NULL) {
        return true;
    }
    if (is_given(plan, OPTION_RANKS) && plan->rank_count != launcher->rank_count) {
        return failure_set(failure, EXIT_USAGE, "%s: %d contradicts %s, whose %s is %d",
                           plan->where[OPTION_RANKS], plan->rank_count, launcher->name,
                           launcher->size_variable, launcher->rank_count);
    }
    plan->rank_count = launcher->rank_count;
    (void)snprintf(plan->where[OPTION_RANKS], OPTION_WHERE_BYTES, "%s of %s",
                   launcher->size_variable, launcher->name);
    return true;
}

static bool decide_shape(plan_t *plan, failure_t *failure)
{
    const options_t *options = plan->options;
    const char *nearest = NULL;
    const shape_t *shape = shape_find(options->shape, &nearest);
    if (shape == NULL)
        return failure_set(failure, EXIT_USAGE, "%s: there is no shape '%.100s'%s%s%s",
                           plan->where[OPTION_SHAPE], options->shape,
                           nearest == NULL ? "; moxie bench --help lists them" : ", is it '",
                           nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'?");
    plan->hidden = is_given(plan, OPTION_HIDDEN) ? options->hidden : shape->hidden;
    plan->expert_count =
        (int32_t)(is_given(plan, OPTION_EXPERTS) ? options->experts : shape->experts);
    plan->topk = (int32_t)(is_given(plan, OPTION_TOPK) ? options->topk : shape->topk);
    plan->token_count_max =
        options->mode == MODE_LOW_LATENCY ? SHAPE_TOKENS_LOW_LATENCY : SHAPE_TOKENS;
    if (is_given(plan, OPTION_TOKENS))
        plan->token_count_max = options->tokens;
    bool is_changed = plan->hidden != shape->hidden || plan->expert_count != shape->experts ||
                      plan->topk != shape->topk;
    plan->shape_name = is_changed ? "custom" : shape->name;
    return true;
}

/* A number of a recording against the same number from a flag, a key or a shape. */
static bool agree(const plan_t *plan, const char *name, option_id_t id, bool is_fixed,
                  int64_t wanted, int64_t recorded, failure_t *failure)
{
    if (!is_fixed || wanted == recorded)
        return true;
    return failure_set(failure, EXIT_USAGE, "%s: %" PRId64 " contradicts %s, which has %" PRId64,
                       plan->where[id], wanted, name, recorded);
}

static bool adopt_recording(plan_t *plan, const routing_spec_t *spec, failure_t *failure)
{
    routing_set_t *set = &plan->routing;
    if (!recording_read(spec->path, spec->where, set, failure))
        return false;
    bool has_shape = is_given(plan, OPTION_SHAPE);
    option_id_t experts = is_given(plan, OPTION_EXPERTS) ? OPTION_EXPERTS : OPTION_SHAPE;
    option_id_t topk = is_given(plan, OPTION_TOPK) ? OPTION_TOPK : OPTION_SHAPE;
    if (!agree(plan, spec->path, OPTION_RANKS,
               is_given(plan, OPTION_RANKS) || plan->launcher.name != NULL, plan->rank_count,
               set->rank_count, failure) ||
        !agree(plan, spec->path, experts, experts == OPTION_EXPERTS || has_shape,
               plan->expert_count, set->expert_count, failure) ||
        !agree(plan, spec->path, topk, topk == OPTION_TOPK || has_shape, plan->topk, set->topk,
               failure))
        return false;
    for (int32_t rank = 0; rank < set->rank_count; rank++)
        if (!agree(plan, spec->path, OPTION_TOKENS, is_given(plan, OPTION_TOKENS),
                   plan->token_count_max, routing_token_count(set, rank), failure))
            return false;
    if (plan->expert_count != set->expert_count || plan->topk != set->topk)
        plan->shape_name = "custom";
    plan->rank_count = set->rank_count;
    plan->expert_count = set->expert_count;
    plan->topk = set->topk;
    plan->token_count_max = routing_token_count_max(set);
    return true;
}

static bool generate_routing(plan_t *plan, const routing_spec_t *spec, failure_t *failure)
{
    int64_t token_count[MOXIE_RANK_COUNT_MAX];
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        token_count[rank] = plan->token_count_max;
    if (!memory_check_inputs(plan, failure))
        return false;
    if (!routing_set_init(&plan->routing, plan->rank_count, plan->expert_count, plan->topk,
                          token_count))
        return failure_set(failure, EXIT_USAGE, "not enough memory for the routing");
    return routing_generate(spec, plan->seed, &plan->routing, failure);
}

static bool decide_routing(plan_t *plan, failure_t *failure)
{
    routing_spec_t spec;
    if (!routing_spec_parse(plan->options->routing, plan->where[OPTION_ROUTING], &spec, failure))
        return false;
    if (spec.kind == ROUTING_FILE)
        return adopt_recording(plan, &spec, failure) && memory_check_inputs(plan, failure);
    if (plan->topk > plan->expert_count)
        return failure_set(failure, EXIT_USAGE, "%s: topk %d is more than the %d experts (%s)",
                           is_given(plan, OPTION_TOPK) ? plan->where[OPTION_TOPK]
                                                       : plan->where[OPTION_SHAPE],
                           plan->topk, plan->expert_count,
                           is_given(plan, OPTION_EXPERTS) ? plan->where[OPTION_EXPERTS]
                                                          : plan->where[OPTION_SHAPE]);
    return generate_routing(plan, &spec, failure);
}

/* Slots that name an expert of each rank. */
static void count_slots(plan_t *plan)
{
    int64_t slot_count = plan->routing.token_start[plan->rank_count] * plan->topk;
    for (int64_t slot = 0; slot < slot_count; slot++) {
        int32_t rank = moxie_placement_rank(plan->placement, plan->routing.topk_idx[slot]);
        if (rank >= 0)
            plan->recv_row_count[rank]++;
    }
}

/* Low latency: a slot for every row that could come, for each local expert in expert_major. */
static void count_fixed_slots(plan_t *plan)
{
    for (int32_t rank = 0; rank < plan->rank_count; rank++) {
        int64_t blocks = plan->layout == MOXIE_LAYOUT_EXPERT_MAJOR
                             ? moxie_placement_local_count(plan->placement, rank)
                             : 1;
        plan->recv_row_count[rank] = blocks * plan->rank_count * plan->token_count_max;
    }
}

static bool count_rows(plan_t *plan, failure_t *failure)
{
    size_t rank_count = (size_t)plan->rank_count;
    if (moxie_placement_create_block(plan->expert_count, plan->rank_count, &plan->placement) !=
        MOXIE_OK)
        return failure_from_library(failure, 0, "placement");
    plan->rows_to_peer = calloc(rank_count * rank_count, sizeof(int64_t));
    plan->recv_row_count = calloc(rank_count, sizeof(int64_t));
    if (plan->rows_to_peer == NULL || plan->recv_row_count == NULL)
        return failure_set(failure, EXIT_USAGE, "not enough memory for the counts of rows");
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        routing_rows_to_peer(&plan->routing, plan->placement, rank,
                             plan->rows_to_peer + (size_t)rank * rank_count);
    if (plan->is_low_latency)
        count_fixed_slots(plan);
    else if (plan->layout == MOXIE_LAYOUT_EXPERT_MAJOR)
        count_slots(plan);
    else
        for (int32_t rank = 0; rank < plan->rank_count; rank++)
            plan->recv_row_count[rank] = plan_dispatch_rows(plan, rank, true);
    return true;
}

static bool check_capacity(const plan_t *plan, failure_t *failure)
{
    for (int32_t rank = 0; rank < plan->rank_count; rank++)
        if (plan_row_capacity(plan, rank) < plan->recv_row_count[rank])
            return failure_set(failure, EXIT_USAGE,
                               "%s: %" PRId64 " rows are too few: rank %d receives %" PRId64,
                               plan->where[OPTION_CAPACITY], plan->options->capacity, rank,
                               plan->recv_row_count[rank]);
    return true;
}

static bool decide_route(plan_t *plan, failure_t *failure)
{
    const options_t *options = plan->options;
    plan->is_backward = options->direction == DIRECTION_BACKWARD;
    plan->is_fresh = options->route == ROUTE_FRESH && !plan->is_backward;
    plan->layout = options->layout == LAYOUT_EXPERT_MAJOR ? MOXIE_LAYOUT_EXPERT_MAJOR
                                                          : MOXIE_LAYOUT_RANK_MAJOR;
    if (plan->is_backward && options->route == ROUTE_FRESH && is_given(plan, OPTION_ROUTE))
        return failure_set(failure, EXIT_USAGE,
                           "%s: fresh contradicts %s backward, which uses the forward's route",
                           plan->where[OPTION_ROUTE], plan->where[OPTION_DIRECTION]);
    return true;
}

/* Options that make no sense together. */
static bool contradict(const plan_t *plan, option_id_t id, option_id_t other, const char *why,
                       failure_t *failure)
{
    char word[OPTION_WHERE_BYTES] = "";
    char other_word[OPTION_WHERE_BYTES] = "";
    if (option_row(id)->type == OPTION_TYPE_CHOICE)
        (void)option_word(plan->options, id, word);
    (void)option_word(plan->options, other, other_word);
    return failure_set(failure, EXIT_USAGE, "%s%s%.64s contradicts %s %.64s%s", plan->where[id],
                       word[0] == '\0' ? "" : " ", word, plan->where[other], other_word, why);
}

static bool decide_mode(plan_t *plan, failure_t *failure)
{
    const options_t *options = plan->options;
    plan->is_low_latency = options->mode == MODE_LOW_LATENCY;
    plan->has_fp8 = options->dtype == DTYPE_FP8;
    plan->is_quantized = plan->has_fp8 && options->quantize == QUANTIZE_FUSED;
    if (plan->is_low_latency && plan->is_backward)
        return contradict(plan, OPTION_DIRECTION, OPTION_MODE, ", which has none", failure);
    if (plan->is_low_latency && is_given(plan, OPTION_CAPACITY))
        return contradict(plan, OPTION_CAPACITY, OPTION_MODE, ", where every row has a slot",
                          failure);
    if (plan->is_low_latency && options->baseline != BASELINE_NONE)
        return contradict(plan, OPTION_BASELINE, OPTION_MODE, ", which has no such slots", failure);
    if (plan->has_fp8 && plan->is_backward)
        return contradict(plan, OPTION_DIRECTION, OPTION_DTYPE, ": gradients are bf16", failure);
    if (plan->has_fp8 && options->baseline != BASELINE_NONE)
        return contradict(plan, OPTION_BASELINE, OPTION_DTYPE, ": it moves bf16", failure);
    if (is_given(plan, OPTION_QUANTIZE) && !plan->has_fp8)
        return contradict(plan, OPTION_QUANTIZE, OPTION_DTYPE, "", failure);
    return true;
}

/* What the chosen backend must be able to do. */
static bool check_capabilities(const plan_t *plan, failure_t *failure)
{
    const struct {
        bool is_needed;
        uint32_t capability;
        option_id_t id;
    } needs[] = {{plan->is_low_latency, MOXIE_CAP_LOW_LATENCY, OPTION_MODE},
                 {plan->has_fp8, MOXIE_CAP_FP8, OPTION_DTYPE}};
    char word[OPTION_WHERE_BYTES];
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
        if (needs[i].is_needed && (plan->place.capabilities & needs[i].capability) == 0)
            return failure_set(failure, EXIT_UNAVAILABLE, "%s %s: backend %s does not do it",
                               plan->where[needs[i].id],
                               option_word(plan->options, needs[i].id, word), plan->place.backend);
    return true;
}

/* --sms is what a call takes in all: in expert_major a third of it sends and the rest copies. */
static void decide_sms(plan_t *plan)
{
    const options_t *options = plan->options;
    bool copies = options->layout == LAYOUT_EXPERT_MAJOR;
    int64_t send = copies && options->sms >= 3 ? options->sms / 3 : options->sms;
    plan->sms_knobs[0] = (moxie_knob_setting_t){"sms", send};
    plan->sms_knobs[1] = (moxie_knob_setting_t){"duplicate_sms", options->sms - send};
    plan->sms_knobs[2] = (moxie_knob_setting_t){"combine_sms", options->sms};
    plan->knobs = plan->sms_knobs;
    plan->knob_count = is_given(plan, OPTION_SMS) ? PLAN_SMS_KNOB_COUNT : 0;
}

bool plan_make(plan_t *plan, const options_t *options, const launcher_t *launcher,
               failure_t *failure)
{
    *plan = (plan_t){.options = options, .launcher = *launcher, .seed = (uint64_t)options->seed};
    decide_sms(plan);
    for (option_id_t id = 0; id < OPTION_COUNT; id++)
        option_where(options, id, plan->where[id]);
    bool is_made = options_check_built(options, failure) && decide_shape(plan, failure) &&
                   decide_route(plan, failure) && decide_mode(plan, failure) &&
                   place_choose(plan, failure) && trace_check(plan, failure) &&
                   check_capabilities(plan, failure) && decide_ranks(plan, failure) &&
                   decide_routing(plan, failure) && place_check_ranks(plan, failure) &&
                   count_rows(plan, failure) && check_capacity(plan, failure) &&
                   baseline_check(plan, failure) && memory_check_plan(plan, failure);
    if (is_made)
        tuned_describe(plan);
    return is_made;
}

bool plan_make_part(plan_t *part, const plan_t *whole, int64_t divisor, failure_t *failure)
{
    int64_t token_count[MOXIE_RANK_COUNT_MAX];
    const routing_set_t *from = &whole->routing;
    *part = *whole;
    part->routing = (routing_set_t){0};
    part->placement = NULL;
    part->rows_to_peer = NULL;
    part->recv_row_count = NULL;
    for (int32_t rank = 0; rank < from->rank_count; rank++)
        token_count[rank] = (routing_token_count(from, rank) + divisor - 1) / divisor;
    if (!routing_set_init(&part->routing, from->rank_count, from->expert_count, from->topk,
                          token_count))
        return failure_set(failure, EXIT_USAGE, "not enough memory for the routing");
    for (int32_t rank = 0; rank < from->rank_count; rank++) {
        moxie_routing_t first = routing_of_rank(from, rank);
        size_t count = (size_t)token_count[rank] * (size_t)from->topk;
        int64_t slot = part->routing.token_start[rank] * from->topk;
        memcpy(part->routing.topk_idx + slot, first.topk_idx, count * sizeof(int32_t));
        memcpy(part->routing.topk_weights + slot, first.topk_weights, count * sizeof(float));
    }
    part->token_count_max = routing_token_count_max(&part->routing);
    tuned_describe(part);
    return count_rows(part, failure) && check_capacity(part, failure) &&
           memory_check_plan(part, failure);
}

void plan_release(plan_t *plan)
{
    routing_set_release(&plan->routing);
    moxie_placement_destroy(plan->placement);
    free(plan->rows_to_peer);
    free(plan->recv_row_count);
    *plan = (plan_t){0};
}

moxie_group_options_t plan_group_options(const plan_t *plan, int32_t rank, const char *rendezvous)
{
    moxie_group_options_t group = MOXIE_GROUP_OPTIONS_INIT;
    group.rank = rank;
    group.rank_count = plan->rank_count;
    group.backend = plan->place.backend;
    group.rendezvous = plan->rank_count > 1 ? rendezvous : NULL;
    group.timeout_us = plan->options->timeout * 1000000;
    group.first_timeout_us = group.timeout_us * 10;
    group.knobs = plan->knobs;
    group.knob_count = plan->knob_count;
    group.tuning = plan->tuning;
    return group;
}

moxie_route_options_t plan_route_options(const plan_t *plan, int32_t rank)
{
    moxie_route_options_t route = MOXIE_ROUTE_OPTIONS_INIT;
    route.layout = plan->layout;
    route.expert_count = plan->expert_count;
    route.topk = plan->topk;
    route.hidden = plan->hidden;
    route.token_count_max = plan->token_count_max;
    route.mode = plan->is_low_latency ? MOXIE_MODE_LOW_LATENCY : MOXIE_MODE_STANDARD;
    /* On a GPU an update waits for the CPU unless it knows the room that there is. */
    bool is_bounded =
        !plan->is_low_latency && (plan->place.is_cuda || is_given(plan, OPTION_CAPACITY));
    route.row_capacity = is_bounded ? plan_row_capacity(plan, rank) : 0;
    route.placement = plan->placement;
    return route;
}

int64_t plan_row_capacity(const plan_t *plan, int32_t rank)
{
    if (is_given(plan, OPTION_CAPACITY))
        return plan->options->capacity;
    /* On a GPU a rank that receives nothing has a row too: no capacity is the worst case there. */
    int64_t least = plan->place.is_cuda ? 1 : 0;
    return plan->recv_row_count[rank] > least ? plan->recv_row_count[rank] : least;
}

int64_t plan_dispatch_rows(const plan_t *plan, int32_t rank, bool with_own)
{
    int64_t row_count = 0;
    for (int32_t source = 0; source < plan->rank_count; source++)
        if (with_own || source != rank)
            row_count += plan->rows_to_peer[(int64_t)source * plan->rank_count + rank];
    return row_count;
}

int64_t plan_combine_rows(const plan_t *plan, int32_t rank, bool with_own)
{
    int64_t row_count = 0;
    for (int32_t peer = 0; peer < plan->rank_count; peer++)
        if (with_own || peer != rank)
            row_count += plan->rows_to_peer[(int64_t)rank * plan->rank_count + peer];
    return row_count;
}

int64_t plan_row_bytes(const plan_t *plan)
{
    return plan->hidden * (int64_t)moxie_dtype_bytes(MOXIE_DTYPE_BF16);
}

int64_t plan_scale_count(const plan_t *plan)
{
    return plan->has_fp8 ? moxie_scale_words(MOXIE_SCALE_FP32, plan->hidden) : 0;
}

int64_t plan_home_row_bytes(const plan_t *plan)
{
    return plan->is_quantized ? plan_row_bytes(plan) : plan_recv_row_bytes(plan);
}

int64_t plan_recv_row_bytes(const plan_t *plan)
{
    return plan->hidden *
           (int64_t)moxie_dtype_bytes(plan->has_fp8 ? MOXIE_DTYPE_FP8_E4M3 : MOXIE_DTYPE_BF16);
}

int64_t plan_dispatch_row_bytes(const plan_t *plan)
{
    return plan_recv_row_bytes(plan) + plan_scale_count(plan) * (int64_t)sizeof(float);
}
