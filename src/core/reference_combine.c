/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: what combine and the backward of dispatch, which both sum at home, give to one
 * rank. */
#include "core/error.h"
#include "core/reference_walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Three rows of fp32: the home rank's sum, one rank's partial, one row of y. */
typedef struct sum_rows {
    float *home;
    float *partial;
    float *y;
} sum_rows_t;

/* How combine, or the backward of dispatch, sums. */
typedef struct sum_rule {
    moxie_dtype_t wire_dtype;
    moxie_dtype_t out_dtype;
    bool weighted;
} sum_rule_t;

/* p[s,t] of rank `peer` in rows->partial; false when the token has no expert there. */
static bool sum_partial(const reference_walk_t *walk, int32_t peer, const moxie_row_reader_t *y,
                        const sum_rule_t *rule, const sum_rows_t *rows)
{
    int64_t hidden = walk->world->hidden;
    bool is_there = false;
    for (int32_t slot = 0; slot < walk->world->topk; slot++) {
        if (walk->rank[slot] != peer) {
            continue;
        }
        const void *elements = y->row(y->ctx, peer, walk->row[slot]);
        if (walk->world->layout == MOXIE_LAYOUT_RANK_MAJOR) {
            reference_load(y->dtype, elements, hidden, rows->partial);
            return true;
        }
        if (!is_there) {
            memset(rows->partial, 0, (size_t)hidden * sizeof(float));
        }
        is_there = true;
        reference_load(y->dtype, elements, hidden, rows->y);
        float weight = rule->weighted ? walk->weight[slot] : 1.0f;
        for (int64_t column = 0; column < hidden; column++) {
            rows->partial[column] = fmaf(weight, rows->y[column], rows->partial[column]);
        }
    }
    return is_there;
}

/* Rounds the partial once to the wire type and adds it to the home rank's sum. */
static void add_partial(const moxie_world_t *world, moxie_dtype_t wire_dtype,
                        const sum_rows_t *rows)
{
    if (wire_dtype == MOXIE_DTYPE_BF16) {
        for (int64_t column = 0; column < world->hidden; column++) {
            rows->partial[column] =
                moxie_bf16_to_float(moxie_bf16_from_float(rows->partial[column]));
        }
    }
    for (int64_t column = 0; column < world->hidden; column++) {
        rows->home[column] += rows->partial[column];
    }
}

static void sum_all(reference_walk_t *walk, int32_t home, const moxie_row_reader_t *y,
                    const sum_rule_t *rule, const sum_rows_t *rows, void *out)
{
    const moxie_world_t *world = walk->world;
    int32_t rank_count = moxie_placement_rank_count(world->placement);
    size_t row_bytes = (size_t)world->hidden * moxie_dtype_bytes(rule->out_dtype);
    while (reference_walk_next(walk)) {
        if (walk->source != home) {
            continue;
        }
        memset(rows->home, 0, (size_t)world->hidden * sizeof(float));
        for (int32_t peer = 0; peer < rank_count; peer++) {
            if (sum_partial(walk, peer, y, rule, rows)) {
                add_partial(world, rule->wire_dtype, rows);
            }
        }
        reference_store(rule->out_dtype, rows->home, world->hidden,
                        (char *)out + (size_t)walk->token * row_bytes);
    }
}

static moxie_status_t sum_home(const moxie_world_t *world, int32_t home,
                               const moxie_row_reader_t *y, const sum_rule_t *rule, void *out)
{
    reference_walk_t walk;
    moxie_status_t status = reference_walk_begin(&walk, world, home);
    if (status != MOXIE_OK) {
        return status;
    }
    if (out == NULL && world->routing[home].token_count > 0) {
        reference_walk_end(&walk);
        return error_set(MOXIE_ERR_ARGUMENT, "reference: nowhere to put the sums of rank %d", home);
    }
    size_t hidden = (size_t)world->hidden;
    float *memory = calloc(3 * hidden, sizeof(float));
    if (memory == NULL) {
        reference_walk_end(&walk);
        return error_set(MOXIE_ERR_MEMORY, "reference: no memory for three rows");
    }
    sum_rows_t rows = {memory, memory + hidden, memory + 2 * hidden};
    sum_all(&walk, home, y, rule, &rows, out);
    free(memory);
    reference_walk_end(&walk);
    return MOXIE_OK;
}

moxie_status_t moxie_reference_combine(const moxie_world_t *world, int32_t rank,
                                       const moxie_row_reader_t *y, const moxie_combine_in_t *in,
                                       const moxie_combine_out_t *out)
{
    if (in == NULL || in->size < sizeof(*in) || out == NULL || out->size < sizeof(*out)) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: combine lacks its inputs or outputs");
    }
    moxie_status_t status = reference_check_reader(y, in->dtype, "rows of y");
    if (status == MOXIE_OK) {
        status = reference_check_dtype(in->wire_dtype, "the wire");
    }
    if (status == MOXIE_OK) {
        status = reference_check_dtype(out->dtype, "out");
    }
    if (status != MOXIE_OK) {
        return status;
    }
    sum_rule_t rule = {in->wire_dtype, out->dtype, in->unweighted == 0};
    return sum_home(world, rank, y, &rule, out->out);
}

/* Every received weight's gradient goes to the slot it came from. */
static moxie_status_t gather_weight_gradients(const moxie_world_t *world, int32_t home,
                                              const moxie_row_reader_t *d_recv_weights,
                                              float *d_topk_weights)
{
    reference_walk_t walk;
    moxie_status_t status = reference_walk_begin(&walk, world, home);
    if (status != MOXIE_OK) {
        return status;
    }
    bool rank_major = world->layout == MOXIE_LAYOUT_RANK_MAJOR;
    while (reference_walk_next(&walk)) {
        if (walk.source != home) {
            continue;
        }
        for (int32_t slot = 0; slot < world->topk; slot++) {
            float *gradient = &d_topk_weights[walk.token * world->topk + slot];
            *gradient = 0.0f;
            if (walk.rank[slot] < 0) {
                continue;
            }
            const float *row =
                d_recv_weights->row(d_recv_weights->ctx, walk.rank[slot], walk.row[slot]);
            memcpy(gradient, rank_major ? &row[slot] : row, sizeof(*gradient));
        }
    }
    reference_walk_end(&walk);
    return MOXIE_OK;
}

moxie_status_t moxie_reference_dispatch_backward(const moxie_world_t *world, int32_t rank,
                                                 const moxie_row_reader_t *d_recv_x,
                                                 const moxie_row_reader_t *d_recv_weights,
                                                 const moxie_dispatch_backward_in_t *in,
                                                 const moxie_dispatch_backward_out_t *out)
{
    if (in == NULL || in->size < sizeof(*in) || out == NULL || out->size < sizeof(*out)) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "reference: the backward of dispatch lacks its inputs or outputs");
    }
    moxie_status_t status = reference_check_reader(d_recv_x, in->dtype, "rows of d_recv_x");
    if (status == MOXIE_OK) {
        status = reference_check_dtype(in->wire_dtype, "the wire");
    }
    if (status == MOXIE_OK) {
        status = reference_check_dtype(out->dtype, "d_x");
    }
    if (status == MOXIE_OK && out->d_topk_weights != NULL) {
        status = reference_check_reader(d_recv_weights, MOXIE_DTYPE_FP32, "rows of d_recv_weights");
    }
    if (status != MOXIE_OK) {
        return status;
    }
    sum_rule_t rule = {in->wire_dtype, out->dtype, false};
    status = sum_home(world, rank, d_recv_x, &rule, out->d_x);
    if (status == MOXIE_OK && out->d_topk_weights != NULL) {
        status = gather_weight_gradients(world, rank, d_recv_weights, out->d_topk_weights);
    }
    return status;
}
