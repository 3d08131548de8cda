/* SPDX-License-Identifier: Apache-2.0 */
/* One rank of a case: calls step by step, until a call fails, and then leaves. */
#ifndef FAULT_FAULT_RANK_H
#define FAULT_FAULT_RANK_H

#include "fault/fault_case.h"

/* Deadlines of a case. The one that a case is about is short, the others give a busy machine time.
 */
typedef struct fault_deadlines {
    int64_t first_us;
    int64_t each_us;
} fault_deadlines_t;

fault_deadlines_t fault_deadlines(const fault_case_t *which);

/* What a rank saw. */
typedef struct fault_result {
    bool is_done;          /* it got to its end */
    fault_step_t step;     /* where a call failed */
    moxie_error_t error;   /* and how; status MOXIE_OK: no call failed */
    int64_t took_us;       /* how long that call took */
    int64_t destroy_us;    /* and leaving the group */
    int32_t fd_leak_count; /* descriptors that were not there before */
} fault_result_t;

/* Plays a rank; the culprit of an absence waits forever at its step. */
void fault_rank_play(const fault_case_t *which, int32_t rank, const char *socket,
                     fault_result_t *result);

#endif
