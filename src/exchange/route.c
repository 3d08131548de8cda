/* SPDX-License-Identifier: Apache-2.0 */
/* Routes: creation, update, extent, and what a route takes. */
#include "core/route.h"

#include "core/error.h"
#include "core/layout.h"
#include "core/options.h"
#include "exchange/group.h"

#include <inttypes.h>
#include <string.h>

/* A caller's options, checked, with the placement they mean. */
typedef struct route_plan {
    moxie_route_options_t options;
    moxie_placement_t *placement; /* owned */
    route_state_t state;          /* offsets only */
    int64_t row_capacity;
} route_plan_t;

static moxie_status_t plan_placement(const moxie_route_options_t *options, int32_t rank_count,
                                     moxie_placement_t **out)
{
    const moxie_placement_t *placement = options->placement;
    if (placement == NULL) {
        return moxie_placement_create_block(options->expert_count, rank_count, out);
    }
    if (placement->expert_count != options->expert_count || placement->rank_count != rank_count) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "the placement is for %d experts on %d ranks, the route for %d on %d",
                         placement->expert_count, placement->rank_count, options->expert_count,
                         rank_count);
    }
    *out = placement_copy(placement);
    return *out != NULL ? MOXIE_OK : MOXIE_ERR_MEMORY;
}

static moxie_status_t plan_route(const moxie_route_options_t *callers, int32_t rank,
                                 int32_t rank_count, route_plan_t *plan)
{
    memset(plan, 0, sizeof(*plan));
    moxie_route_options_t *options = &plan->options;
    *options = (moxie_route_options_t)MOXIE_ROUTE_OPTIONS_INIT;
    moxie_status_t status =
        options_read(options, callers, sizeof(*options), "moxie_route_options_t");
    if (status != MOXIE_OK) {
        return status;
    }
    const route_shape_t shape = {.rank = rank,
                                 .rank_count = rank_count,
                                 .expert_count = options->expert_count,
                                 .topk = options->topk,
                                 .layout = (int32_t)options->layout,
                                 .hidden = options->hidden,
                                 .token_count_max = options->token_count_max,
                                 .alignment = options->alignment,
                                 .mode = (int32_t)options->mode};
    status = route_shape_check(&shape);
    if (status == MOXIE_OK &&
        (options->row_capacity < 0 ||
         (options->row_capacity > 0 && shape.mode == MOXIE_MODE_LOW_LATENCY))) {
        status = error_set(
            MOXIE_ERR_ARGUMENT, "route option row_capacity is %" PRId64 "%s", options->row_capacity,
            shape.mode == MOXIE_MODE_LOW_LATENCY ? ", in low latency there is a slot for every row"
                                                 : "");
    }
    if (status == MOXIE_OK) {
        status = plan_placement(options, rank_count, &plan->placement);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    route_state_plan(&shape, &plan->state);
    plan->row_capacity =
        options->row_capacity > 0
            ? options->row_capacity
            : layout_worst_case(&shape, moxie_placement_local_count(plan->placement, rank));
    if (options->state != NULL && options->state_bytes < plan->state.bytes) {
        status = error_set(MOXIE_ERR_ARGUMENT,
                           "route option state_bytes is %zu, the route needs %" PRIu64,
                           options->state_bytes, plan->state.bytes);
    } else if ((uintptr_t)options->state % MEMORY_LINE_BYTES != 0) {
        status = error_set(MOXIE_ERR_ARGUMENT, "route option state is not aligned to %u bytes",
                           MEMORY_LINE_BYTES);
    }
    if (status != MOXIE_OK) {
        moxie_placement_destroy(plan->placement);
    }
    return status;
}

static moxie_status_t check_mode(const backend_t *backend, const route_plan_t *plan)
{
    const int is_low_latency = plan->state.shape.mode == MOXIE_MODE_LOW_LATENCY;
    return is_low_latency && (backend->capabilities & MOXIE_CAP_LOW_LATENCY) == 0
               ? error_set(MOXIE_ERR_UNSUPPORTED, "backend %s has no routes of low latency",
                           backend->name)
               : MOXIE_OK;
}

static uint64_t plan_host_bytes(const route_plan_t *plan)
{
    const route_shape_t *shape = &plan->state.shape;
    return memory_charge(sizeof(moxie_route_t)) +
           placement_bytes(shape->expert_count, shape->rank_count) +
           (plan->options.state == NULL ? memory_charge(plan->state.bytes) : 0);
}

moxie_status_t moxie_route_memory_quote(const moxie_group_options_t *callers_group,
                                        const moxie_route_options_t *callers_route,
                                        moxie_route_quote_t *out)
{
    moxie_group_options_t group = MOXIE_GROUP_OPTIONS_INIT;
    moxie_status_t status =
        options_read(&group, callers_group, sizeof(group), "moxie_group_options_t");
    if (status != MOXIE_OK) {
        return status;
    }
    if (group.rank < 0 || group.rank >= group.rank_count ||
        group.rank_count > MOXIE_RANK_COUNT_MAX) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank is %d of %d ranks", group.rank,
                         group.rank_count);
    }
    const backend_t *backend;
    status = backend_select(group.backend, &backend);
    if (status != MOXIE_OK) {
        return status;
    }
    route_plan_t plan;
    status = plan_route(callers_route, group.rank, group.rank_count, &plan);
    if (status != MOXIE_OK) {
        return status;
    }
    status = check_mode(backend, &plan);
    if (status != MOXIE_OK) {
        moxie_placement_destroy(plan.placement);
        return status;
    }
    memory_account_t account = {.host_bytes = plan_host_bytes(&plan)};
    if (backend->route_quote != NULL) {
        backend->route_quote(&plan.state.shape, &account);
    }
    const moxie_route_quote_t quote = {.size = sizeof(quote),
                                       .memory = {.size = sizeof(quote.memory),
                                                  .host_bytes = account.host_bytes,
                                                  .window_bytes = account.window_bytes,
                                                  .device_bytes = account.device_bytes},
                                       .state_bytes = plan.state.bytes,
                                       .row_capacity = plan.row_capacity};
    moxie_placement_destroy(plan.placement);
    return options_write_checked(out, &quote, sizeof(quote), "moxie_route_quote_t");
}

/* Allocates a route, and its state unless the caller gave memory for it. */
static moxie_status_t allocate(moxie_group_t *group, const route_plan_t *plan, moxie_route_t **out)
{
    void *memory;
    moxie_status_t status = memory_check_available(plan_host_bytes(plan), "a route");
    if (status == MOXIE_OK) {
        status = memory_allocate(&group->account, sizeof(moxie_route_t), "a route", &memory);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    moxie_route_t *route = memory;
    route->group = group;
    memory = plan->options.state;
    if (memory == NULL) {
        status = memory_allocate(&group->account, plan->state.bytes, "a route's state", &memory);
        route->owns_state = 1;
    }
    if (status != MOXIE_OK) {
        memory_release(&group->account, route, sizeof(*route));
        return status;
    }
    route->state = memory;
    *route->state = plan->state;
    *out = route;
    return MOXIE_OK;
}

/* Releases what every backend's route has. */
static void release(moxie_route_t *route)
{
    memory_account_t *account = &route->group->account;
    account->host_bytes -=
        placement_bytes(route->placement->expert_count, route->placement->rank_count);
    moxie_placement_destroy(route->placement);
    if (route->owns_state) {
        memory_release(account, route->state, route->state->bytes);
    }
    memory_release(account, route, sizeof(*route));
}

moxie_status_t moxie_route_create(moxie_group_t *group, const moxie_route_options_t *callers,
                                  moxie_route_t **out)
{
    if (group == NULL || out == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "route_create: an argument is NULL");
    }
    route_plan_t plan;
    moxie_status_t status = plan_route(callers, group->rank, group->rank_count, &plan);
    if (status != MOXIE_OK) {
        return status;
    }
    moxie_route_t *route;
    status = check_mode(group->backend, &plan);
    if (status == MOXIE_OK) {
        status = allocate(group, &plan, &route);
    }
    if (status != MOXIE_OK) {
        moxie_placement_destroy(plan.placement);
        return status;
    }
    route->id = ++group->route_serial;
    route->placement = plan.placement;
    route->row_capacity = plan.row_capacity;
    route->has_capacity = plan.options.row_capacity > 0;
    group->account.host_bytes +=
        placement_bytes(plan.placement->expert_count, plan.placement->rank_count);
    if (group->backend->route_open != NULL) {
        status = group->backend->route_open(route);
        if (status != MOXIE_OK) {
            release(route);
            return status;
        }
    }
    *out = route;
    return MOXIE_OK;
}

void moxie_route_destroy(moxie_route_t *route)
{
    if (route == NULL) {
        return;
    }
    if (route->group->backend->route_close != NULL) {
        route->group->backend->route_close(route);
    }
    release(route);
}

moxie_status_t moxie_route_update(moxie_route_t *route, const moxie_routing_t *callers,
                                  moxie_stream_t stream)
{
    if (route == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "route_update: the route is NULL");
    }
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    moxie_status_t status = options_read(&routing, callers, sizeof(routing), "moxie_routing_t");
    if (status != MOXIE_OK) {
        return status;
    }
    status = route->group->backend->route_update(route, &routing, stream);
    route->has_routing = status == MOXIE_OK;
    memset(&route->update_error, 0, sizeof(route->update_error));
    if (status != MOXIE_OK) {
        route->update_error = *error_detail();
    }
    return status;
}

moxie_status_t moxie_route_status(const moxie_route_t *route)
{
    if (route == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "route_status: the route is NULL");
    }
    if (route->group->backend->route_settle != NULL) {
        return route->group->backend->route_settle((moxie_route_t *)(uintptr_t)route);
    }
    if (route->update_error.status != MOXIE_OK) {
        return error_adopt(&route->update_error);
    }
    return route->has_routing ? MOXIE_OK
                              : error_set(MOXIE_ERR_ARGUMENT, "the route has no routing yet");
}

moxie_status_t moxie_route_extent(const moxie_route_t *route, moxie_route_extent_t *out)
{
    const moxie_status_t status = moxie_route_status(route);
    if (status != MOXIE_OK) {
        return status;
    }
    const route_state_t *state = route->state;
    const int32_t rank = state->shape.rank;
    const moxie_route_extent_t extent = {
        .size = sizeof(extent),
        .token_count = state->token_count,
        .recv_row_count = state->recv_row_count,
        .logical_row_count = state->logical_row_count,
        .wire_row_count = state->logical_row_count - route_row_count(state, rank)[rank],
        .local_expert_count = moxie_placement_local_count(route->placement, rank)};
    return options_write_checked(out, &extent, sizeof(extent), "moxie_route_extent_t");
}

moxie_status_t moxie_route_slots(const moxie_route_t *route, moxie_dispatch_out_t *out)
{
    if (route == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "route_slots: the route is NULL");
    }
    if (route->state->shape.mode != MOXIE_MODE_LOW_LATENCY) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "only routes of low latency have slots");
    }
    moxie_dispatch_out_t slots = MOXIE_DISPATCH_OUT_INIT;
    slots.row_capacity = route->row_capacity;
    if (route->state->shape.layout == MOXIE_LAYOUT_RANK_MAJOR) {
        route->group->backend->route_slots(route, &slots);
    }
    return options_write_checked(out, &slots, sizeof(slots), "moxie_dispatch_out_t");
}

moxie_status_t moxie_layout_check(const moxie_route_t *route)
{
    moxie_status_t status = moxie_route_status(route);
    if (status == MOXIE_OK && route->group->backend->route_download != NULL) {
        status = route->group->backend->route_download((moxie_route_t *)(uintptr_t)route);
    }
    return status != MOXIE_OK ? status : layout_check(route->state, route->placement);
}
