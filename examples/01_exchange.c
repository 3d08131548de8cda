/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest complete exchange: 4 processes with 2 toy experts each. Every token goes to the
   ranks of its 2 experts, is worked on there, comes home as a sum, and is checked. */
#include <moxie/moxie.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 4, TOKENS = 3, HIDDEN = 16, EXPERTS = 8, TOPK = 2, ROWS_MAX = RANKS * TOKENS };

typedef struct shared { /* memory of a rank that its peers reach: a window */
    float rows[ROWS_MAX][HIDDEN];
    int32_t expert[ROWS_MAX][TOPK]; /* counted from this rank's first; -1: on another rank */
} shared_t;

static void check(moxie_status_t status)
{
    if (status != MOXIE_OK) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        moxie_last_error(&error);
        fprintf(stderr, "%s: %s\n", moxie_status_name(status), error.message);
        exit(1);
    }
}

static int run_rank(int rank, const char *meeting_point)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank = rank, options.rank_count = RANKS, options.rendezvous = meeting_point;
    moxie_group_t *group;
    moxie_window_t *window;
    check(moxie_group_create(&options, &group));
    check(moxie_window_allocate(group, sizeof(shared_t), &window));
    shared_t *shared = moxie_window_base(window);

    /* This rank's tokens, and the 2 of the 8 experts that each goes to. Every weight is 1. */
    float x[TOKENS][HIDDEN], out[TOKENS][HIDDEN];
    int32_t expert[TOKENS][TOPK];
    for (int t = 0; t < TOKENS; t++) {
        for (int h = 0; h < HIDDEN; h++)
            x[t][h] = (float)(10 * rank + t);
        expert[t][0] = (rank + t) % EXPERTS, expert[t][1] = (rank + t + 3) % EXPERTS;
    }
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT; /* layout: rank_major */
    shape.expert_count = EXPERTS, shape.topk = TOPK;
    shape.hidden = HIDDEN, shape.token_count_max = TOKENS;
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS, routing.topk_idx = expert;
    moxie_route_t *route;
    check(moxie_route_create(group, &shape, &route));
    check(moxie_route_update(route, &routing, NULL));

    moxie_dispatch_in_t send = {.size = sizeof(send), .x = x, .dtype = MOXIE_DTYPE_FP32};
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    receive.row_capacity = ROWS_MAX, receive.recv_x = shared->rows;
    receive.recv_topk_idx = shared->expert[0];
    check(moxie_dispatch(route, &send, &receive, NULL));

    /* Toy expert e multiplies by e + 1. A row becomes the sum of what its experts here make. */
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    check(moxie_route_extent(route, &extent));
    for (int64_t row = 0; row < extent.recv_row_count; row++) {
        int factor = 0;
        for (int k = 0; k < TOPK; k++)
            factor += shared->expert[row][k] < 0 ? 0 : 2 * rank + shared->expert[row][k] + 1;
        for (int h = 0; h < HIDDEN; h++)
            shared->rows[row][h] *= (float)factor;
    }
    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    give.y = shared->rows, give.dtype = give.wire_dtype = MOXIE_DTYPE_FP32;
    moxie_combine_out_t get = {.size = sizeof(get), .out = out, .dtype = MOXIE_DTYPE_FP32};
    check(moxie_combine(route, &give, &get, NULL));

    int wrong = 0;
    for (int t = 0; t < TOKENS; t++) {
        float factor = (float)(expert[t][0] + 1 + expert[t][1] + 1);
        for (int h = 0; h < HIDDEN; h++)
            wrong += out[t][h] != x[t][h] * factor;
        printf("rank %d token %d: %g x %g = %g\n", rank, t, x[t][0], factor, out[t][0]);
    }
    moxie_route_destroy(route), moxie_window_free(window), moxie_group_destroy(group);
    return wrong != 0;
}

int main(void)
{
    char folder[] = "/tmp/moxie-XXXXXX", meeting_point[32];
    snprintf(meeting_point, sizeof(meeting_point), "%s/group", mkdtemp(folder));
    for (int rank = 0; rank < RANKS; rank++)
        if (fork() == 0)
            exit(run_rank(rank, meeting_point));
    int failed = 0, status;
    for (int rank = 0; rank < RANKS; rank++)
        failed += wait(&status) < 0 || status != 0;
    rmdir(folder);
    puts(failed ? "WRONG" : "every token is right");
    return failed != 0;
}
