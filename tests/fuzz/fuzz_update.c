/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages in shared memory: rank 0 of two updates a route while the bytes are what rank 1 posted.
 * Whatever a peer says, the update ends, and a route that comes of it is sound.
 */
#include "core/error.h"
#include "exchange/shm/shm.h"
#include "fuzz/fuzz.h"
#include "transport/shm/transport.h"

enum { RANKS = 2, EXPERTS = 4, TOPK = 2, TOKENS = 3, HIDDEN = 8 };

/* A group of two without processes: the peer's control segment is ours to fill. */
typedef struct pair {
    moxie_group_t group;
    shm_exchange_t shm;
    shm_transport_t transport;
    shm_peer_t peers[RANKS];
    moxie_peer_counters_t peer_counters[RANKS];
    uint64_t times_ns[RANKS];
    shm_control_t *controls[RANKS];
    shm_line_t *lines[RANKS];
} pair_t;

static void open_pair(pair_t *pair)
{
    memset(pair, 0, sizeof(*pair));
    for (int32_t rank = 0; rank < RANKS; rank++) {
        pair->controls[rank] = aligned_alloc(64, sizeof(shm_control_t));
        FUZZ_REQUIRE(pair->controls[rank] != NULL);
        memset(pair->controls[rank], 0, sizeof(shm_control_t));
        pair->peers[rank] = (shm_peer_t){.control = pair->controls[rank], .pid_fd = -1};
        pair->lines[rank] = &pair->controls[rank]->line;
    }
    pair->transport.group_channel = (shm_channel_t){&pair->transport, 0, pair->lines};
    pair->transport.channel = &pair->transport.group_channel;
    pair->transport.rank_count = RANKS;
    pair->transport.timeout_us = pair->transport.first_timeout_us = 1000000;
    pair->transport.account = &pair->group.account;
    pair->transport.counters = &pair->group.counters;
    pair->transport.peers = pair->peers;
    pair->transport.times_ns = pair->times_ns;
    pair->transport.recorder.peers = pair->peer_counters;
    pair->transport.spin_count = 1;
    pair->shm.transport = &pair->transport;
    pair->group.backend = &shm_backend;
    pair->group.rank_count = RANKS;
    pair->group.implementation = &pair->shm;
}

static moxie_status_t update(pair_t *pair, moxie_layout_t layout)
{
    static const int32_t ids[TOKENS * TOPK] = {0, 3, 2, 1, -1, 3};
    moxie_route_options_t options = MOXIE_ROUTE_OPTIONS_INIT;
    options.layout = layout;
    options.expert_count = EXPERTS;
    options.topk = TOPK;
    options.hidden = HIDDEN;
    options.token_count_max = TOKENS;
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS;
    routing.topk_idx = ids;
    moxie_route_t *route = NULL;
    FUZZ_REQUIRE(moxie_route_create(&pair->group, &options, &route) == MOXIE_OK);
    const moxie_status_t status = moxie_route_update(route, &routing, NULL);
    if (status == MOXIE_OK) {
        moxie_route_extent_t extent = MOXIE_ROUTE_EXTENT_INIT;
        FUZZ_REQUIRE(moxie_route_extent(route, &extent) == MOXIE_OK);
        FUZZ_REQUIRE(extent.recv_row_count >= 0 && extent.recv_row_count <= route->row_capacity);
        (void)moxie_layout_check(route); /* a peer may contradict itself: told, not followed */
    }
    moxie_route_destroy(route);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    fuzz_input_t input = {bytes, count};
    pair_t pair;
    open_pair(&pair);
    shm_control_t *peer = pair.controls[1];
    const uint8_t mode = fuzz_take_byte(&input);
    shm_message_t *message = (shm_message_t *)peer->line.banks[1];
    if ((mode & 1) != 0) { /* in step, without an error: only the body is of the fuzzer's making */
        message->kind = SHM_OP_UPDATE;
        message->route_id = 1;
        message->body_bytes = SHM_BODY_BYTES;
        fuzz_take(&input, message->body, SHM_BODY_BYTES);
    } else {
        fuzz_take(&input, message, SHM_MESSAGE_BYTES);
    }
    if ((mode & 2) != 0) { /* the peer has given the group up */
        fuzz_take(&input, &peer->error, sizeof(peer->error));
        atomic_store(&peer->revoked.op, 1);
    }
    atomic_store(&peer->line.posted.op, 1);
    const moxie_status_t status =
        update(&pair, (mode & 4) != 0 ? MOXIE_LAYOUT_EXPERT_MAJOR : MOXIE_LAYOUT_RANK_MAJOR);
    if (status != MOXIE_OK) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        (void)moxie_last_error(&error);
        FUZZ_REQUIRE(memchr(error.message, '\0', sizeof(error.message)) != NULL);
        FUZZ_REQUIRE(memchr(error.op, '\0', sizeof(error.op)) != NULL);
        FUZZ_REQUIRE(memchr(error.phase, '\0', sizeof(error.phase)) != NULL);
    }
    for (int32_t rank = 0; rank < RANKS; rank++) {
        free(pair.controls[rank]);
    }
    return 0;
}
