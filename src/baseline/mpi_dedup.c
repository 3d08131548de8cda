/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mpi-dedup`: a row travels once to each rank that has an expert of its token, with its local
 * experts and weights beside it, and duplicates are made by the receiver; in combine the experts'
 * rank sums its partial, which travels back once and is added at home. A rank's own rows do not go
 * through MPI at all.
 */
#include "baseline/mpi_baseline.h"

#include <stdlib.h>
#include <string.h>

/* Beside a row: the token, then [topk] local experts or -1, then [topk] weights. */
typedef union dedup_word {
    int32_t number;
    float weight;
} dedup_word_t;

int dedup_open(baseline_t *baseline, char *error)
{
    const baseline_shape_t *shape = &baseline->shape;
    baseline->meta_bytes = (1 + 2 * (size_t)shape->topk) * sizeof(dedup_word_t);
    baseline->hop_start = rows_array(shape->token_count + 1, sizeof(int64_t));
    baseline->hop = rows_array(shape->token_count * shape->topk, sizeof(hop_t));
    baseline->part_start = rows_array(shape->travel_row_max + 1, sizeof(int64_t));
    baseline->part = rows_array(shape->travel_row_max * shape->topk, sizeof(term_t));
    return baseline->hop_start != NULL && baseline->hop != NULL && baseline->part_start != NULL &&
                   baseline->part != NULL
               ? 0
               : rows_fail(error, "not enough memory for places");
}

static dedup_word_t *meta_of(const baseline_t *baseline, char *meta, int64_t row)
{
    return (dedup_word_t *)(void *)(meta + (size_t)row * baseline->meta_bytes);
}

/* The ranks that hold experts of a token, ascending, each once. */
static int32_t ranks_of(const baseline_t *baseline, const int32_t *experts,
                        int32_t ranks[MOXIE_TOPK_MAX])
{
    int32_t count = 0;
    for (int32_t slot = 0; slot < baseline->shape.topk; slot++) {
        if (experts[slot] < 0) {
            continue;
        }
        const int32_t rank = baseline->shape.rank_of_expert[experts[slot]];
        int32_t at = count;
        while (at > 0 && ranks[at - 1] > rank) {
            at--;
        }
        if (at > 0 && ranks[at - 1] == rank) {
            continue;
        }
        memmove(ranks + at + 1, ranks + at, (size_t)(count - at) * sizeof(*ranks));
        ranks[at] = rank;
        count++;
    }
    return count;
}

/* The hops of all tokens, still without places, and how many rows go to each rank. */
static void find_hops(baseline_t *baseline, const int32_t *topk_idx)
{
    const baseline_shape_t *shape = &baseline->shape;
    int32_t ranks[MOXIE_TOPK_MAX];
    memset(baseline->travel.send_count, 0, sizeof(int) * (size_t)shape->rank_count);
    baseline->hop_start[0] = 0;
    for (int64_t token = 0; token < shape->token_count; token++) {
        const int32_t count = ranks_of(baseline, topk_idx + token * shape->topk, ranks);
        const int64_t start = baseline->hop_start[token];
        for (int32_t i = 0; i < count; i++) {
            baseline->hop[start + i].rank = ranks[i];
            baseline->travel.send_count[ranks[i]]++;
        }
        baseline->hop_start[token + 1] = start + count;
    }
}

/* Rows of a rank are sent in the order of their tokens. */
static int place_hops(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights)
{
    const baseline_shape_t *shape = &baseline->shape;
    int64_t *next = rows_array(shape->rank_count, sizeof(int64_t));
    if (next == NULL) {
        return -1;
    }
    for (int64_t token = 0; token < shape->token_count; token++) {
        const int32_t *experts = topk_idx + token * shape->topk;
        const float *weights = topk_weights + token * shape->topk;
        for (int64_t h = baseline->hop_start[token]; h < baseline->hop_start[token + 1]; h++) {
            hop_t *hop = &baseline->hop[h];
            hop->place = baseline->travel.send_start[hop->rank] + next[hop->rank]++;
            dedup_word_t *meta = meta_of(baseline, baseline->send_meta, hop->place);
            meta[0].number = (int32_t)token;
            for (int32_t slot = 0; slot < shape->topk; slot++) {
                const int is_there =
                    experts[slot] >= 0 && shape->rank_of_expert[experts[slot]] == hop->rank;
                meta[1 + slot].number = is_there ? shape->local_of_expert[experts[slot]] : -1;
                meta[1 + shape->topk + slot].weight = is_there ? weights[slot] : 0.0f;
            }
        }
    }
    free(next);
    return 0;
}

/* Where each received row's duplicates lie in expert_major. */
static void place_parts(baseline_t *baseline)
{
    const int32_t topk = baseline->shape.topk;
    memset(baseline->expert_count, 0, sizeof(int64_t) * (size_t)baseline->local_count);
    for (int64_t row = 0; row < baseline->travel.recv_total; row++) {
        const dedup_word_t *meta = meta_of(baseline, baseline->recv_meta, row);
        int64_t end = baseline->part_start[row];
        for (int32_t slot = 0; slot < topk; slot++) {
            const int32_t local = meta[1 + slot].number;
            if (local >= 0) {
                baseline->part[end++] = (term_t){.place = baseline->expert_count[local]++,
                                                 .weight = meta[1 + topk + slot].weight,
                                                 .slot = slot};
            }
        }
        baseline->part[end - 1].is_end = 1; /* a row that has come has an expert here */
        baseline->part_start[row + 1] = end;
    }
    baseline->expert_start[0] = 0;
    for (int32_t local = 0; local < baseline->local_count; local++) {
        baseline->expert_start[local + 1] =
            baseline->expert_start[local] + baseline->expert_count[local];
    }
    for (int64_t row = 0; row < baseline->travel.recv_total; row++) {
        const dedup_word_t *meta = meta_of(baseline, baseline->recv_meta, row);
        for (int64_t i = baseline->part_start[row]; i < baseline->part_start[row + 1]; i++) {
            term_t *part = &baseline->part[i];
            part->place += baseline->expert_start[meta[1 + part->slot].number];
        }
    }
}

/* What each token sums: partials that come back, and its own rank's rows where they lie. */
static void find_terms(baseline_t *baseline)
{
    const baseline_shape_t *shape = &baseline->shape;
    const travel_t *travel = &baseline->travel;
    baseline->home_start[0] = 0;
    for (int64_t token = 0; token < shape->token_count; token++) {
        int64_t end = baseline->home_start[token];
        for (int64_t h = baseline->hop_start[token]; h < baseline->hop_start[token + 1]; h++) {
            const hop_t *hop = &baseline->hop[h];
            /* An own row has the same number on both sides. */
            const int64_t own =
                hop->place - travel->send_start[shape->rank] + travel->recv_start[shape->rank];
            const int is_own = hop->rank == shape->rank;
            if (!is_own || shape->layout == MOXIE_LAYOUT_RANK_MAJOR) {
                baseline->home[end++] = (term_t){.place = is_own ? own : hop->place,
                                                 .weight = 1.0f,
                                                 .slot = -1,
                                                 .is_end = 1,
                                                 .is_own = is_own};
                continue;
            }
            for (int64_t i = baseline->part_start[own]; i < baseline->part_start[own + 1]; i++) {
                baseline->home[end] = baseline->part[i];
                baseline->home[end++].is_own = 1;
            }
        }
        baseline->home_start[token + 1] = end;
    }
}

int dedup_route(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights,
                char *error)
{
    travel_t *travel = &baseline->travel;
    find_hops(baseline, topk_idx);
    if (rows_check(MPI_Alltoall(travel->send_count, 1, MPI_INT, travel->recv_count, 1, MPI_INT,
                                MPI_COMM_WORLD),
                   "MPI_Alltoall of counts", error) != 0 ||
        rows_prepare(baseline, error) != 0) {
        return -1;
    }
    if (place_hops(baseline, topk_idx, topk_weights) != 0) {
        return rows_fail(error, "not enough memory for places");
    }
    if (rows_send_meta(baseline, error) != 0) {
        return -1;
    }
    place_parts(baseline);
    find_terms(baseline);
    travel->send_count[baseline->shape.rank] = 0; /* from here on only others' rows travel */
    travel->recv_count[baseline->shape.rank] = 0;
    return 0;
}

/* Rows for others into sending order. */
static void pack(const baseline_t *baseline, const char *x)
{
    const int is_streamed = rows_are_streamed(baseline, baseline->travel.send_total);
    for (int64_t token = 0; token < baseline->shape.token_count; token++) {
        const char *row = x + (size_t)token * baseline->row_bytes;
        for (int64_t h = baseline->hop_start[token]; h < baseline->hop_start[token + 1]; h++) {
            const hop_t *hop = &baseline->hop[h];
            if (hop->rank != baseline->shape.rank) {
                rows_copy(baseline, is_streamed,
                          baseline->send_rows + (size_t)hop->place * baseline->row_bytes, row, 1);
            }
        }
    }
    rows_fence();
}

/* A received row: where it was received, or where it always was when it is an own one. */
static const char *received(const baseline_t *baseline, int64_t row, int32_t source, const char *x)
{
    if (source != baseline->shape.rank) {
        return baseline->recv_rows + (size_t)row * baseline->row_bytes;
    }
    return x + (size_t)meta_of(baseline, baseline->recv_meta, row)[0].number * baseline->row_bytes;
}

/* The end of a source's rows among those received. */
static int64_t end_of(const baseline_t *baseline, int32_t source)
{
    return source + 1 < baseline->shape.rank_count ? baseline->travel.recv_start[source + 1]
                                                   : baseline->travel.recv_total;
}

static void duplicate(const baseline_t *baseline, const char *x, const moxie_dispatch_out_t *out)
{
    const int is_streamed =
        rows_are_streamed(baseline, baseline->part_start[baseline->travel.recv_total]);
    for (int32_t source = 0; source < baseline->shape.rank_count; source++) {
        for (int64_t row = baseline->travel.recv_start[source]; row < end_of(baseline, source);
             row++) {
            const char *from = received(baseline, row, source, x);
            const int32_t token = meta_of(baseline, baseline->recv_meta, row)[0].number;
            for (int64_t i = baseline->part_start[row]; i < baseline->part_start[row + 1]; i++) {
                const term_t *part = &baseline->part[i];
                rows_copy(baseline, is_streamed,
                          (char *)out->recv_x + (size_t)part->place * baseline->row_bytes, from, 1);
                out->row_weight[part->place] = part->weight;
                out->row_source[part->place] = (moxie_row_source_t){source, token, part->slot};
            }
        }
    }
    rows_fence();
}

/* rank_major: others' rows have arrived in their place; own rows and the numbers beside them. */
static void finish_rank_major(const baseline_t *baseline, const char *x,
                              const moxie_dispatch_out_t *out)
{
    const int32_t rank = baseline->shape.rank;
    const size_t slots = (size_t)baseline->shape.topk;
    const int64_t start = baseline->travel.recv_start[rank];
    const int is_streamed = rows_are_streamed(baseline, end_of(baseline, rank) - start);
    for (int64_t row = start; row < end_of(baseline, rank); row++) {
        rows_copy(baseline, is_streamed, (char *)out->recv_x + (size_t)row * baseline->row_bytes,
                  received(baseline, row, rank, x), 1);
    }
    for (int64_t row = 0; row < baseline->travel.recv_total; row++) {
        const dedup_word_t *meta = meta_of(baseline, baseline->recv_meta, row);
        memcpy(out->recv_topk_idx + (size_t)row * slots, meta + 1, slots * sizeof(int32_t));
        memcpy(out->recv_topk_weights + (size_t)row * slots, meta + 1 + slots,
               slots * sizeof(float));
    }
    rows_fence();
}

int dedup_dispatch(baseline_t *baseline, const void *x, const moxie_dispatch_out_t *out,
                   uint64_t *travel_ns, char *error)
{
    const int by_rank = baseline->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    pack(baseline, x);
    if (rows_go(baseline, baseline->send_rows, by_rank ? out->recv_x : baseline->recv_rows,
                travel_ns, error) != 0) {
        return -1;
    }
    if (by_rank) {
        finish_rank_major(baseline, x, out);
    } else {
        duplicate(baseline, x, out);
    }
    rows_write_counts(baseline, out);
    return 0;
}

int dedup_combine(baseline_t *baseline, const void *y, void *out, uint64_t *travel_ns, char *error)
{
    const int by_rank = baseline->shape.layout == MOXIE_LAYOUT_RANK_MAJOR;
    for (int32_t source = 0; !by_rank && source < baseline->shape.rank_count; source++) {
        if (source != baseline->shape.rank) {
            rows_sum(baseline, baseline->part_start, baseline->part,
                     baseline->travel.recv_start[source], end_of(baseline, source), NULL, y,
                     baseline->recv_rows);
        }
    }
    if (rows_return(baseline, by_rank ? y : baseline->recv_rows, baseline->send_rows, travel_ns,
                    error) != 0) {
        return -1;
    }
    rows_sum(baseline, baseline->home_start, baseline->home, 0, baseline->shape.token_count, y,
             baseline->send_rows, out);
    return 0;
}
