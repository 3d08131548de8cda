/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of 0.1: it knows the library only by the headers of then (moxie_0_1.h). Two ranks make
 * an exchange there and back, every function of 0.1 is linked, and what the library fills ends
 * where the structs of 0.1 end. It is built anew with every compiler, and run against today's
 * library.
 */
#include "abi/moxie_0_1.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 2, TOKENS = 3, HIDDEN = 4, EXPERTS = 4, TOPK = 2, ROWS = RANKS * TOKENS };

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            moxie_error_t error_ = MOXIE_ERROR_INIT;                                               \
            (void)moxie_last_error(&error_);                                                       \
            fprintf(stderr, "line %d: not so: %s (%s)\n", __LINE__, #condition, error_.message);   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A struct that the library fills, and what lies behind it. */
#define GUARDED(type)                                                                              \
    struct {                                                                                       \
        type value;                                                                                \
        unsigned char behind[64];                                                                  \
    }
#define GUARD(guarded, initialiser)                                                                \
    do {                                                                                           \
        memset(&(guarded), 0xA5, sizeof(guarded));                                                 \
        (guarded).value = initialiser;                                                             \
    } while (0)
#define REQUIRE_GUARDED(guarded)                                                                   \
    do {                                                                                           \
        for (size_t byte = 0; byte < sizeof((guarded).behind); byte++) {                           \
            REQUIRE((guarded).behind[byte] == 0xA5);                                               \
        }                                                                                          \
    } while (0)

typedef void (*function_t)(void);
#define FUNCTION(name) (function_t)(name)

/* Every function of 0.1: none may be gone. Linked at start, because the program is linked so. */
static const function_t functions[] = {
    FUNCTION(moxie_backend_count),
    FUNCTION(moxie_backend_probe),
    FUNCTION(moxie_bf16_from_float),
    FUNCTION(moxie_bf16_to_float),
    FUNCTION(moxie_ceiling_measure),
    FUNCTION(moxie_combine),
    FUNCTION(moxie_combine_backward),
    FUNCTION(moxie_dispatch),
    FUNCTION(moxie_dispatch_backward),
    FUNCTION(moxie_dtype_bytes),
    FUNCTION(moxie_dtype_name),
    FUNCTION(moxie_group_allgather),
    FUNCTION(moxie_group_backend),
    FUNCTION(moxie_group_barrier),
    FUNCTION(moxie_group_counters),
    FUNCTION(moxie_group_create),
    FUNCTION(moxie_group_destroy),
    FUNCTION(moxie_group_dump),
    FUNCTION(moxie_group_knob),
    FUNCTION(moxie_group_memory_quote),
    FUNCTION(moxie_group_memory_used),
    FUNCTION(moxie_group_peer_counters),
    FUNCTION(moxie_group_rank),
    FUNCTION(moxie_group_rank_count),
    FUNCTION(moxie_last_error),
    FUNCTION(moxie_layout_check),
    FUNCTION(moxie_memory_available),
    FUNCTION(moxie_placement_create_block),
    FUNCTION(moxie_placement_create_map),
    FUNCTION(moxie_placement_destroy),
    FUNCTION(moxie_placement_expert),
    FUNCTION(moxie_placement_expert_count),
    FUNCTION(moxie_placement_local),
    FUNCTION(moxie_placement_local_count),
    FUNCTION(moxie_placement_rank),
    FUNCTION(moxie_placement_rank_count),
    FUNCTION(moxie_reference_check),
    FUNCTION(moxie_reference_combine),
    FUNCTION(moxie_reference_combine_backward),
    FUNCTION(moxie_reference_dispatch),
    FUNCTION(moxie_reference_dispatch_backward),
    FUNCTION(moxie_reference_recv_rows),
    FUNCTION(moxie_route_create),
    FUNCTION(moxie_route_destroy),
    FUNCTION(moxie_route_extent),
    FUNCTION(moxie_route_memory_quote),
    FUNCTION(moxie_route_status),
    FUNCTION(moxie_route_update),
    FUNCTION(moxie_status_name),
    FUNCTION(moxie_status_text),
    FUNCTION(moxie_window_allocate),
    FUNCTION(moxie_window_base),
    FUNCTION(moxie_window_bytes),
    FUNCTION(moxie_window_free),
    FUNCTION(moxie_window_memory_quote),
    FUNCTION(moxie_window_register),
};

typedef struct shared { /* a window's memory */
    float rows[ROWS][HIDDEN];
    int32_t expert[ROWS][TOPK];
} shared_t;

static moxie_group_t *open_group(int32_t rank, const char *socket)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank = rank;
    options.rank_count = RANKS;
    options.backend = "shm";
    options.rendezvous = socket;
    moxie_group_t *group = NULL;
    REQUIRE(moxie_group_create(&options, &group) == MOXIE_OK);
    REQUIRE(moxie_group_rank(group) == rank && moxie_group_rank_count(group) == RANKS);
    return group;
}

/* What a group tells of itself, in structs of 0.1. */
static void read_figures(const moxie_group_t *group)
{
    GUARDED(moxie_group_counters_t) counters;
    GUARD(counters, (moxie_group_counters_t)MOXIE_GROUP_COUNTERS_INIT);
    REQUIRE(moxie_group_counters(group, &counters.value) == MOXIE_OK);
    REQUIRE(counters.value.op_count > 0);
    REQUIRE_GUARDED(counters);
    GUARDED(moxie_peer_counters_t) peer;
    GUARD(peer, (moxie_peer_counters_t)MOXIE_PEER_COUNTERS_INIT);
    REQUIRE(moxie_group_peer_counters(group, 1, &peer.value) == MOXIE_OK);
    REQUIRE(moxie_group_peer_counters(group, RANKS, &peer.value) == MOXIE_ERR_ARGUMENT);
    REQUIRE_GUARDED(peer);
    GUARDED(moxie_error_t) error;
    GUARD(error, (moxie_error_t)MOXIE_ERROR_INIT);
    REQUIRE(moxie_last_error(&error.value) == MOXIE_ERR_ARGUMENT);
    REQUIRE(error.value.message[0] != '\0');
    REQUIRE_GUARDED(error);
    GUARDED(moxie_knob_info_t) knob;
    GUARD(knob, (moxie_knob_info_t)MOXIE_KNOB_INFO_INIT);
    REQUIRE(moxie_group_knob(group, 0, &knob.value) == MOXIE_OK);
    REQUIRE(knob.value.name[0] != '\0');
    REQUIRE_GUARDED(knob);
    GUARDED(moxie_memory_bytes_t) memory;
    GUARD(memory, (moxie_memory_bytes_t)MOXIE_MEMORY_BYTES_INIT);
    REQUIRE(moxie_group_memory_used(group, &memory.value) == MOXIE_OK);
    REQUIRE(memory.value.host_bytes > 0);
    REQUIRE_GUARDED(memory);
    GUARDED(moxie_backend_info_t) backend;
    GUARD(backend, (moxie_backend_info_t)MOXIE_BACKEND_INFO_INIT);
    REQUIRE(moxie_backend_probe(0, &backend.value) == MOXIE_OK);
    REQUIRE(strcmp(backend.value.name, "shm") == 0);
    REQUIRE_GUARDED(backend);
}

/* Token t goes to experts t and t + 1, of which each rank has two; an expert e multiplies by e + 1.
 */
static void exchange(moxie_group_t *group, moxie_route_t *route, shared_t *shared)
{
    const int32_t rank = moxie_group_rank(group);
    float x[TOKENS][HIDDEN], out[TOKENS][HIDDEN];
    int32_t expert[TOKENS][TOPK];
    for (int32_t t = 0; t < TOKENS; t++) {
        for (int32_t h = 0; h < HIDDEN; h++) {
            x[t][h] = (float)(100 * rank + 10 * t + h);
        }
        expert[t][0] = t;
        expert[t][1] = t + 1;
    }
    moxie_routing_t routing = MOXIE_ROUTING_INIT;
    routing.token_count = TOKENS;
    routing.topk_idx = expert;
    REQUIRE(moxie_route_update(route, &routing, NULL) == MOXIE_OK);
    moxie_dispatch_in_t send = {.size = sizeof(send), .x = x, .dtype = MOXIE_DTYPE_FP32};
    moxie_dispatch_out_t receive = MOXIE_DISPATCH_OUT_INIT;
    receive.row_capacity = ROWS;
    receive.recv_x = shared->rows;
    receive.recv_topk_idx = shared->expert[0];
    REQUIRE(moxie_dispatch(route, &send, &receive, NULL) == MOXIE_OK);
    GUARDED(moxie_route_extent_t) extent;
    GUARD(extent, (moxie_route_extent_t)MOXIE_ROUTE_EXTENT_INIT);
    REQUIRE(moxie_route_extent(route, &extent.value) == MOXIE_OK);
    REQUIRE_GUARDED(extent);
    for (int64_t row = 0; row < extent.value.recv_row_count; row++) {
        int32_t factor = 0;
        for (int32_t k = 0; k < TOPK; k++) {
            const int32_t local = shared->expert[row][k];
            factor += local < 0 ? 0 : 2 * rank + local + 1;
        }
        for (int32_t h = 0; h < HIDDEN; h++) {
            shared->rows[row][h] *= (float)factor;
        }
    }
    moxie_combine_in_t give = MOXIE_COMBINE_IN_INIT;
    give.y = shared->rows;
    give.dtype = give.wire_dtype = MOXIE_DTYPE_FP32;
    moxie_combine_out_t get = {.size = sizeof(get), .out = out, .dtype = MOXIE_DTYPE_FP32};
    REQUIRE(moxie_combine(route, &give, &get, NULL) == MOXIE_OK);
    for (int32_t t = 0; t < TOKENS; t++) {
        for (int32_t h = 0; h < HIDDEN; h++) {
            REQUIRE(out[t][h] == x[t][h] * (float)(2 * t + 3));
        }
    }
}

static void run_rank(int32_t rank, const char *socket)
{
    moxie_group_t *group = open_group(rank, socket);
    moxie_window_t *window = NULL;
    moxie_route_t *route = NULL;
    REQUIRE(moxie_window_allocate(group, sizeof(shared_t), &window) == MOXIE_OK);
    moxie_route_options_t shape = MOXIE_ROUTE_OPTIONS_INIT;
    shape.expert_count = EXPERTS;
    shape.topk = TOPK;
    shape.hidden = HIDDEN;
    shape.token_count_max = TOKENS;
    REQUIRE(moxie_route_create(group, &shape, &route) == MOXIE_OK);
    exchange(group, route, moxie_window_base(window));
    read_figures(group);
    moxie_route_destroy(route);
    moxie_window_free(window);
    moxie_group_destroy(group);
    exit(0);
}

int main(void)
{
    char folder[] = "/tmp/moxie-test-XXXXXX";
    char socket[sizeof(folder) + 8];
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        REQUIRE(functions[i] != NULL);
    }
    REQUIRE(mkdtemp(folder) != NULL);
    (void)snprintf(socket, sizeof(socket), "%s/s", folder);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        const pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            run_rank(rank, socket);
        }
    }
    int failed_count = 0;
    for (int32_t rank = 0; rank < RANKS; rank++) {
        int status = 0;
        failed_count += wait(&status) < 0 || status != 0;
    }
    REQUIRE(rmdir(folder) == 0);
    return failed_count;
}
