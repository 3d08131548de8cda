/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward pass of an expert-parallel layer, on the route of its forward pass:
 *
 *   forward    recv_x = dispatch(x)         y = expert(recv_x)         out = combine(y, weights)
 *   backward   d_x    = dispatch_backward   d_recv_x = expert'(d_y)    d_y, d_w = combine_backward
 *
 * Toy expert e multiplies by e + 1, so that every gradient can be checked by hand: for token t,
 * d_x = Σ w_k (e_k + 1) · d_out and d_w_k = (e_k + 1) · ⟨d_out, x⟩.
 */
#include "ranks.h"

enum { RANKS = 3, TOKENS = 4, HIDDEN = 32, EXPERTS = 7, TOPK = 2 };

typedef struct token_rows {
    float row[TOKENS][HIDDEN];
} token_rows_t;

/* Expert of each row times the row: out[row] = (expert + 1) · in[row]. */
static void apply_experts(const int64_t *start, int64_t local_count, int first_expert,
                          float (*in)[HIDDEN], float (*out)[HIDDEN])
{
    for (int64_t local = 0; local < local_count; local++)
        for (int64_t row = start[local]; row < start[local + 1]; row++)
            for (int h = 0; h < HIDDEN; h++)
                out[row][h] = (float)(first_expert + local + 1) * in[row][h];
}

/* Compares what came home with the two formulas above. All values here are exact in fp32. */
static int count_wrong(const token_rows_t *x, const token_rows_t *d_out, int32_t (*expert)[TOPK],
                       float (*weight)[TOPK], const token_rows_t *d_x, float (*d_weight)[TOPK])
{
    int wrong = 0;
    for (int t = 0; t < TOKENS; t++) {
        float factor = 0, product = 0;
        for (int h = 0; h < HIDDEN; h++)
            product += d_out->row[t][h] * x->row[t][h];
        for (int k = 0; k < TOPK; k++) {
            factor += weight[t][k] * (float)(expert[t][k] + 1);
            wrong += d_weight[t][k] != (float)(expert[t][k] + 1) * product;
        }
        for (int h = 0; h < HIDDEN; h++)
            wrong += d_x->row[t][h] != factor * d_out->row[t][h];
    }
    return wrong;
}

static int run(moxie_group_t *group, int rank)
{
    token_rows_t x, d_out, out, d_x;
    int32_t expert[TOKENS][TOPK];
    float weight[TOKENS][TOPK], d_weight[TOKENS][TOPK];
    for (int t = 0; t < TOKENS; t++) {
        for (int h = 0; h < HIDDEN; h++) {
            x.row[t][h] = (float)(rank + t + h % 3);
            d_out.row[t][h] = (float)(1 + h % 2);
        }
        expert[t][0] = (rank + 2 * t) % EXPERTS, weight[t][0] = 0.5F;
        expert[t][1] = (rank + 2 * t + 3) % EXPERTS, weight[t][1] = 0.25F;
    }

    /* Blocks as even as possible: of 7 experts, rank 0 has 0 to 2, rank 1 has 3, 4, rank 2 5, 6. */
    moxie_placement_t *placement;
    check(moxie_placement_create_block(EXPERTS, RANKS, &placement));
    int first_expert = moxie_placement_expert(placement, rank, 0);
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.layout = MOXIE_LAYOUT_EXPERT_MAJOR, shape.placement = placement;
    shape.expert_count = EXPERTS, shape.topk = TOPK;
    shape.hidden = HIDDEN, shape.token_count_max = TOKENS;
    moxie_route_t *route;
    check(moxie_route_create(group, &shape, &route));
    moxie_placement_destroy(placement);
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS, routing.topk_idx = expert, routing.topk_weights = weight[0];
    check(moxie_route_update(route, &routing, NULL));

    /* y is kept for the backward pass; recv_x is done with, and its rows take the gradients. */
    moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
    check(moxie_route_extent(route, &extent));
    moxie_window_t *window;
    const size_t row_count = (size_t)extent.recv_row_count;
    check(moxie_window_allocate(group, 2 * row_count * sizeof(x.row[0]), &window));
    float(*rows)[HIDDEN] = moxie_window_base(window), (*y)[HIDDEN] = rows + row_count;

    int64_t start[EXPERTS + 1];
    moxie_dispatch_in_t send = {.size = sizeof(send), .x = &x, .dtype = MOXIE_DTYPE_FP32};
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    receive.row_capacity = extent.recv_row_count;
    receive.recv_x = rows, receive.expert_start = start;
    check(moxie_dispatch(route, &send, &receive, NULL));
    apply_experts(start, extent.local_expert_count, first_expert, rows, y);
    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    give.y = y, give.dtype = give.wire_dtype = MOXIE_DTYPE_FP32;
    moxie_combine_out_t get = {.size = sizeof(get), .out = &out, .dtype = MOXIE_DTYPE_FP32};
    check(moxie_combine(route, &give, &get, NULL));

    /* Backward, from the end to the beginning. */
    moxie_combine_backward_in_t back_in = MOXIE_COMBINE_BACKWARD_IN_INIT;
    back_in.d_out = &d_out, back_in.y = y, back_in.dtype = MOXIE_DTYPE_FP32;
    moxie_combine_backward_out_t back_out = MOXIE_COMBINE_BACKWARD_OUT_INIT;
    back_out.row_capacity = extent.recv_row_count;
    back_out.d_y = rows, back_out.d_topk_weights = d_weight[0];
    check(moxie_combine_backward(route, &back_in, &back_out, NULL));
    apply_experts(start, extent.local_expert_count, first_expert, rows, rows);
    moxie_dispatch_backward_in_t home_in = MOXIE_DISPATCH_BACKWARD_IN_INIT;
    home_in.d_recv_x = rows, home_in.dtype = home_in.wire_dtype = MOXIE_DTYPE_FP32;
    moxie_dispatch_backward_out_t home_out = MOXIE_DISPATCH_BACKWARD_OUT_INIT;
    home_out.d_x = &d_x, home_out.dtype = MOXIE_DTYPE_FP32;
    check(moxie_dispatch_backward(route, &home_in, &home_out, NULL));

    printf("rank %d token 0: d_x = %g, d_w = %g and %g\n", rank, d_x.row[0][0], d_weight[0][0],
           d_weight[0][1]);
    moxie_route_destroy(route);
    moxie_window_free(window);
    return count_wrong(&x, &d_out, expert, weight, &d_x, d_weight);
}

int main(void)
{
    return run_ranks(RANKS, run);
}
