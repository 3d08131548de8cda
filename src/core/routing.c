/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of one rank's routing. */
#include "core/routing.h"

#include "core/error.h"

#include <inttypes.h>

/* -1: never seen. A token that meets its own number again has the expert twice. */
static void forget_tokens(int64_t *last_token, int32_t expert_count)
{
    for (int32_t expert = 0; expert < expert_count; expert++) {
        last_token[expert] = -1;
    }
}

static moxie_status_t refuse(const route_shape_t *shape, int64_t token, int32_t slot, int64_t id,
                             const char *why)
{
    error_set(MOXIE_ERR_ROUTING,
              "rank %d, token %" PRId64 ", slot %d: expert %" PRId64 " %s (%d experts)",
              shape->rank, token, slot, id, why, shape->expert_count);
    moxie_error_t *detail = error_detail();
    detail->rank = shape->rank;
    detail->peer = shape->rank;
    detail->token = token;
    detail->slot = slot;
    detail->observed = id;
    return MOXIE_ERR_ROUTING;
}

static int64_t read_id(const moxie_routing_t *routing, int64_t index)
{
    if (routing->index_type == MOXIE_INDEX_INT64) {
        return ((const int64_t *)routing->topk_idx)[index];
    }
    return ((const int32_t *)routing->topk_idx)[index];
}

moxie_status_t routing_check(const route_shape_t *shape, const moxie_routing_t *routing)
{
    if (routing->token_count < 0 || routing->token_count > shape->token_count_max) {
        error_set(MOXIE_ERR_ARGUMENT,
                  "rank %d: routing.token_count is %" PRId64 ", allowed are 0 to %" PRId64,
                  shape->rank, routing->token_count, shape->token_count_max);
        error_detail()->peer = shape->rank;
        error_detail()->expected = shape->token_count_max;
        error_detail()->observed = routing->token_count;
        return MOXIE_ERR_ARGUMENT;
    }
    if (routing->index_type != MOXIE_INDEX_INT32 && routing->index_type != MOXIE_INDEX_INT64) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: routing.index_type %d is no index type",
                         shape->rank, (int)routing->index_type);
    }
    if (routing->topk_idx == NULL && routing->token_count > 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank %d: routing.topk_idx is NULL", shape->rank);
    }
    return MOXIE_OK;
}

moxie_status_t routing_read(const route_shape_t *shape, const moxie_routing_t *routing,
                            int32_t *experts, int64_t *last_token)
{
    const moxie_status_t status = routing_check(shape, routing);
    if (status != MOXIE_OK) {
        return status;
    }
    forget_tokens(last_token, shape->expert_count);
    int64_t index = 0;
    for (int64_t token = 0; token < routing->token_count; token++) {
        for (int32_t slot = 0; slot < shape->topk; slot++, index++) {
            const int64_t id = read_id(routing, index);
            if (id < -1 || id >= shape->expert_count) {
                return refuse(shape, token, slot, id, "does not exist");
            }
            if (id >= 0 && last_token[id] == token) {
                return refuse(shape, token, slot, id, "is there twice");
            }
            if (id >= 0) {
                last_token[id] = token;
            }
            experts[index] = (int32_t)id;
        }
    }
    return MOXIE_OK;
}
