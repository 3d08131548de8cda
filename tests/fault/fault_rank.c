/* SPDX-License-Identifier: Apache-2.0 */
/* One rank of a case. */
#include "fault/fault_rank.h"

#include <dirent.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TOKENS = 6, HIDDEN = 32, TOPK = 2, ROWS = TOKENS * FAULT_RANK_COUNT_MAX };

/* What is short in a case's test: long enough for a busy machine to do all else in time. A process
 * of the thread sanitizer takes long to end: the kernel tells of it when its memory is gone. */
#ifdef __SANITIZE_THREAD__
enum { SHORT_US = 2000000, LONG_US = 20000000 };
#else
enum { SHORT_US = 500000, LONG_US = 20000000 };
#endif

/* In a window. */
typedef struct rows {
    float received[ROWS][HIDDEN];
    float made[ROWS][HIDDEN];
} rows_t;

typedef struct player {
    const fault_case_t *which;
    int32_t rank;
    const char *socket;
    moxie_group_t *group;
    moxie_window_t *window;
    moxie_route_t *route;
    moxie_route_t *low_latency;
    float home[TOKENS][HIDDEN];
    float summed[TOKENS][HIDDEN];
} player_t;

static int64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int32_t count_fds(void)
{
    int32_t count = 0;
    DIR *entries = opendir("/proc/self/fd");
    while (entries != NULL && readdir(entries) != NULL) {
        count++;
    }
    if (entries != NULL) {
        (void)closedir(entries);
    }
    return count;
}

fault_deadlines_t fault_deadlines(const fault_case_t *which)
{
    /* The first deadline holds up to the first operation, which is the update of round 1. */
    const bool is_first = which->step <= STEP_WINDOW;
    return (fault_deadlines_t){.first_us = is_first ? SHORT_US : LONG_US,
                               .each_us = is_first ? LONG_US : SHORT_US};
}

static moxie_status_t create(player_t *player)
{
    const fault_deadlines_t deadlines = fault_deadlines(player->which);
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank = player->rank;
    options.rank_count = player->which->rank_count;
    options.backend = "shm";
    options.rendezvous = player->socket;
    options.timeout_us = deadlines.each_us;
    options.first_timeout_us = deadlines.first_us;
    return moxie_group_create(&options, &player->group);
}

static moxie_status_t make_route(player_t *player)
{
    moxie_route_options_t options = MOXIE_ROUTE_OPTIONS_INIT;
    options.expert_count = 2 * player->which->rank_count;
    options.topk = TOPK;
    options.hidden = HIDDEN;
    options.token_count_max = TOKENS;
    const moxie_status_t status = moxie_route_create(player->group, &options, &player->route);
    options.mode = MOXIE_MODE_LOW_LATENCY;
    return status != MOXIE_OK ? status
                              : moxie_route_create(player->group, &options, &player->low_latency);
}

static moxie_status_t update(player_t *player)
{
    int32_t expert[TOKENS][TOPK];
    const int32_t expert_count = 2 * player->which->rank_count;
    for (int32_t token = 0; token < TOKENS; token++) {
        expert[token][0] = (player->rank + token) % expert_count;
        expert[token][1] = (player->rank + token + 2) % expert_count;
    }
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS;
    routing.topk_idx = expert;
    moxie_status_t status = player->route == NULL ? make_route(player) : MOXIE_OK;
    if (status == MOXIE_OK) {
        status = moxie_route_update(player->low_latency, &routing, NULL); /* local */
    }
    return status != MOXIE_OK ? status : moxie_route_update(player->route, &routing, NULL);
}

/* Rows of bf16 in the memory of rows of fp32. */
static moxie_status_t exchange_fast(player_t *player, fault_step_t step)
{
    rows_t *rows = moxie_window_base(player->window);
    moxie_dispatch_in_t send = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    moxie_combine_out_t get = MOXIE_COMBINE_OUT_INIT;
    if (step == STEP_LOW_LATENCY_COMBINE) {
        give.y = rows->made;
        get.out = player->summed;
        return moxie_combine(player->low_latency, &give, &get, NULL);
    }
    send.x = player->home;
    return moxie_dispatch(player->low_latency, &send, &receive, NULL);
}

static moxie_status_t exchange(player_t *player, fault_step_t step)
{
    rows_t *rows = moxie_window_base(player->window);
    moxie_dispatch_in_t send = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    moxie_combine_out_t get = MOXIE_COMBINE_OUT_INIT;
    moxie_dispatch_backward_in_t home_in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    moxie_dispatch_backward_out_t home_out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    moxie_combine_backward_in_t back_in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    moxie_combine_backward_out_t back_out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    send.dtype = give.dtype = get.dtype = MOXIE_DTYPE_FP32;
    home_in.dtype = home_out.dtype = back_in.dtype = MOXIE_DTYPE_FP32;
    switch (step) {
    case STEP_DISPATCH:
        send.x = player->home;
        receive.row_capacity = ROWS;
        receive.recv_x = rows->received;
        return moxie_dispatch(player->route, &send, &receive, NULL);
    case STEP_COMBINE:
        give.y = rows->made;
        get.out = player->summed;
        return moxie_combine(player->route, &give, &get, NULL);
    case STEP_DISPATCH_BACKWARD:
        home_in.d_recv_x = rows->made;
        home_out.d_x = player->summed;
        return moxie_dispatch_backward(player->route, &home_in, &home_out, NULL);
    default:
        back_in.d_out = player->home;
        back_out.row_capacity = ROWS;
        back_out.d_y = rows->received;
        return moxie_combine_backward(player->route, &back_in, &back_out, NULL);
    }
}

static moxie_status_t call(player_t *player, fault_step_t step)
{
    switch (step) {
    case STEP_CREATE:
        return create(player);
    case STEP_WINDOW:
        return moxie_window_allocate(player->group, sizeof(rows_t), &player->window);
    case STEP_UPDATE:
        return update(player);
    case STEP_BARRIER:
        return moxie_group_barrier(player->group);
    case STEP_LOW_LATENCY_DISPATCH:
    case STEP_LOW_LATENCY_REPEAT:
    case STEP_LOW_LATENCY_COMBINE:
        return exchange_fast(player, step);
    default:
        return exchange(player, step);
    }
}

static void stay_away(void)
{
    for (;;) {
        (void)pause();
    }
}

/* True when the call succeeded. */
static bool take_step(player_t *player, fault_step_t step, int32_t round, fault_result_t *result)
{
    const fault_case_t *which = player->which;
    if (which->action >= ACTION_ABSENT && which->rank == player->rank && which->step == step &&
        (which->round == round || step < STEP_UPDATE)) {
        stay_away();
    }
    const int64_t start_us = now_us();
    const moxie_status_t status = call(player, step);
    if (status == MOXIE_OK) {
        return true;
    }
    result->took_us = now_us() - start_us;
    result->step = step;
    result->error.size = sizeof(result->error);
    (void)moxie_last_error(&result->error);
    return false;
}

/* One round more than the case needs: what is only seen by the next call is seen there. */
static void take_steps(player_t *player, fault_result_t *result)
{
    if (!take_step(player, STEP_CREATE, 0, result) || !take_step(player, STEP_WINDOW, 0, result)) {
        return;
    }
    for (int32_t round = 1; round <= player->which->round + 1; round++) {
        for (fault_step_t step = STEP_UPDATE; step < STEP_COUNT; step++) {
            if (!take_step(player, step, round, result)) {
                return;
            }
        }
    }
}

void fault_rank_play(const fault_case_t *which, int32_t rank, const char *socket,
                     fault_result_t *result)
{
    player_t player = {.which = which, .rank = rank, .socket = socket};
    const int32_t fd_count = count_fds();
    take_steps(&player, result);
    const int64_t start_us = now_us();
    moxie_route_destroy(player.low_latency);
    moxie_route_destroy(player.route);
    moxie_window_free(player.window);
    moxie_group_destroy(player.group);
    result->destroy_us = now_us() - start_us;
    result->fd_leak_count =
        which->action == ACTION_ABSENT_THREAD ? 0 : count_fds() - fd_count; /* others have some */
    result->is_done = true;
}
