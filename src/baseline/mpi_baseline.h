/* SPDX-License-Identifier: Apache-2.0 */
/* What both exchanges over MPI share: rows that travel, their order, and the sums at home. */
#ifndef MOXIE_BASELINE_MPI_H
#define MOXIE_BASELINE_MPI_H

#include "baseline/baseline.h"
#include "exchange/shm/rows.h"

#include <mpi.h>

/* Rows that travel in one MPI_Alltoallv, in one direction; the other direction is its mirror. */
typedef struct travel {
    int *send_count; /* [rank_count] rows */
    int *send_start;
    int *recv_count;
    int *recv_start;
    int64_t send_total; /* rows, own ones included */
    int64_t recv_total;
} travel_t;

/* A row of a sum, or one that a row is copied to. */
typedef struct term {
    int64_t place;
    float weight;
    int32_t slot;   /* of the token that it belongs to; -1: a partial */
    int32_t is_end; /* the last one of its rank */
    int32_t is_own; /* the place is in this rank's own rows, not in those that travelled */
} term_t;

/* dedup: a rank that a token goes to. */
typedef struct hop {
    int64_t place; /* in sending order */
    int32_t rank;
} hop_t;

struct baseline {
    baseline_shape_t shape;
    const rows_kernels_t *kernels;
    size_t row_bytes;
    int32_t local_count;     /* experts of this rank */
    int32_t *position_start; /* [rank_count + 1] experts of each rank, in (rank, local) order */
    int32_t *position_of;    /* [expert_count] an expert's place in that order */
    MPI_Datatype row_type;   /* a row, so that counts stay small */
    MPI_Datatype meta_type;  /* what travels beside a row, once a route */
    size_t meta_bytes;
    travel_t travel;
    char *send_rows; /* [travel_row_max] */
    char *recv_rows; /* [travel_row_max] */
    char *send_meta; /* [travel_row_max] */
    char *recv_meta; /* [travel_row_max] */
    /* the home side */
    int64_t *home_start; /* [token_count + 1] */
    term_t *home;        /* [token_count * topk] what each token sums, ascending by (rank, slot) */
    int64_t *hop_start;  /* dedup: [token_count + 1] */
    hop_t *hop;          /* dedup: [token_count * topk] ascending by rank */
    /* the experts' side */
    int64_t *expert_count; /* [local_count] */
    int64_t *expert_start; /* [local_count + 1] */
    int64_t *source_count; /* plain: [rank_count, local_count] rows of each source and expert */
    int64_t *part_start;   /* dedup: [travel_row_max + 1] the rows made of each received one */
    term_t *part;          /* dedup: [travel_row_max * topk] */
};

/* The two exchanges, as the table's calls. */
int plain_open(baseline_t *baseline, char *error);
int plain_route(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights,
                char *error);
int plain_dispatch(baseline_t *baseline, const void *x, const moxie_dispatch_out_t *out,
                   uint64_t *travel_ns, char *error);
int plain_combine(baseline_t *baseline, const void *y, void *out, uint64_t *travel_ns, char *error);
int dedup_open(baseline_t *baseline, char *error);
int dedup_route(baseline_t *baseline, const int32_t *topk_idx, const float *topk_weights,
                char *error);
int dedup_dispatch(baseline_t *baseline, const void *x, const moxie_dispatch_out_t *out,
                   uint64_t *travel_ns, char *error);
int dedup_combine(baseline_t *baseline, const void *y, void *out, uint64_t *travel_ns, char *error);

/* Writes a sentence and returns -1. */
int rows_fail(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* 0, or -1 with what MPI says of its result. */
int rows_check(int mpi_result, const char *what, char *error);

/* An array that is never of size 0. */
void *rows_array(int64_t count, size_t element_bytes);

/* Starts of both sides from their counts; refuses more rows than there is room for. */
int rows_prepare(baseline_t *baseline, char *error);

/* Sends the metadata of all rows, once a route. */
int rows_send_meta(baseline_t *baseline, char *error);

/* Sends the payload: from the home side to the experts', or back. */
int rows_go(baseline_t *baseline, const void *send, void *recv, uint64_t *travel_ns, char *error);
int rows_return(baseline_t *baseline, const void *send, void *recv, uint64_t *travel_ns,
                char *error);

/* Copies rows, past the caches when `is_streamed`; rows_fence() afterwards. */
void rows_copy(const baseline_t *baseline, int is_streamed, void *to, const void *from,
               int64_t row_count);

/* Whether so many rows are written past the caches. */
int rows_are_streamed(const baseline_t *baseline, int64_t row_count);

/*
 * out[i] = sum of the terms [start[i], start[i + 1]), for every i in [first, last); a term's row is
 * in `own` where it says so, in `travelled` otherwise.
 */
void rows_sum(const baseline_t *baseline, const int64_t *start, const term_t *terms, int64_t first,
              int64_t last, const char *own, const char *travelled, char *out);

/* The copies of counts and starts that dispatch delivers. */
void rows_write_counts(const baseline_t *baseline, const moxie_dispatch_out_t *out);

#endif
