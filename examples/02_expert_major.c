/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout expert_major: rows arrive grouped by expert, in blocks that a grouped matrix product
 * takes as they are, and combine does the weighting. The experts here are small matrices, the rows
 * are bf16, and the block starts are multiples of 4 rows, as a tiled product would ask for.
 */
#include "ranks.h"

enum { RANKS = 2, TOKENS = 5, HIDDEN = 8, EXPERTS = 4, TOPK = 2, ALIGNMENT = 4 };
enum { LOCAL = EXPERTS / RANKS };

/* Expert e's matrix, [HIDDEN, HIDDEN]: shifts a row by e columns and multiplies it by e + 1. */
static float matrix(int e, int out_column, int in_column)
{
    return out_column == (in_column + e) % HIDDEN ? (float)(e + 1) : 0.0F;
}

/* rows[count, HIDDEN] times the transposed matrix of expert e, in place. */
static void apply_expert(int e, uint16_t (*rows)[HIDDEN], int64_t count)
{
    for (int64_t row = 0; row < count; row++) {
        float y[HIDDEN] = {0};
        for (int o = 0; o < HIDDEN; o++)
            for (int i = 0; i < HIDDEN; i++)
                y[o] += matrix(e, o, i) * moxie_bf16_to_float(rows[row][i]);
        for (int o = 0; o < HIDDEN; o++)
            rows[row][o] = moxie_bf16_from_float(y[o]);
    }
}

static float x_value(int rank, int token, int column)
{
    return (float)(16 * rank + 3 * token + column);
}

/* What token t must come home as, worked out without any exchange. */
static float expected(int rank, int t, int column, const int64_t *expert, const float *weight)
{
    float sum = 0;
    for (int k = 0; k < TOPK; k++) {
        int e = (int)expert[k];
        sum += weight[k] * (float)(e + 1) * x_value(rank, t, (column + HIDDEN - e) % HIDDEN);
    }
    return moxie_bf16_to_float(moxie_bf16_from_float(sum));
}

static int run(moxie_group_t *group, int rank)
{
    uint16_t x[TOKENS][HIDDEN], out[TOKENS][HIDDEN];
    int64_t expert[TOKENS][TOPK]; /* ids may be int32 or int64 */
    float weight[TOKENS][TOPK];
    for (int t = 0; t < TOKENS; t++) {
        for (int h = 0; h < HIDDEN; h++)
            x[t][h] = moxie_bf16_from_float(x_value(rank, t, h));
        expert[t][0] = t % EXPERTS, weight[t][0] = 0.5F;
        expert[t][1] = (t + 1 + rank) % EXPERTS, weight[t][1] = 0.25F;
    }
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.layout = MOXIE_LAYOUT_EXPERT_MAJOR, shape.alignment = ALIGNMENT;
    shape.expert_count = EXPERTS, shape.topk = TOPK;
    shape.hidden = HIDDEN, shape.token_count_max = TOKENS;
    moxie_route_t *route;
    check(moxie_route_create(group, &shape, &route));
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS, routing.topk_idx = expert;
    routing.index_type = MOXIE_INDEX_INT64, routing.topk_weights = weight[0];
    check(moxie_route_update(route, &routing, NULL));

    /* The routing is known now, so the window can be just as large as it must be. */
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    check(moxie_route_extent(route, &extent));
    moxie_window_t *window;
    check(moxie_window_allocate(group, (size_t)extent.recv_row_count * sizeof(x[0]), &window));
    uint16_t(*rows)[HIDDEN] = moxie_window_base(window);

    int64_t block_start[LOCAL + 1], block_rows[LOCAL];
    moxie_dispatch_in_t send = MOXIE_DISPATCH_IN_INIT;
    send.x = x;
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    receive.row_capacity = extent.recv_row_count, receive.recv_x = rows;
    receive.expert_start = block_start, receive.expert_count = block_rows;
    check(moxie_dispatch(route, &send, &receive, NULL));

    for (int local = 0; local < LOCAL; local++) {
        printf("rank %d: expert %d has rows %d to %d, %d of them padding\n", rank,
               LOCAL * rank + local, (int)block_start[local], (int)block_start[local + 1] - 1,
               (int)(block_start[local + 1] - block_start[local] - block_rows[local]));
        apply_expert(LOCAL * rank + local, rows + block_start[local], block_rows[local]);
    }
    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    give.y = rows;
    moxie_combine_out_t get = MOXIE_COMBINE_OUT_INIT;
    get.out = out;
    check(moxie_combine(route, &give, &get, NULL));

    int wrong = 0;
    for (int t = 0; t < TOKENS; t++)
        for (int h = 0; h < HIDDEN; h++)
            wrong += moxie_bf16_to_float(out[t][h]) != expected(rank, t, h, expert[t], weight[t]);
    moxie_route_destroy(route);
    moxie_window_free(window);
    return wrong;
}

int main(void)
{
    return run_ranks(RANKS, run);
}
