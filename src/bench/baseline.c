/* SPDX-License-Identifier: Apache-2.0 */
/* Finds, loads and calls the plug-in with the baselines over MPI. */
#include "bench/baseline.h"

#include "bench/watchdog.h"

#ifdef MOXIE_CUDA
#include "baseline/nccl/nccl.h"
#endif

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN_NAME     "moxie_mpi.so"
#define PLUGIN_PACKAGES "libopenmpi-dev and openmpi-bin"

/* What MPI itself takes in a process: its code, its shared-memory queues. NCCL's buffers are
 * larger.
 */
#define MPI_BYTES  (UINT64_C(64) << 20)
#define NCCL_BYTES (UINT64_C(1) << 30)

/* Numbers beside a row: places, counts, metadata; more than it is. */
#define ROW_NUMBERS_BYTES  64
#define SLOT_NUMBERS_BYTES 64

bool baseline_is_mpi(const options_t *options)
{
    return options->baseline == BASELINE_MPI || options->baseline == BASELINE_MPI_DEDUP;
}

/* Every (token, expert) row travels. */
static bool is_plain(const plan_t *plan)
{
    return plan->options->baseline != BASELINE_MPI_DEDUP;
}

static bool is_nccl(const plan_t *plan)
{
    return plan->options->baseline == BASELINE_NCCL;
}

/* The plug-in lies beside the program as built, or in the library folder as installed. */
static bool find_plugin(char path[PATH_MAX])
{
    static const char *const places[] = {"", MOXIE_PLUGIN_FOLDER "/"};
    char program[PATH_MAX] = "";
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0) {
        return false;
    }
    int folder_length = (int)(strrchr(program, '/') + 1 - program);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int length =
            snprintf(path, PATH_MAX, "%.*s%s%s", folder_length, program, places[i], PLUGIN_NAME);
        if (length < PATH_MAX && access(path, R_OK) == 0) {
            return true;
        }
    }
    return false;
}

bool baseline_check(const plan_t *plan, failure_t *failure)
{
    char path[PATH_MAX];
    char word[OPTION_WHERE_BYTES];
    if (plan->options->baseline == BASELINE_NONE) {
        return true;
    }
    (void)option_word(plan->options, OPTION_BASELINE, word);
    if (plan->is_backward) {
        return failure_set(failure, EXIT_USAGE, "%s: %s has no backward; leave %s out",
                           plan->where[OPTION_BASELINE], word, plan->where[OPTION_DIRECTION]);
    }
    if (is_plain(plan) && plan->layout != MOXIE_LAYOUT_EXPERT_MAJOR) {
        return failure_set(failure, EXIT_USAGE,
                           "%s: %s sends one row for each expert and delivers expert_major only: "
                           "add --layout expert_major%s",
                           plan->where[OPTION_BASELINE], word,
                           is_nccl(plan) ? "" : ", or compare rank_major with mpi-dedup");
    }
    if (is_nccl(plan) && plan->place.has_threads) {
        return failure_set(failure, EXIT_USAGE, "%s: NCCL has no two ranks on one GPU",
                           plan->where[OPTION_BASELINE]);
    }
    return is_nccl(plan) || find_plugin(path) ||
           failure_set(failure, EXIT_UNAVAILABLE,
                       "%s %s: the plug-in %s is not there: install %s and build again",
                       plan->where[OPTION_BASELINE], word, PLUGIN_NAME, PLUGIN_PACKAGES);
}

/* Rows that a rank sends or receives at most, as they travel. */
static int64_t travel_row_max(const plan_t *plan, int32_t rank)
{
    int64_t send = plan_combine_rows(plan, rank, true);
    int64_t recv = plan_dispatch_rows(plan, rank, true);
    if (is_plain(plan)) {
        send = routing_token_count(&plan->routing, rank) * plan->topk;
        recv = plan->recv_row_count[rank];
    }
    return send > recv ? send : recv;
}

uint64_t baseline_bytes(const plan_t *plan, int32_t rank)
{
    if (plan->options->baseline == BASELINE_NONE) {
        return 0;
    }
    uint64_t rows = (uint64_t)travel_row_max(plan, rank);
    uint64_t slots = (uint64_t)(routing_token_count(&plan->routing, rank) +
                                (is_plain(plan) ? 0 : (int64_t)rows)) *
                     (uint64_t)plan->topk;
    return 2 * rows * (uint64_t)plan_row_bytes(plan) + rows * ROW_NUMBERS_BYTES +
           slots * SLOT_NUMBERS_BYTES + (is_nccl(plan) ? NCCL_BYTES : MPI_BYTES);
}

static bool fail(const session_t *session, const char *doing, const char *why, failure_t *failure)
{
    return failure_set(failure, EXIT_FAILED, "rank %d: baseline %s, %s: %s", session->rank,
                       session->baseline.name, doing, why);
}

#ifdef MOXIE_CUDA
static bool load_nccl(session_baseline_t *baseline, failure_t *failure)
{
    char error[BASELINE_ERROR_BYTES] = "";
    baseline->table = nccl_baseline(error);
    return baseline->table != NULL ||
           failure_set(failure, EXIT_UNAVAILABLE, "baseline nccl: %s", error);
}
#else
static bool load_nccl(session_baseline_t *baseline, failure_t *failure)
{
    (void)baseline;
    return failure_set(failure, EXIT_UNAVAILABLE, "this program was built without CUDA");
}
#endif

/* Loads it into this process; no other rank takes part. */
static bool load_plugin(session_baseline_t *baseline, failure_t *failure)
{
    char path[PATH_MAX];
    if (!find_plugin(path)) {
        return failure_set(failure, EXIT_UNAVAILABLE, "the plug-in %s is not there", PLUGIN_NAME);
    }
    /* Global: the library loads parts of its own, which look for its symbols. */
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    const baseline_table_t *table = library == NULL ? NULL : dlsym(library, BASELINE_SYMBOL);
    if (table == NULL) {
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "the plug-in cannot be loaded (install %s): %s", PLUGIN_PACKAGES,
                           dlerror());
    }
    if (table->version != BASELINE_VERSION) {
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "%s is of another version of moxie: build it "
                           "again",
                           path);
    }
    baseline->table = table;
    return true;
}

/* A rank without the plug-in must not leave the others alone in MPI's own start. */
static bool load_everywhere(session_t *session, failure_t *failure)
{
    unsigned char is_loaded = is_nccl(session->plan) ? load_nccl(&session->baseline, failure)
                                                     : load_plugin(&session->baseline, failure);
    unsigned char all[MOXIE_RANK_COUNT_MAX];
    if (moxie_group_allgather(session->group, &is_loaded, 1, all) != MOXIE_OK) {
        return failure_from_library(failure, session->rank, "loading the baseline");
    }
    if (is_loaded && memchr(all, 0, (size_t)session->plan->rank_count) != NULL) {
        return failure_set(failure, EXIT_UNAVAILABLE, "a rank cannot load the baseline");
    }
    return is_loaded;
}

static bool start(session_t *session, failure_t *failure)
{
    char error[BASELINE_ERROR_BYTES] = "";
    /* MPI numbers its ranks itself. */
    int32_t rank = is_nccl(session->plan) ? session->rank : -1;
    int32_t rank_count = is_nccl(session->plan) ? session->plan->rank_count : 0;
    session_baseline_t *baseline = &session->baseline;
    watchdog_arm(session, "start", plan_group_options(session->plan, 0, NULL).first_timeout_us);
    int status = baseline->table->start(&rank, &rank_count, baseline->library,
                                        sizeof(baseline->library), error);
    watchdog_disarm();
    if (status != 0) {
        return fail(session, "start", error, failure);
    }
    if (rank != session->rank || rank_count != session->plan->rank_count) {
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "rank %d of %d is rank %d of %d for MPI: start the ranks with mpirun",
                           session->rank, session->plan->rank_count, rank, rank_count);
    }
    return true;
}

static int64_t stream_min_bytes(const session_t *session)
{
    moxie_knob_info_t knob = MOXIE_KNOB_INFO_INIT;
    for (size_t i = 0; moxie_group_knob(session->group, i, &knob) == MOXIE_OK; i++) {
        if (strcmp(knob.name, "stream_min_bytes") == 0) {
            return knob.value;
        }
    }
    return 0;
}

static bool open_exchange(session_t *session, failure_t *failure)
{
    const plan_t *plan = session->plan;
    session_baseline_t *baseline = &session->baseline;
    char error[BASELINE_ERROR_BYTES] = "";
    baseline->experts = calloc((size_t)plan->expert_count * 2, sizeof(*baseline->experts));
    if (baseline->experts == NULL) {
        return fail(session, "opening", "not enough memory", failure);
    }
    for (int32_t expert = 0; expert < plan->expert_count; expert++) {
        baseline->experts[expert] = moxie_placement_rank(plan->placement, expert);
        baseline->experts[plan->expert_count + expert] =
            moxie_placement_local(plan->placement, expert);
    }
    baseline_shape_t shape = {
        .kind = is_plain(plan) ? BASELINE_KIND_PLAIN : BASELINE_KIND_DEDUP,
        .layout = plan->layout,
        .rank = session->rank,
        .rank_count = plan->rank_count,
        .expert_count = plan->expert_count,
        .topk = plan->topk,
        .hidden = plan->hidden,
        .token_count = routing_token_count(&plan->routing, session->rank),
        .travel_row_max = travel_row_max(plan, session->rank),
        .stream_min_bytes = stream_min_bytes(session),
        .rank_of_expert = baseline->experts,
        .local_of_expert = baseline->experts + plan->expert_count,
        .stream = session->device->stream,
        .group = session->group,
    };
    return baseline->table->open(&shape, &baseline->state, error) == 0 ||
           fail(session, "opening", error, failure);
}

bool baseline_join(session_t *session, failure_t *failure)
{
    const options_t *options = session->plan->options;
    if (options->baseline == BASELINE_NONE) {
        return true;
    }
    (void)option_word(options, OPTION_BASELINE, session->baseline.name);
    return load_everywhere(session, failure) && start(session, failure) &&
           open_exchange(session, failure);
}

bool baseline_update_route(const session_t *session, failure_t *failure)
{
    const session_baseline_t *baseline = &session->baseline;
    char error[BASELINE_ERROR_BYTES] = "";
    moxie_routing_t routing = buffers_routing(&session->buffers);
    watchdog_arm(session, "route", session->plan->options->timeout * 1000000);
    int status =
        baseline->table->route(baseline->state, routing.topk_idx, routing.topk_weights, error);
    watchdog_disarm();
    return status == 0 || fail(session, "route", error, failure);
}

bool baseline_call(const session_t *session, slot_t slot, int64_t turn, uint64_t *travel_ns,
                   failure_t *failure)
{
    const session_baseline_t *baseline = &session->baseline;
    const buffers_t *buffers = &session->buffers;
    char error[BASELINE_ERROR_BYTES] = "";
    int status = 0;
    watchdog_arm(session, session_slot_name(session, slot),
                 session->plan->options->timeout * 1000000);
    if (slot == SLOT_DISPATCH) {
        moxie_dispatch_out_t out = buffers_dispatch_out(buffers);
        status = baseline->table->dispatch(baseline->state,
                                           buffers_home(buffers, session_home_set(session, turn)),
                                           &out, travel_ns, error);
    } else {
        status = baseline->table->combine(
            baseline->state, buffers_expert(buffers, session_expert_set(session, turn)),
            buffers_out(buffers), travel_ns, error);
    }
    watchdog_disarm();
    return status == 0 || fail(session, session_slot_name(session, slot), error, failure);
}

void baseline_leave(session_t *session, bool is_done)
{
    session_baseline_t *baseline = &session->baseline;
    if (baseline->state != NULL) {
        baseline->table->close(baseline->state);
    }
    if (is_done && baseline->table != NULL) {
        watchdog_arm(session, "end", session->plan->options->timeout * 1000000);
        baseline->table->stop();
        watchdog_disarm();
    }
    free(baseline->experts);
    *baseline = (session_baseline_t){.name = ""};
}
