/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: what dispatch and the backward of combine, which both deliver rows to the experts,
 * give to one rank. */
#include "core/error.h"
#include "core/options.h"
#include "core/reference_walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Partial sums of a dot product. */
#define DOT_PARTIALS 256

static moxie_status_t check_capacity(int64_t row_capacity, int64_t row_count, int32_t rank)
{
    if (row_capacity >= row_count) {
        return MOXIE_OK;
    }
    error_set(MOXIE_ERR_CAPACITY, "reference: rank %d receives %lld rows, its buffers hold %lld",
              rank, (long long)row_count, (long long)row_capacity);
    error_detail()->peer = rank;
    error_detail()->expected = row_count;
    error_detail()->observed = row_capacity;
    return MOXIE_ERR_CAPACITY;
}

/* Padding everywhere: rows then overwrite all else. In low latency there is none. */
static void fill_padding(const reference_walk_t *walk, int64_t row_count, size_t row_bytes,
                         const moxie_dispatch_out_t *out)
{
    const moxie_world_t *world = walk->world;
    bool expert_major = world->layout == MOXIE_LAYOUT_EXPERT_MAJOR;
    size_t rows = world->mode == MOXIE_MODE_LOW_LATENCY ? 0 : (size_t)row_count;
    if (out->recv_x != NULL && rows > 0) {
        memset(out->recv_x, 0, rows * row_bytes);
    }
    if (expert_major && out->row_weight != NULL && rows > 0) {
        memset(out->row_weight, 0, rows * sizeof(float));
    }
    if (expert_major && out->row_source != NULL) {
        for (size_t row = 0; row < rows; row++) {
            out->row_source[row] = (moxie_row_source_t){-1, -1, -1};
        }
    }
}

/* Counts and block starts. */
static void fill_counts(const reference_walk_t *walk, int32_t rank, const moxie_dispatch_out_t *out)
{
    const moxie_world_t *world = walk->world;
    bool expert_major = world->layout == MOXIE_LAYOUT_EXPERT_MAJOR;
    int64_t start = 0;
    int32_t local_count = moxie_placement_local_count(world->placement, rank);
    for (int32_t local = 0; local < local_count; local++) {
        int32_t expert = moxie_placement_expert(world->placement, rank, local);
        if (out->expert_count != NULL) {
            out->expert_count[local] = walk->expert_rows[expert];
        }
        if (expert_major && out->expert_start != NULL) {
            out->expert_start[local] = start;
        }
        start += reference_block_rows(walk, expert);
    }
    if (expert_major && out->expert_start != NULL) {
        out->expert_start[local_count] = start;
    }
    for (int32_t source = 0;
         out->source_count != NULL && source < moxie_placement_rank_count(world->placement);
         source++) {
        out->source_count[source] = 0;
    }
}

static void deliver_row(int64_t row, const void *elements, size_t row_bytes, void *recv_x)
{
    if (recv_x != NULL) {
        memcpy((char *)recv_x + (size_t)row * row_bytes, elements, row_bytes);
    }
}

/* The token's one row on `rank`, with its slots there. */
static void deliver_rank_major(const reference_walk_t *walk, int32_t rank, const void *elements,
                               size_t row_bytes, const moxie_dispatch_out_t *out)
{
    int32_t topk = walk->world->topk;
    int64_t row = -1;
    for (int32_t slot = 0; slot < topk; slot++) {
        if (walk->rank[slot] == rank) {
            row = walk->row[slot];
        }
    }
    deliver_row(row, elements, row_bytes, out->recv_x);
    for (int32_t slot = 0; slot < topk; slot++) {
        bool is_here = walk->rank[slot] == rank;
        if (out->recv_topk_idx != NULL) {
            out->recv_topk_idx[row * topk + slot] = is_here ? walk->local[slot] : -1;
        }
        if (out->recv_topk_weights != NULL) {
            out->recv_topk_weights[row * topk + slot] = is_here ? walk->weight[slot] : 0.0f;
        }
    }
}

/* One row for each of the token's slots on `rank`. */
static void deliver_expert_major(const reference_walk_t *walk, int32_t rank, const void *elements,
                                 size_t row_bytes, const moxie_dispatch_out_t *out)
{
    for (int32_t slot = 0; slot < walk->world->topk; slot++) {
        if (walk->rank[slot] != rank) {
            continue;
        }
        int64_t row = walk->row[slot];
        deliver_row(row, elements, row_bytes, out->recv_x);
        if (out->row_weight != NULL) {
            out->row_weight[row] = walk->weight[slot];
        }
        if (out->row_source != NULL) {
            out->row_source[row] = (moxie_row_source_t){walk->source, (int32_t)walk->token, slot};
        }
    }
}

static bool is_on_rank(const reference_walk_t *walk, int32_t rank)
{
    for (int32_t slot = 0; slot < walk->world->topk; slot++) {
        if (walk->rank[slot] == rank) {
            return true;
        }
    }
    return false;
}

static void deliver_all(reference_walk_t *walk, int32_t rank, const moxie_row_reader_t *x,
                        size_t row_bytes, const moxie_dispatch_out_t *out)
{
    while (reference_walk_next(walk)) {
        if (!is_on_rank(walk, rank)) {
            continue;
        }
        if (out->source_count != NULL) {
            out->source_count[walk->source]++;
        }
        const void *elements =
            out->recv_x == NULL ? NULL : x->row(x->ctx, walk->source, walk->token);
        if (walk->world->layout == MOXIE_LAYOUT_RANK_MAJOR) {
            deliver_rank_major(walk, rank, elements, row_bytes, out);
        } else {
            deliver_expert_major(walk, rank, elements, row_bytes, out);
        }
    }
}

moxie_status_t moxie_reference_dispatch(const moxie_world_t *world, int32_t rank,
                                        const moxie_row_reader_t *x,
                                        const moxie_dispatch_out_t *callers)
{
    moxie_dispatch_out_t ours = MOXIE_DISPATCH_OUT_INIT;
    moxie_status_t status =
        options_read(&ours, callers, sizeof(ours), "reference: dispatch output");
    if (status != MOXIE_OK) {
        return status;
    }
    const moxie_dispatch_out_t *out = &ours;
    if (out->recv_x != NULL && (x == NULL || x->row == NULL || moxie_dtype_bytes(x->dtype) == 0)) {
        return error_set(MOXIE_ERR_ARGUMENT, "reference: no reader for rows of x");
    }
    reference_walk_t walk;
    status = reference_walk_begin(&walk, world, rank);
    if (status != MOXIE_OK) {
        return status;
    }
    int64_t row_count = reference_recv_rows(&walk, rank);
    status = check_capacity(out->row_capacity, row_count, rank);
    if (status == MOXIE_OK) {
        size_t row_bytes =
            out->recv_x == NULL ? 0 : (size_t)world->hidden * moxie_dtype_bytes(x->dtype);
        fill_padding(&walk, row_count, row_bytes, out);
        fill_counts(&walk, rank, out);
        deliver_all(&walk, rank, x, row_bytes, out);
    }
    reference_walk_end(&walk);
    return status;
}

/* Row (s, t, k) of d_y on `rank`, from d_out[t]. */
static void deliver_gradient(const reference_walk_t *walk, int32_t slot, const void *elements,
                             const moxie_combine_backward_in_t *in, float *scratch, void *d_y)
{
    int64_t hidden = walk->world->hidden;
    size_t row_bytes = (size_t)hidden * moxie_dtype_bytes(in->dtype);
    if (walk->world->layout == MOXIE_LAYOUT_RANK_MAJOR || in->unweighted != 0) {
        deliver_row(walk->row[slot], elements, row_bytes, d_y);
        return;
    }
    reference_load(in->dtype, elements, hidden, scratch);
    for (int64_t column = 0; column < hidden; column++) {
        scratch[column] = walk->weight[slot] * scratch[column];
    }
    reference_store(in->dtype, scratch, hidden, (char *)d_y + (size_t)walk->row[slot] * row_bytes);
}

static void deliver_gradients(reference_walk_t *walk, int32_t rank, const moxie_row_reader_t *d_out,
                              const moxie_combine_backward_in_t *in, int64_t row_count,
                              float *scratch, void *d_y)
{
    size_t row_bytes = (size_t)walk->world->hidden * moxie_dtype_bytes(in->dtype);
    if (row_count > 0) {
        memset(d_y, 0, (size_t)row_count * row_bytes);
    }
    while (reference_walk_next(walk)) {
        for (int32_t slot = 0; slot < walk->world->topk; slot++) {
            if (walk->rank[slot] == rank) {
                deliver_gradient(walk, slot, d_out->row(d_out->ctx, walk->source, walk->token), in,
                                 scratch, d_y);
            }
        }
    }
}

static moxie_status_t gradient_of_y(const moxie_world_t *world, int32_t rank,
                                    const moxie_row_reader_t *d_out,
                                    const moxie_combine_backward_in_t *in,
                                    const moxie_combine_backward_out_t *out)
{
    reference_walk_t walk;
    moxie_status_t status = reference_walk_begin(&walk, world, rank);
    if (status != MOXIE_OK) {
        return status;
    }
    int64_t row_count = reference_recv_rows(&walk, rank);
    status = check_capacity(out->row_capacity, row_count, rank);
    float *scratch = calloc((size_t)world->hidden, sizeof(float));
    if (status == MOXIE_OK && scratch == NULL) {
        status = error_set(MOXIE_ERR_MEMORY, "reference: no memory for a row");
    }
    if (status == MOXIE_OK) {
        deliver_gradients(&walk, rank, d_out, in, row_count, scratch, out->d_y);
    }
    free(scratch);
    reference_walk_end(&walk);
    return status;
}

/* <d_out, y> in the order that exchange.h fixes, so that every machine gets the same bits. */
static float dot_product(const float *d_out, const float *y, int64_t hidden)
{
    float partial[DOT_PARTIALS] = {0.0f};
    for (int64_t column = 0; column < hidden; column++) {
        partial[column % DOT_PARTIALS] =
            fmaf(d_out[column], y[column], partial[column % DOT_PARTIALS]);
    }
    for (int half = DOT_PARTIALS / 2; half >= 1; half /= 2) {
        for (int j = 0; j < half; j++) {
            partial[j] += partial[j + half];
        }
    }
    return partial[0];
}

static void weight_gradients(reference_walk_t *walk, int32_t home, const moxie_row_reader_t *d_out,
                             const moxie_row_reader_t *y, float *scratch, float *d_topk_weights)
{
    int64_t hidden = walk->world->hidden;
    int32_t topk = walk->world->topk;
    while (reference_walk_next(walk)) {
        if (walk->source != home) {
            continue;
        }
        reference_load(d_out->dtype, d_out->row(d_out->ctx, home, walk->token), hidden, scratch);
        for (int32_t slot = 0; slot < topk; slot++) {
            float *gradient = &d_topk_weights[walk->token * topk + slot];
            *gradient = 0.0f;
            if (walk->rank[slot] < 0) {
                continue;
            }
            reference_load(y->dtype, y->row(y->ctx, walk->rank[slot], walk->row[slot]), hidden,
                           scratch + hidden);
            float product = dot_product(scratch, scratch + hidden, hidden);
            reference_store(MOXIE_DTYPE_FP32, &product, 1, gradient);
        }
    }
}

static moxie_status_t gradient_of_weights(const moxie_world_t *world, int32_t home,
                                          const moxie_row_reader_t *d_out,
                                          const moxie_row_reader_t *y, float *d_topk_weights)
{
    reference_walk_t walk;
    moxie_status_t status = reference_walk_begin(&walk, world, home);
    if (status != MOXIE_OK) {
        return status;
    }
    float *scratch = calloc(2 * (size_t)world->hidden, sizeof(float));
    if (scratch == NULL) {
        status = error_set(MOXIE_ERR_MEMORY, "reference: no memory for two rows");
    } else {
        weight_gradients(&walk, home, d_out, y, scratch, d_topk_weights);
    }
    free(scratch);
    reference_walk_end(&walk);
    return status;
}

moxie_status_t moxie_reference_combine_backward(const moxie_world_t *world, int32_t rank,
                                                const moxie_row_reader_t *d_out,
                                                const moxie_row_reader_t *y,
                                                const moxie_combine_backward_in_t *in,
                                                const moxie_combine_backward_out_t *out)
{
    if (in == NULL || in->size < sizeof(*in) || out == NULL || out->size < sizeof(*out)) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "reference: the backward of combine lacks its inputs or outputs");
    }
    moxie_status_t status = reference_check_reader(d_out, in->dtype, "rows of d_out");
    if (status == MOXIE_OK && out->d_topk_weights != NULL) {
        status = reference_check_reader(y, in->dtype, "rows of y");
    }
    if (status == MOXIE_OK && out->d_topk_weights != NULL && world != NULL &&
        (world->layout != MOXIE_LAYOUT_EXPERT_MAJOR || in->unweighted != 0)) {
        status = error_set(MOXIE_ERR_ARGUMENT,
                           "reference: only a weighted combine in expert_major has gradients of "
                           "weights");
    }
    if (status == MOXIE_OK && out->d_y != NULL) {
        status = gradient_of_y(world, rank, d_out, in, out);
    }
    if (status == MOXIE_OK && out->d_topk_weights != NULL) {
        status = gradient_of_weights(world, rank, d_out, y, out->d_topk_weights);
    }
    return status;
}
