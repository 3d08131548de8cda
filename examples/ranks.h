/* SPDX-License-Identifier: Apache-2.0 */
/* What the later examples share: stop on an error, and run a function as several ranks. */
#ifndef EXAMPLES_RANKS_H
#define EXAMPLES_RANKS_H

#include <moxie/moxie.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Ends the process with the library's sentence when a call failed. */
static inline void check(moxie_status_t status)
{
    if (status != MOXIE_OK) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        moxie_last_error(&error);
        fprintf(stderr, "%s: %s\n", moxie_status_name(status), error.message);
        exit(1);
    }
}

/*
 * Forks `rank_count` processes, makes one group of them and calls `run` in each; `run` returns how
 * many of its results were wrong. The exit code of the whole program is returned.
 */
static inline int run_ranks(int rank_count, int (*run)(moxie_group_t *group, int rank))
{
    char folder[] = "/tmp/moxie-XXXXXX", meeting_point[32];
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(meeting_point, sizeof(meeting_point), "%s/group", folder);
    for (int rank = 0; rank < rank_count; rank++) {
        if (fork() != 0)
            continue;
        moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
        options.rank = rank;
        options.rank_count = rank_count;
        options.rendezvous = meeting_point;
        moxie_group_t *group;
        check(moxie_group_create(&options, &group));
        int wrong = run(group, rank);
        moxie_group_destroy(group);
        exit(wrong != 0);
    }
    int failed = 0;
    for (int rank = 0; rank < rank_count; rank++) {
        int status;
        failed += wait(&status) < 0 || status != 0;
    }
    rmdir(folder);
    puts(failed ? "WRONG" : "every result is right");
    return failed != 0;
}

#endif
