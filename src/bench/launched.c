/* SPDX-License-Identifier: Apache-2.0 */
/* One rank of a launcher's job: meets the others, agrees with them, and knows who speaks. */
#include "bench/launched.h"

#include "bench/progress.h"
#include "bench/run.h"
#include "bench/stopping.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A lost peer may have been ended by whoever is about to end this rank too: then nobody speaks. */
enum { LISTEN_MS = 100 };

/* How long the silent ranks stay, so that the one that speaks is not ended before it has. */
enum { SILENT_MS = 400 };

/* A rank that speaks stays for as long as another might take its silence for its end. */
enum { SPOKEN_MS = 2000 };

/* A rank's word in launched_agree(). */
typedef struct word {
    int32_t exit_code;
    int32_t status;
    char sentence[sizeof(((failure_t *)0)->sentence)];
} word_t;

static void nap_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

static bool create_group(launched_t *launched, moxie_group_options_t *options, failure_t *failure)
{
    stopping_hold();
    launched->is_meeting = options->rank == 0;
    stopping_release();
    bool is_done = moxie_group_create(options, &launched->group) == MOXIE_OK ||
                   failure_from_library(failure, options->rank, "joining the group");
    stopping_hold();
    launched->is_meeting = false; /* the library has removed the socket */
    stopping_release();
    return is_done;
}

bool launched_meet(launched_t *launched, const launcher_t *launcher, const options_t *options,
                   const plan_t *plan, failure_t *failure)
{
    moxie_group_options_t group = MOXIE_GROUP_OPTIONS_INIT;
    *launched = (launched_t){.launcher = *launcher};
    if (!launcher_check_hosts(launcher, failure)) {
        launched->is_agreed = true; /* every rank reads the same in its environment */
        return false;
    }
    launched->pids = calloc((size_t)launcher->rank_count, sizeof(*launched->pids));
    if (launched->pids == NULL) {
        return failure_set(failure, EXIT_USAGE, "not enough memory");
    }
    if (launcher->rank_count > 1 && !meeting_of_job(&launched->meeting, launcher->job, failure)) {
        return false;
    }
    if (plan != NULL) {
        group = plan_group_options(plan, launcher->rank, NULL);
        if (launcher->rank == 0 && plan->has_progress) {
            progress_draw("starting", 0, 1);
        }
    }
    if (plan == NULL) {
        group.backend = "shm"; /* to tell that there is no plan takes no GPU */
    }
    group.rank = launcher->rank;
    group.rank_count = launcher->rank_count;
    group.rendezvous = launcher->rank_count > 1 ? launched->meeting.socket_path : NULL;
    group.timeout_us = options->timeout * 1000000;
    group.first_timeout_us = group.timeout_us; /* a launcher starts all ranks at once */
    int32_t pid = getpid();
    return create_group(launched, &group, failure) &&
           (moxie_group_allgather(launched->group, &pid, sizeof(pid), launched->pids) == MOXIE_OK ||
            failure_from_library(failure, launcher->rank, "meeting"));
}

bool launched_agree(launched_t *launched, failure_t *failure)
{
    size_t rank_count = (size_t)launched->launcher.rank_count;
    word_t *words = calloc(rank_count, sizeof(*words));
    word_t mine = {.exit_code = failure->exit_code, .status = (int32_t)failure->status};
    memcpy(mine.sentence, failure->sentence, sizeof(mine.sentence));
    if (words == NULL) {
        return failure_set(failure, EXIT_USAGE, "not enough memory");
    }
    bool is_known = moxie_group_allgather(launched->group, &mine, sizeof(mine), words) == MOXIE_OK;
    if (!is_known && failure->exit_code == EXIT_DONE) {
        failure_from_library(failure, launched->launcher.rank, "agreeing");
    }
    for (size_t rank = 0; rank < rank_count && is_known && !launched->is_agreed; rank++) {
        if (words[rank].exit_code == EXIT_DONE) {
            continue;
        }
        failure_set(failure, words[rank].exit_code, "%s", words[rank].sentence);
        failure->status = (moxie_status_t)words[rank].status;
        launched->is_agreed = true;
    }
    free(words);
    return failure->exit_code == EXIT_DONE;
}

bool launched_run(launched_t *launched, const plan_t *plan, run_result_t *out, failure_t *failure)
{
    *out = (run_result_t){.record = NULL};
    link_open(&launched->link, launched->group, plan->options->timeout * 1000000, out);
    bool is_done = run_rank(plan, launched->group, &launched->link, failure);
    if (launched->launcher.rank == 0) {
        progress_clear();
    }
    return is_done;
}

static bool is_blamed(const failure_t *failure, int32_t rank)
{
    for (int32_t i = 0; i < failure->peer_count; i++) {
        if (failure->peers[i].rank == rank) {
            return true;
        }
    }
    return false;
}

static bool has_ended(const launched_t *launched, int32_t rank)
{
    return launched->pids != NULL && launched->pids[rank] > 0 &&
           kill(launched->pids[rank], 0) != 0 && errno == ESRCH;
}

/* The lowest rank that is alive and not to blame: the same on every rank that looks in time. */
static bool is_lowest_survivor(const launched_t *launched, const failure_t *failure)
{
    for (int32_t rank = 0; rank < launched->launcher.rank; rank++) {
        if (!is_blamed(failure, rank) && !has_ended(launched, rank)) {
            return false;
        }
    }
    return !is_blamed(failure, launched->launcher.rank);
}

static voice_t choose_voice(const launched_t *launched, const failure_t *failure)
{
    int32_t rank = launched->launcher.rank;
    bool is_of_library = failure->status != MOXIE_OK;
    if (launched->is_agreed) {
        return rank == 0 ? VOICE_ALL : VOICE_NONE;
    }
    if (is_lowest_survivor(launched, failure)) {
        return VOICE_ALL;
    }
    if (launched->group == NULL) {
        /* What rank 0 says of another it has told everyone; of rank 0 itself nobody has told. */
        bool rank_0_tells = failure->peer_count > 0 && !is_blamed(failure, 0);
        return rank_0_tells ? VOICE_NONE : VOICE_ERROR;
    }
    bool is_own = failure->detected_by < 0 || failure->detected_by == rank;
    return failure->exit_code != EXIT_PEER && (!is_of_library || is_own) ? VOICE_ERROR : VOICE_NONE;
}

voice_t launched_voice(launched_t *launched, failure_t *failure)
{
    for (int32_t i = 0; i < failure->peer_count; i++) {
        int32_t rank = failure->peers[i].rank;
        if (rank >= 0 && rank < launched->launcher.rank_count && launched->pids != NULL) {
            failure->peers[i].pid = launched->pids[rank];
        }
    }
    voice_t voice = choose_voice(launched, failure);
    if (failure->exit_code == EXIT_PEER && voice != VOICE_NONE) {
        nap_ms(LISTEN_MS);
    }
    stopping_hold(); /* a rank that speaks ends with its own exit code */
    launched->is_speaker = voice == VOICE_ALL;
    return voice;
}

/* Whether a rank above this one might still look who is there. */
static bool is_watched(const launched_t *launched, const failure_t *failure)
{
    int32_t rank_count = launched->pids == NULL ? 0 : launched->launcher.rank_count;
    for (int32_t rank = launched->launcher.rank + 1; rank < rank_count; rank++) {
        if (launched->pids[rank] > 0 && !is_blamed(failure, rank) && !has_ended(launched, rank)) {
            return true;
        }
    }
    return false;
}

void launched_stay(const launched_t *launched, const failure_t *failure)
{
    enum { STEP_MS = 10 };
    if (failure->exit_code != EXIT_DONE && !launched->is_speaker) {
        nap_ms(SILENT_MS);
    }
    for (int ms = 0; launched->is_speaker && ms < SPOKEN_MS; ms += STEP_MS) {
        if (!is_watched(launched, failure)) {
            break;
        }
        nap_ms(STEP_MS);
    }
}

void launched_leave(launched_t *launched, const failure_t *failure)
{
    launched_stay(launched, failure);
    moxie_group_destroy(launched->group);
    launched->group = NULL;
    free(launched->pids);
    launched->pids = NULL;
}

void launched_clean(launched_t *launched)
{
    if (launched->is_meeting) {
        meeting_close(&launched->meeting);
    }
}
