/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This process as one rank of a launcher's job. Nobody watches it but its peers: what one rank
 * finds wrong is agreed on by all, and one of them speaks.
 */
#ifndef MOXIE_BENCH_LAUNCHED_H
#define MOXIE_BENCH_LAUNCHED_H

#include "bench/launcher.h"
#include "bench/link.h"
#include "bench/meeting.h"
#include "bench/plan.h"

typedef struct launched {
    launcher_t launcher;
    meeting_t meeting;
    moxie_group_t *group; /* NULL: the ranks have not met */
    link_t link;
    int32_t *pids;   /* [rank_count] processes of the ranks, once they have met */
    bool is_meeting; /* the socket is there, or may be */
    bool is_agreed;  /* the failure is everyone's */
    bool is_speaker; /* this rank tells of the failure */
} launched_t;

/*
 * Meets the other ranks, within options->timeout seconds. A rank without a plan, because it refuses
 * its options or what they ask for, meets them all the same: to tell them.
 */
bool launched_meet(launched_t *launched, const launcher_t *launcher, const options_t *options,
                   const plan_t *plan, failure_t *failure);

/*
 * Collective: when any rank has a failure, every rank gets that of the lowest. `failure` with exit
 * code 0 says that this rank has none. Returns whether nobody has one.
 */
bool launched_agree(launched_t *launched, failure_t *failure);

/* Runs a plan in the group that has met. Rank 0 gets the result. */
bool launched_run(launched_t *launched, const plan_t *plan, run_result_t *out, failure_t *failure);

/* Who tells of a failure. */
typedef enum voice {
    VOICE_NONE,  /* another rank does */
    VOICE_ERROR, /* this rank too, on standard error: it may be the only one that knows */
    VOICE_ALL    /* this rank, and a program that reads standard output hears of it too */
} voice_t;
voice_t launched_voice(launched_t *launched, failure_t *failure);

/* After a failure: stays until who speaks has spoken. Part of launched_leave(). */
void launched_stay(const launched_t *launched, const failure_t *failure);

/* Leaves the group. After a failure a rank stays until who speaks has spoken: launchers end all
 * ranks as soon as one has ended badly. */
void launched_leave(launched_t *launched, const failure_t *failure);

/* Removes what a rank has in the file system while the ranks meet. For stop signals. */
void launched_clean(launched_t *launched);

#endif
