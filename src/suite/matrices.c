/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what the routing of a plan sends. */
#include "suite/matrices.h"

#include "suite/tree.h"

#include <inttypes.h>
#include <stdlib.h>

/* Tokens of a rank that go to each expert, added to `count`. */
static void count_tokens(const plan_t *plan, int32_t rank, int64_t *count)
{
    const routing_set_t *routing = &plan->routing;
    for (int64_t slot = routing->token_start[rank] * routing->topk;
         slot < routing->token_start[rank + 1] * routing->topk; slot++)
        if (routing->topk_idx[slot] >= 0)
            count[routing->topk_idx[slot]]++;
}

static bool write_tokens(const plan_t *plan, FILE *out)
{
    int64_t *count = malloc((size_t)plan->expert_count * sizeof(*count));
    for (int32_t rank = 0; rank < plan->rank_count && count != NULL; rank++) {
        for (int32_t expert = 0; expert < plan->expert_count; expert++)
            count[expert] = 0;
        count_tokens(plan, rank, count);
        for (int32_t expert = 0; expert < plan->expert_count; expert++)
            (void)fprintf(out, "%s%" PRId64, expert == 0 ? "" : " ", count[expert]);
        (void)fputc('\n', out);
    }
    free(count);
    return count != NULL;
}

static int64_t rows_between(const plan_t *plan, int32_t from, int32_t to)
{
    return plan->rows_to_peer[(int64_t)from * plan->rank_count + to];
}

static void write_kib(const plan_t *plan, FILE *out)
{
    for (int32_t i = 0; i < plan->rank_count * plan->rank_count; i++) {
        int32_t to = i % plan->rank_count;
        int64_t rows = rows_between(plan, i / plan->rank_count, to);
        (void)fprintf(out, "%.10g%c", (double)(rows * plan_row_bytes(plan)) / 1024.0,
                      to + 1 == plan->rank_count ? '\n' : ' ');
    }
}

static void write_whole(const plan_t *plan, int64_t unit, char between, FILE *out)
{
    for (int32_t i = 0; i < plan->rank_count * plan->rank_count; i++) {
        int32_t to = i % plan->rank_count;
        int64_t rows = rows_between(plan, i / plan->rank_count, to);
        bool is_last = i + 1 == plan->rank_count * plan->rank_count;
        (void)fprintf(out, "%" PRId64, rows * unit);
        if (between == ' ' || !is_last)
            (void)fputc(between == ' ' && to + 1 == plan->rank_count ? '\n' : between, out);
    }
}

typedef enum matrix { MATRIX_TOKENS, MATRIX_KIB, MATRIX_NCCL, MATRIX_UCC, MATRIX_COUNT } matrix_t;

bool matrices_write(const plan_t *plan, const char *folder, failure_t *failure)
{
    static const char *const names[MATRIX_COUNT] = {
        [MATRIX_TOKENS] = "token_matrix.txt",
        [MATRIX_KIB] = "token_matrix_kb.txt",
        [MATRIX_NCCL] = "nccl_matrix.txt",
        [MATRIX_UCC] = "ucc_matrix.txt",
    };
    bool is_written = true;
    for (int i = 0; i < MATRIX_COUNT && is_written; i++) {
        FILE *out = tree_open(folder, names[i], failure);
        if (out == NULL)
            return false;
        if (i == MATRIX_TOKENS && !write_tokens(plan, out))
            failure_set(failure, EXIT_FAILED, "not enough memory for %s", names[i]);
        if (i == MATRIX_KIB)
            write_kib(plan, out);
        if (i == MATRIX_NCCL)
            write_whole(plan, plan_row_bytes(plan), ' ', out);
        if (i == MATRIX_UCC) {
            (void)fputs("[collective]\ntype = ALLTOALLV\ncounts = {", out);
            write_whole(plan, plan->hidden, ',', out);
            (void)fputs("}\n", out);
        }
        is_written = tree_close(out, folder, names[i], failure);
    }
    return is_written && failure->exit_code == EXIT_DONE;
}

json_t *matrices_json(const plan_t *plan)
{
    json_t *rows = json_array();
    json_t *tokens = json_array();
    int64_t *count = calloc((size_t)plan->expert_count, sizeof(*count));
    for (int32_t from = 0; from < plan->rank_count; from++) {
        json_t *row = json_array();
        for (int32_t to = 0; to < plan->rank_count; to++)
            json_array_append_new(row, json_integer(rows_between(plan, from, to)));
        json_array_append_new(rows, row);
        if (count != NULL)
            count_tokens(plan, from, count);
    }
    for (int32_t expert = 0; expert < plan->expert_count && count != NULL; expert++)
        json_array_append_new(tokens, json_integer(count[expert]));
    free(count);
    return json_pack("{s:o,s:o,s:I}", "rows_to_rank", rows, "tokens_of_expert", tokens, "row_bytes",
                     (json_int_t)plan_row_bytes(plan));
}
