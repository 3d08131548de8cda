/* SPDX-License-Identifier: Apache-2.0 */
/* Errors compared between ranks. */
#include "conformance/refusal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

moxie_error_t refusal_of(int32_t peer, int64_t token, int32_t slot, int64_t expected,
                         int64_t observed)
{
    moxie_error_t error = MOXIE_ERROR_INIT;
    error.peer = peer;
    error.token = token;
    error.slot = slot;
    error.expected = expected;
    error.observed = observed;
    return error;
}

static bool is_like(const moxie_error_t *got, const moxie_error_t *expected)
{
    return got->peer == expected->peer && got->token == expected->token &&
           got->slot == expected->slot && got->expected == expected->expected &&
           got->observed == expected->observed;
}

bool refusal_is_like(world_rank_t *self, const char *what, const moxie_error_t *expected)
{
    moxie_error_t got = MOXIE_ERROR_INIT;
    (void)moxie_last_error(&got);
    if (is_like(&got, expected)) {
        return true;
    }
    world_fail(self,
               "%s: the error names peer %d token %" PRId64 " slot %d expected %" PRId64
               " observed %" PRId64 ", not peer %d token %" PRId64 " slot %d expected %" PRId64
               " observed %" PRId64 "; %s",
               what, got.peer, got.token, got.slot, got.expected, got.observed, expected->peer,
               expected->token, expected->slot, expected->expected, expected->observed,
               got.message);
    return false;
}

bool refusal_is_shared(world_rank_t *self, moxie_group_t *group, const char *what,
                       moxie_status_t status, moxie_status_t wanted)
{
    moxie_error_t mine = MOXIE_ERROR_INIT;
    const moxie_status_t recorded = moxie_last_error(&mine);
    moxie_error_t *all = calloc((size_t)self->options->rank_count, sizeof(*all));
    if (all == NULL) {
        abort();
    }
    bool good = world_expect(self, what, status, wanted);
    if (good && recorded != status) {
        world_fail(self, "%s: last_error has another status", what);
        good = false;
    }
    good = world_expect(self, "allgather after a refusal",
                        moxie_group_allgather(group, &mine, sizeof(mine), all), MOXIE_OK) &&
           good;
    for (int32_t rank = 0; good && rank < self->options->rank_count; rank++) {
        if (all[rank].status != mine.status || !is_like(&all[rank], &mine) ||
            strcmp(all[rank].message, mine.message) != 0) {
            world_fail(self, "%s: rank %d says \"%s\", this rank \"%s\"", what, rank,
                       all[rank].message, mine.message);
            good = false;
        }
    }
    /* A call that succeeds leaves the last error as it was. */
    if (good && moxie_last_error(&mine) != status) {
        world_fail(self, "%s: a call that succeeded changed the last error", what);
        good = false;
    }
    free(all);
    return good;
}
