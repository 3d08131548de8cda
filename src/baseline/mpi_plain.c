/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mpi`, what a user would write: sort (token, slot) by expert, pack the rows, exchange counts per
 * expert, MPI_Alltoallv of every (token, expert) row, permute to expert_major; in combine permute
 * back, MPI_Alltoallv back, weighted sum at home. The sum is Moxie's, partials rounded once a rank,
 * so that the result is the same to the bit.
 */
#include "baseline/mpi_baseline.h"

#include <stdlib.h>
#include <string.h>

/* Beside a row. */
typedef struct plain_meta {
    int32_t token;
    int32_t slot;
    float weight;
} plain_meta_t;

int plain_open(baseline_t *baseline, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    baseline->meta_bytes = sizeof(plain_meta_t);
    baseline->source_count =
        rows_array((int64_t)shape->rank_count * baseline->local_count, sizeof(int64_t));
    return baseline->source_count != NULL ? 0 : rows_fail(error, "not enough memory for counts");
}

/* Counts of each expert of the home side go to the experts' ranks. */
static int exchange_counts(baseline_t *baseline, const int64_t *count, char *error)
{
    const int32_t rank_count = baseline->shape.rank_count;
    int *plan = rows_array(4 * (int64_t)rank_count, sizeof(int));
    if (plan == NULL) {
        return rows_fail(error, "not enough memory for counts");
    }
    int *send_count = plan;
    int *send_start = plan + rank_count;
    int *recv_count = plan + 2 * rank_count;
    int *recv_start = plan + 3 * rank_count;
    for (int32_t rank = 0; rank < rank_count; rank++) {
        send_start[rank] = baseline->position_start[rank];
        send_count[rank] = baseline->position_start[rank + 1] - send_start[rank];
        recv_count[rank] = baseline->local_count;
        recv_start[rank] = rank * baseline->local_count;
    }
    const int result =
        MPI_Alltoallv(count, send_count, send_start, MPI_INT64_T, baseline->source_count,
                      recv_count, recv_start, MPI_INT64_T, MPI_COMM_WORLD);
    free(plan);
    return rows_check(result, "MPI_Alltoallv of counts", error);
}

/* How many rows go where, once the counts are known. */
static int derive_travel(baseline_t *baseline, const int64_t *count, char *error)
{
    travel_t *travel = &baseline->travel;
    for (int32_t rank = 0; rank < baseline->shape.rank_count; rank++) {
        const int64_t *from = baseline->source_count + (int64_t)rank * baseline->local_count;
        int64_t send = 0;
        int64_t recv = 0;
        for (int32_t i = baseline->position_start[rank]; i < baseline->position_start[rank + 1];
             i++) {
            send += count[i];
        }
        for (int32_t local = 0; local < baseline->local_count; local++) {
            recv += from[local];
        }
        travel->send_count[rank] = (int)send;
        travel->recv_count[rank] = (int)recv;
    }
    baseline->expert_start[0] = 0;
    for (int32_t local = 0; local < baseline->local_count; local++) {
        int64_t total = 0;
        for (int32_t rank = 0; rank < baseline->shape.rank_count; rank++) {
            total += baseline->source_count[(int64_t)rank * baseline->local_count + local];
        }
        baseline->expert_count[local] = total;
        baseline->expert_start[local + 1] = baseline->expert_start[local] + total;
    }
    return rows_prepare(baseline, error);
}

/* The slots of a token, ascending by (rank, slot), each with its place in sending order. */
static void place_token(baseline_t *baseline, int64_t token, const int32_t *experts,
                        const float *weights, int64_t *next)
{
    const baseline_shape_t *shape = &baseline->shape;
    term_t *terms = baseline->home + baseline->home_start[token];
    int32_t ranks[MOXIE_TOPK_MAX];
    int32_t count = 0;
    for (int32_t slot = 0; slot < shape->topk; slot++) {
        if (experts[slot] < 0) {
            continue;
        }
        const int32_t rank = shape->rank_of_expert[experts[slot]];
        const int64_t place = next[baseline->position_of[experts[slot]]]++;
        ((plain_meta_t *)(void *)baseline->send_meta)[place] =
            (plain_meta_t){(int32_t)token, slot, weights[slot]};
        int32_t at = count++;
        for (; at > 0 && ranks[at - 1] > rank; at--) {
            ranks[at] = ranks[at - 1];
            terms[at] = terms[at - 1];
        }
        ranks[at] = rank;
        terms[at] = (term_t){.place = place, .weight = weights[slot], .slot = slot};
    }
    for (int32_t i = 0; i < count; i++) {
        terms[i].is_end = i + 1 == count || ranks[i + 1] != ranks[i];
    }
    baseline->home_start[token + 1] = baseline->home_start[token] + count;
}

int plain_route(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights,
                char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    int64_t *count = rows_array(shape->expert_count, sizeof(int64_t));
    if (count == NULL) {
        return rows_fail(error, "not enough memory for counts");
    }
    for (int64_t i = 0; i < shape->token_count * shape->topk; i++) {
        if (topk_idx[i] >= 0) {
            count[baseline->position_of[topk_idx[i]]]++;
        }
    }
    int status = exchange_counts(baseline, count, error);
    if (status == 0) {
        status = derive_travel(baseline, count, error);
    }
    int64_t start = 0;
    for (int32_t i = 0; i < shape->expert_count; i++) {
        const int64_t here = count[i];
        count[i] = start;
        start += here;
    }
    for (int64_t token = 0; status == 0 && token < shape->token_count; token++) {
        place_token(baseline, token, topk_idx + token * shape->topk,
                    topk_weights + token * shape->topk, count);
    }
    free(count);
    return status == 0 ? rows_send_meta(baseline, error) : status;
}

/* Between the order of arrival, (source, expert, token), and expert_major, (expert, source, token):
 * rows of one source for one expert stay together. */
static void permute(const baseline_t *baseline, char *arrived, char *blocks, int is_back)
{
    const int is_streamed = rows_are_streamed(baseline, baseline->travel.recv_total);
    for (int32_t local = 0; local < baseline->local_count; local++) {
        int64_t to = baseline->expert_start[local];
        for (int32_t rank = 0; rank < baseline->shape.rank_count; rank++) {
            const int64_t *count = baseline->source_count + (int64_t)rank * baseline->local_count;
            int64_t from = baseline->travel.recv_start[rank];
            for (int32_t before = 0; before < local; before++) {
                from += count[before];
            }
            char *there = arrived + (size_t)from * baseline->row_bytes;
            char *here = blocks + (size_t)to * baseline->row_bytes;
            rows_copy(baseline, is_streamed, is_back ? there : here, is_back ? here : there,
                      count[local]);
            to += count[local];
        }
    }
    rows_fence();
}

/* The numbers beside the rows, in the same permutation. */
static void permute_meta(const baseline_t *baseline, const moxie_dispatch_out_t *out)
{
    const plain_meta_t *meta = (const void *)baseline->recv_meta;
    for (int32_t rank = 0; rank < baseline->shape.rank_count; rank++) {
        const int64_t *count = baseline->source_count + (int64_t)rank * baseline->local_count;
        for (int32_t local = 0; local < baseline->local_count; local++) {
            int64_t row = baseline->expert_start[local];
            for (int32_t before = 0; before < rank; before++) {
                row += baseline->source_count[(int64_t)before * baseline->local_count + local];
            }
            for (int64_t i = 0; i < count[local]; i++, row++, meta++) {
                out->row_weight[row] = meta->weight;
                out->row_source[row] = (moxie_row_source_t){rank, meta->token, meta->slot};
            }
        }
    }
}

int plain_dispatch(baseline_t *baseline, const void *x, const moxie_dispatch_out_t *out,
                   uint64_t *travel_ns, char *error)
{
    const int is_streamed = rows_are_streamed(baseline, baseline->travel.send_total);
    const char *row = x;
    for (int64_t token = 0; token < baseline->shape.token_count; token++) {
        for (int64_t i = baseline->home_start[token]; i < baseline->home_start[token + 1]; i++) {
            const size_t place = (size_t)baseline->home[i].place;
            rows_copy(baseline, is_streamed, baseline->send_rows + place * baseline->row_bytes, row,
                      1);
        }
        row += baseline->row_bytes;
    }
    rows_fence();
    if (rows_go(baseline, baseline->send_rows, baseline->recv_rows, travel_ns, error) != 0) {
        return -1;
    }
    permute(baseline, baseline->recv_rows, out->recv_x, 0);
    permute_meta(baseline, out);
    rows_write_counts(baseline, out);
    return 0;
}

int plain_combine(baseline_t *baseline, const void *y, void *out, uint64_t *travel_ns, char *error)
{
    permute(baseline, baseline->recv_rows, (char *)(uintptr_t)y, 1);
    if (rows_return(baseline, baseline->recv_rows, baseline->send_rows, travel_ns, error) != 0) {
        return -1;
    }
    rows_sum(baseline, baseline->home_start, baseline->home, 0, baseline->shape.token_count, NULL,
             baseline->send_rows, out);
    return 0;
}
