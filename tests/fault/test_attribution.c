/* SPDX-License-Identifier: Apache-2.0 */
/* Who costs the group its time: a rank that comes 5 ms late, and one whose copies take 5 ms longer,
 * are named by every rank, and told apart. And the flight recorder says so too. Where the kernel
 * itself held up the rank that was named, which happens on a busy machine, the run is played again.
 */
#include "support/check.h"
#include "support/world.h"

#include "moxie/moxie.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 4, TOKENS = 8, HIDDEN = 64, ROWS = RANKS * TOKENS };
enum { RUNS = 100, RUNS_RIGHT_MIN = 99, EXCHANGES_A_RUN = 5, DELAY_US = 5000, TRIES = 5 };

/* Of a run's delay, what a rank must have been kept waiting for a processor to be named truly. */
#define HELD_UP_NS_MIN (DELAY_US * UINT64_C(1000) * EXCHANGES_A_RUN / 2)

/* What a rank makes of a run. */
typedef enum verdict {
    VERDICT_RIGHT,
    VERDICT_WRONG,
    VERDICT_DISTURBED, /* another rank or reason, and that rank was held up by the kernel */
} verdict_t;

/* As moxie_group_peer_counters() tells it, for all ranks. */
typedef struct counters {
    moxie_peer_counters_t of[RANKS];
} counters_t;

static bool read_counters(world_rank_t *self, const moxie_group_t *group, counters_t *out)
{
    for (int32_t rank = 0; rank < RANKS; rank++) {
        out->of[rank] = (moxie_peer_counters_t)MOXIE_PEER_COUNTERS_INIT;
        if (!world_expect(self, "peer_counters",
                          moxie_group_peer_counters(group, rank, &out->of[rank]), MOXIE_OK)) {
            return false;
        }
    }
    return true;
}

/* The rank that cost most between two readings, and how. */
static int32_t find_culprit(const counters_t *before, const counters_t *after, bool *is_late)
{
    int32_t culprit = -1;
    uint64_t most_ns = 0;
    for (int32_t rank = 0; rank < RANKS; rank++) {
        const uint64_t late_ns = after->of[rank].late_ns - before->of[rank].late_ns;
        const uint64_t slow_ns = after->of[rank].slow_ns - before->of[rank].slow_ns;
        const uint64_t cost_ns = late_ns > slow_ns ? late_ns : slow_ns;
        if (cost_ns > most_ns) {
            most_ns = cost_ns;
            culprit = rank;
            *is_late = late_ns > slow_ns;
        }
    }
    return culprit;
}

typedef struct exchange {
    moxie_window_t *window;
    moxie_route_t *route;
    float x[TOKENS][HIDDEN];
} exchange_t;

static bool open_exchange(world_rank_t *self, moxie_group_t *group, exchange_t *exchange)
{
    int32_t expert[TOKENS];
    for (int32_t token = 0; token < TOKENS; token++) {
        expert[token] = token % RANKS;
    }
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.expert_count = RANKS;
    shape.topk = 1;
    shape.hidden = HIDDEN;
    shape.token_count_max = TOKENS;
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS;
    routing.topk_idx = expert;
    return world_expect(
               self, "window",
               moxie_window_allocate(group, sizeof(float) * ROWS * HIDDEN, &exchange->window),
               MOXIE_OK) &&
           world_expect(self, "route", moxie_route_create(group, &shape, &exchange->route),
                        MOXIE_OK) &&
           world_expect(self, "update", moxie_route_update(exchange->route, &routing, NULL),
                        MOXIE_OK);
}

static bool dispatch(world_rank_t *self, exchange_t *exchange)
{
    moxie_dispatch_in_t in = MOXIE_DISPATCH_IN_INIT;
    moxie_dispatch_out_t out = MOXIE_DISPATCH_OUT_INIT;
    in.x = exchange->x;
    in.dtype = MOXIE_DTYPE_FP32;
    out.row_capacity = ROWS;
    out.recv_x = moxie_window_base(exchange->window);
    return world_expect(self, "dispatch", moxie_dispatch(exchange->route, &in, &out, NULL),
                        MOXIE_OK);
}

/* How long this process waited for a processor so far; 0 where the kernel does not tell. */
static uint64_t held_up_ns(void)
{
    uint64_t ns = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (file != NULL) {
        (void)fscanf(file, "%*u %" SCNu64, &ns);
        (void)fclose(file);
    }
    return ns;
}

/* Whether this rank named the right rank, for the right reason. */
static verdict_t run_once(world_rank_t *self, moxie_group_t *group, exchange_t *exchange,
                          int32_t culprit, bool is_late)
{
    char fault[64];
    counters_t before;
    counters_t after;
    bool seems_late = false;
    uint64_t of_all_ns[RANKS];
    (void)snprintf(fault, sizeof(fault), "dispatch.%s:%d:*:delay=%d", is_late ? "begin" : "work",
                   culprit, DELAY_US);
    (void)setenv("MOXIE_FAULT", fault, 1);
    uint64_t held_ns = held_up_ns();
    if (!read_counters(self, group, &before)) {
        return VERDICT_WRONG;
    }
    for (int i = 0; i < EXCHANGES_A_RUN; i++) {
        if (!dispatch(self, exchange)) {
            return VERDICT_WRONG;
        }
    }
    if (!read_counters(self, group, &after)) {
        return VERDICT_WRONG;
    }
    held_ns = held_up_ns() - held_ns;
    if (!world_expect(self, "allgather",
                      moxie_group_allgather(group, &held_ns, sizeof(held_ns), of_all_ns),
                      MOXIE_OK)) {
        return VERDICT_WRONG;
    }
    const int32_t named = find_culprit(&before, &after, &seems_late);
    if (named == culprit && seems_late == is_late) {
        return VERDICT_RIGHT;
    }
    return named >= 0 && of_all_ns[named] >= HELD_UP_NS_MIN ? VERDICT_DISTURBED : VERDICT_WRONG;
}

/* True when this rank was right, the last time. All ranks play as often. */
static bool run_undisturbed(world_rank_t *self, moxie_group_t *group, exchange_t *exchange,
                            int32_t culprit, bool is_late)
{
    verdict_t verdict = VERDICT_DISTURBED;
    bool is_disturbed = true;
    for (int i = 0; i < TRIES && is_disturbed; i++) {
        int32_t verdicts[RANKS];
        verdict = run_once(self, group, exchange, culprit, is_late);
        const int32_t mine = (int32_t)verdict;
        if (!world_expect(self, "allgather",
                          moxie_group_allgather(group, &mine, sizeof(mine), verdicts), MOXIE_OK)) {
            return false;
        }
        is_disturbed = false;
        for (int32_t rank = 0; rank < RANKS; rank++) {
            is_disturbed |= verdicts[rank] == VERDICT_DISTURBED;
        }
    }
    return verdict == VERDICT_RIGHT;
}

/* The recorder's text names the culprit of most exchanges of the last run, and has a line a rank.
 */
static void check_dump(world_rank_t *self, const moxie_group_t *group, int32_t culprit)
{
    char text[32768] = "";
    char wanted[64];
    FILE *file = tmpfile();
    if (file == NULL ||
        !world_expect(self, "dump", moxie_group_dump(group, fileno(file)), MOXIE_OK)) {
        world_fail(self, "no dump");
        return;
    }
    rewind(file);
    (void)fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    const char *lines[EXCHANGES_A_RUN] = {NULL}; /* of the last run */
    int line_count = 0;
    for (const char *at = text; (at = strstr(at, " dispatch ")) != NULL; at++) {
        lines[line_count++ % EXCHANGES_A_RUN] = at;
    }
    (void)snprintf(wanted, sizeof(wanted), "slow: %d (", culprit);
    int right_count = 0;
    for (int i = 0; i < EXCHANGES_A_RUN; i++) {
        const char *found = lines[i] == NULL ? NULL : strstr(lines[i], wanted);
        right_count += found != NULL && memchr(lines[i], '\n', (size_t)(found - lines[i])) == NULL;
    }
    if (right_count <= EXCHANGES_A_RUN / 2) {
        world_fail(self, "%d of the last %d dispatches are said to have been slowed by %d:\n%.600s",
                   right_count, EXCHANGES_A_RUN, culprit, lines[0] == NULL ? text : lines[0]);
    }
    for (int32_t rank = 0; rank < RANKS; rank++) {
        (void)snprintf(wanted, sizeof(wanted), "\n  rank %-4d last to come ", rank);
        if (strstr(text, wanted) == NULL) {
            world_fail(self, "the dump has no line of rank %d", rank);
        }
    }
}

static void play(world_rank_t *self)
{
    moxie_group_t *group = world_group(self, "attribution");
    exchange_t exchange = {.window = NULL};
    if (group == NULL || !open_exchange(self, group, &exchange)) {
        return;
    }
    for (int is_late = 1; is_late >= 0; is_late--) {
        int right_count = 0;
        for (int32_t i = 0; i < RUNS; i++) {
            right_count += run_undisturbed(self, group, &exchange, i % RANKS, is_late);
        }
        if (right_count < RUNS_RIGHT_MIN) {
            world_fail(self, "%s: the right rank was named in %d of %d runs",
                       is_late ? "late" : "slow", right_count, RUNS);
        }
    }
    check_dump(self, group, (RUNS - 1) % RANKS);
    moxie_peer_counters_t counters = MOXIE_PEER_COUNTERS_INIT;
    world_expect(self, "no such rank", moxie_group_peer_counters(group, RANKS, &counters),
                 MOXIE_ERR_ARGUMENT);
    moxie_route_destroy(exchange.route);
    moxie_window_free(exchange.window);
    moxie_group_destroy(group);
}

static void test_late_and_slow_ranks_are_named_and_told_apart(void **state)
{
    (void)state;
    const world_options_t options = {.rank_count = RANKS,
                                     .mode = WORLD_PROCESSES, /* each with an environment */
                                     .backend = "shm",
                                     .deadline_s = 100};
    world_run(&options, play, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_and_slow_ranks_are_named_and_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
