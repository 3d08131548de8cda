/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Low latency, as in decoding: a few tokens a step, another routing each step, and no exchange of
 * counts ahead of the rows. Rows arrive in slots of the route, those of each rank in a range of
 * their own. Dispatch and combine are made in two halves, with other work between.
 */
#include "ranks.h"

enum { RANKS = 3, TOKENS_MAX = 4, HIDDEN = 16, EXPERTS = 6, TOPK = 2, STEPS = 8 };
enum { LOCAL = EXPERTS / RANKS, SLOTS = RANKS * TOKENS_MAX };

/* Expert e multiplies a row by e + 1. */
static float factor(int e)
{
    return (float)(e + 1);
}

static float x_value(int rank, int step, int token, int column)
{
    return (float)((rank + 2 * step + 3 * token + column) % 4);
}

/* What a rank's router decides in a step. */
typedef struct step {
    int token_count;
    uint16_t x[TOKENS_MAX][HIDDEN];
    int32_t expert[TOKENS_MAX][TOPK];
    float weight[TOKENS_MAX][TOPK];
} step_t;

static step_t make_step(int rank, int number)
{
    step_t step = {.token_count = (rank + number) % (TOKENS_MAX + 1)};
    for (int t = 0; t < step.token_count; t++) {
        for (int h = 0; h < HIDDEN; h++)
            step.x[t][h] = moxie_bf16_from_float(x_value(rank, number, t, h));
        step.expert[t][0] = (rank + number + t) % EXPERTS, step.weight[t][0] = 0.5F;
        step.expert[t][1] = (rank + number + t + 3) % EXPERTS, step.weight[t][1] = 0.25F;
    }
    return step;
}

/* In rank_major a row is there once for all local experts: their weighted outputs are summed here.
 */
static void apply_experts(int rank, const moxie_dispatch_out_t *rows, const int64_t *source_count,
                          uint16_t (*y)[HIDDEN])
{
    const uint16_t(*recv_x)[HIDDEN] = rows->recv_x;
    for (int source = 0; source < RANKS; source++) {
        for (int row = source * TOKENS_MAX; row < source * TOKENS_MAX + source_count[source];
             row++) {
            float sum = 0;
            for (int k = 0; k < TOPK; k++) {
                int local = rows->recv_topk_idx[row * TOPK + k];
                if (local >= 0)
                    sum += rows->recv_topk_weights[row * TOPK + k] * factor(LOCAL * rank + local);
            }
            for (int h = 0; h < HIDDEN; h++)
                y[row][h] = moxie_bf16_from_float(sum * moxie_bf16_to_float(recv_x[row][h]));
        }
    }
}

/* What token t must come home as, worked out without any exchange; bf16 holds all of it exactly. */
static int count_wrong(const step_t *step, uint16_t (*out)[HIDDEN])
{
    int wrong = 0;
    for (int t = 0; t < step->token_count; t++) {
        float sum = 0;
        for (int k = 0; k < TOPK; k++)
            sum += step->weight[t][k] * factor(step->expert[t][k]);
        for (int h = 0; h < HIDDEN; h++)
            wrong += moxie_bf16_to_float(out[t][h]) != sum * moxie_bf16_to_float(step->x[t][h]);
    }
    return wrong;
}

static int decode(moxie_route_t *route, int rank, int number, uint16_t (*y)[HIDDEN])
{
    step_t step = make_step(rank, number);
    int64_t source_count[RANKS];
    uint16_t out[TOKENS_MAX][HIDDEN];
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = step.token_count, routing.topk_idx = step.expert;
    routing.topk_weights = step.weight[0];
    check(moxie_route_update(route, &routing, NULL)); /* local */

    moxie_dispatch_in_t send = MOXIE_DISPATCH_IN_INIT;
    send.x = step.x;
    check(moxie_dispatch_send(route, &send, NULL));
    /* ... what does not need the rows ... */
    moxie_dispatch_out_t rows = MOXIE_DISPATCH_OUT_INIT;
    check(moxie_route_slots(route, &rows));
    rows.source_count = source_count;
    check(moxie_dispatch_receive(route, &rows, NULL));

    apply_experts(rank, &rows, source_count, y);

    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    give.y = y;
    check(moxie_combine_send(route, &give, NULL));
    /* ... what does not need the sums ... */
    moxie_combine_out_t get = MOXIE_COMBINE_OUT_INIT;
    get.out = out;
    check(moxie_combine_receive(route, &get, NULL));
    return count_wrong(&step, out);
}

static int run(moxie_group_t *group, int rank)
{
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.mode = MOXIE_MODE_LOW_LATENCY;
    shape.expert_count = EXPERTS, shape.topk = TOPK;
    shape.hidden = HIDDEN, shape.token_count_max = TOKENS_MAX;
    moxie_route_t *route;
    check(moxie_route_create(group, &shape, &route));
    moxie_window_t *window; /* for the experts' outputs: a row for each slot */
    check(moxie_window_allocate(group, SLOTS * sizeof(uint16_t[HIDDEN]), &window));

    int wrong = 0;
    for (int number = 0; number < STEPS; number++)
        wrong += decode(route, rank, number, moxie_window_base(window));
    moxie_window_free(window);
    moxie_route_destroy(route);
    return wrong;
}

int main(void)
{
    return run_ranks(RANKS, run);
}
