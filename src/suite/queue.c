/* SPDX-License-Identifier: Apache-2.0 */
/* Submits jobs, follows them and, when somebody wishes to stop, cancels them. */
#include "suite/queue.h"

#include "bench/link.h"
#include "bench/stopping.h"
#include "suite/batch.h"
#include "suite/batch_script.h"
#include "suite/environment.h"
#include "suite/question.h"
#include "suite/system.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Seconds between two looks at the queue: few in the beginning, twice as many after each look in
 * which nothing had happened, and so many when the system does not say. */
enum { INTERVAL_MIN_S = 1, INTERVAL_MAX_S = 60 };

/* Slurm forgets a job some minutes after its end. */
enum { INTERVAL_LIMIT_S = 120 };

/* Slurm may be silent so long, as while its controller is started again. */
enum { SILENCE_MAX_S = 900 };

/* Jobs that were cancelled may take so long to end. */
enum { CANCEL_MAX_S = 120 };

/* A run and its job. */
typedef struct queued {
    const job_t *job;
    batch_end_t end;
    char why_never[1024];
    char told[192]; /* the last that was said of it */
    bool is_over;
} queued_t;

typedef struct queue {
    const suite_session_t *session;
    queued_t *list;
    int32_t count;
    queue_keep_t keep;
    void *ctx;
    int64_t heard_ms; /* when Slurm said something last */
    bool has_changed; /* since the last look */
    int signal;       /* that ended the suite, or 0 */
} queue_t;

/* One line when something has changed. */
static void tell(queue_t *queue, queued_t *queued, const char *what)
{
    if (strcmp(queued->told, what) == 0)
        return;
    (void)snprintf(queued->told, sizeof(queued->told), "%s", what);
    (void)fprintf(stderr, "%s: job %" PRId64 " %s\n", queued->job->folder, queued->end.id, what);
    queue->has_changed = true;
}

static bool conclude(queue_t *queue, queued_t *queued, failure_t *failure)
{
    json_t *record = NULL;
    queued->is_over = true;
    queue->has_changed = true;
    bool is_kept = batch_conclude(queue->session, queued->job, &queued->end, &record, failure) &&
                   queue->keep(queue->ctx, record, failure);
    json_decref(record);
    return is_kept;
}

/* Adds "afterany:ID" to what a job waits for. */
static void add_dependency(FILE *out, const char *type, int64_t id)
{
    if (id != 0)
        (void)fprintf(out, "%s%s:%" PRId64, ftell(out) == 0 ? "" : ",", type, id);
}

/* The first or the last job of a test that Slurm took, or 0. */
static int64_t find_id(const queue_t *queue, const entry_t *entry, bool is_last)
{
    int64_t id = 0;
    for (int32_t i = 0; i < queue->count && (id == 0 || is_last); i++)
        if (queue->list[i].job->entry == entry && queue->list[i].end.id != 0)
            id = queue->list[i].end.id;
    return id;
}

/* What sbatch is told: the runs of a test are one behind the other, and all of them where the
 * scenario puts the test. The caller's; NULL: no memory. */
static char *list_dependencies(const queue_t *queue, const queued_t *queued)
{
    char *text = NULL;
    size_t bytes = 0;
    const entry_t *entry = queued->job->entry;
    const entry_t *entries = queue->session->scenario.entries;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return NULL;
    add_dependency(out, "afterany", find_id(queue, entry, true));
    for (int32_t i = 0; i < entry->dependency_count; i++) {
        const entry_t *other = &entries[entry->dependencies[i].on];
        if (entry->dependencies[i].type == DEPENDENCY_START_POST_COMP)
            add_dependency(out, "afterany", find_id(queue, other, true));
        else if (entry->dependencies[i].type == DEPENDENCY_START_POST_INIT)
            add_dependency(out, "after", find_id(queue, other, false));
    }
    return fclose(out) == 0 ? text : NULL;
}

/* Calls sbatch, with nothing in the environment that would win over the script. */
static bool call_sbatch(const queue_t *queue, queued_t *queued, const char *dependencies,
                        failure_t *failure)
{
    char folder[PATH_MAX];
    environment_t environment;
    const char *names[BATCH_SCRIPT_RIVAL_COUNT_MAX];
    size_t count = batch_script_rivals(queue->session, queued->job, names);
    batch_folder(queue->session, queued->job, folder);
    bool is_submitted =
        environment_without(&environment, names, count)
            ? slurm_submit(folder, dependencies, &queued->end.id, failure)
            : failure_set(failure, EXIT_FAILED, "not enough memory for the environment");
    environment_leave(&environment);
    return is_submitted;
}

/* A job that Slurm does not take is a run that never started; the others go on. */
static bool submit(queue_t *queue, queued_t *queued, failure_t *failure)
{
    failure_t refused = {.exit_code = EXIT_DONE};
    char *dependencies = list_dependencies(queue, queued);
    if (dependencies == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory for dependencies");
    bool is_submitted = call_sbatch(queue, queued, dependencies, &refused);
    free(dependencies);
    if (is_submitted) {
        tell(queue, queued, "is submitted");
        return true;
    }
    (void)snprintf(queued->why_never, sizeof(queued->why_never), "%s", refused.sentence);
    queued->end.why_never = queued->why_never;
    (void)fprintf(stderr, "%s: %s\n", queued->job->folder, refused.sentence);
    return conclude(queue, queued, failure);
}

static const slurm_job_t *find_row(const slurm_queue_t *rows, int64_t id)
{
    for (size_t i = 0; i < rows->count; i++)
        if (rows->rows[i].id == id)
            return &rows->rows[i].job;
    return NULL;
}

/* Cancels jobs. One that has ended meanwhile cannot be, and whatever else is in the way is told;
 * the next look at the queue shows what became of them. */
static bool cancel(const int64_t *ids, size_t count)
{
    failure_t failure = {.exit_code = EXIT_DONE};
    if (slurm_cancel(ids, count, &failure))
        return true;
    (void)fprintf(stderr, "%s\n", failure.sentence);
    return false;
}

static void give_up(queued_t *queued, const char *reason)
{
    if (!cancel(&queued->end.id, 1))
        return;
    (void)snprintf(queued->why_never, sizeof(queued->why_never),
                   "job %" PRId64 " could never start (%s), and was cancelled", queued->end.id,
                   reason);
    queued->end.why_never = queued->why_never;
}

/* Takes in what the queue says of a job; NULL: nothing any more. */
static bool look_at(queue_t *queue, queued_t *queued, const slurm_job_t *row, failure_t *failure)
{
    char what[160];
    if (row != NULL && !slurm_is_final(row->state)) {
        const char *more = row->nodes != NULL ? row->nodes : row->reason;
        (void)snprintf(what, sizeof(what), "is %s%s%.100s", row->state, more[0] == '\0' ? "" : ": ",
                       more);
        tell(queue, queued, what);
        if (strcmp(row->state, "PENDING") == 0 && slurm_is_hopeless(row->reason))
            give_up(queued, row->reason);
        return true;
    }
    failure_t silence = {.exit_code = EXIT_DONE};
    slurm_release_job(&queued->end.slurm);
    if (!slurm_read_job(queued->end.id, &queued->end.slurm, &silence) ||
        (queued->end.slurm.state[0] != '\0' && !slurm_is_final(queued->end.slurm.state)))
        return true; /* it is asked again */
    (void)snprintf(what, sizeof(what), "ended: %s",
                   queued->end.slurm.state[0] == '\0' ? "unknown" : queued->end.slurm.state);
    tell(queue, queued, what);
    return conclude(queue, queued, failure);
}

static bool is_entry_over(const queue_t *queue, const entry_t *entry)
{
    for (int32_t i = 0; i < queue->count; i++)
        if (queue->list[i].job->entry == entry && !queue->list[i].is_over)
            return false;
    return true;
}

/* Cancels what is to end with another test. */
static void end_with_others(queue_t *queue)
{
    const entry_t *entries = queue->session->scenario.entries;
    for (int32_t i = 0; i < queue->count; i++) {
        queued_t *queued = &queue->list[i];
        const entry_t *entry = queued->job->entry;
        for (int32_t at = 0; at < entry->dependency_count; at++) {
            const dependency_t *dependency = &entry->dependencies[at];
            if (queued->is_over || queued->end.ended_by != NULL ||
                dependency->type != DEPENDENCY_END_POST_COMP ||
                !is_entry_over(queue, &entries[dependency->on]))
                continue;
            if (cancel(&queued->end.id, 1))
                queued->end.ended_by = entries[dependency->on].id;
        }
    }
}

/* One look at the queue. A Slurm that does not answer is asked again, up to a point. */
static bool look(queue_t *queue, failure_t *failure)
{
    slurm_queue_t rows;
    failure_t silence = {.exit_code = EXIT_DONE};
    queue->has_changed = false;
    if (!slurm_read_queue(&rows, &silence)) {
        slurm_release_queue(&rows);
        return link_now_ms() - queue->heard_ms < SILENCE_MAX_S * INT64_C(1000) ||
               failure_set(failure, EXIT_FAILED, "Slurm has been silent for %d s: %.900s",
                           SILENCE_MAX_S, silence.sentence);
    }
    queue->heard_ms = link_now_ms();
    bool is_done = true;
    for (int32_t i = 0; i < queue->count && is_done; i++)
        if (!queue->list[i].is_over)
            is_done =
                look_at(queue, &queue->list[i], find_row(&rows, queue->list[i].end.id), failure);
    slurm_release_queue(&rows);
    end_with_others(queue);
    return is_done;
}

static int32_t count_open(const queue_t *queue)
{
    int32_t count = 0;
    for (int32_t i = 0; i < queue->count; i++)
        count += queue->list[i].end.id != 0 && !queue->list[i].is_over;
    return count;
}

/* Waits; returns the stop signal that came meanwhile, or 0. */
static int wait_for_signal(int64_t seconds)
{
    sigset_t stopping;
    struct timespec time = {.tv_sec = (time_t)seconds};
    stop_signals(&stopping);
    int number = sigtimedwait(&stopping, NULL, &time);
    return number > 0 ? number : 0;
}

/* Until all jobs are over, `limit_s` has passed (0: there is no limit) or a stop signal comes. */
static bool follow(queue_t *queue, int64_t limit_s, failure_t *failure)
{
    int32_t said_s = system_number(queue->session->system, "monitor_interval");
    int64_t most_s = said_s == 0 ? INTERVAL_MAX_S : said_s;
    int64_t interval_s = INTERVAL_MIN_S;
    int64_t begin_ms = link_now_ms();
    most_s = most_s < INTERVAL_LIMIT_S ? most_s : INTERVAL_LIMIT_S;
    while (count_open(queue) > 0) {
        queue->signal = wait_for_signal(interval_s);
        if (queue->signal != 0)
            return true;
        if (!look(queue, failure))
            return false;
        if (limit_s > 0 && link_now_ms() - begin_ms > limit_s * 1000)
            return true;
        interval_s = queue->has_changed ? INTERVAL_MIN_S : 2 * interval_s;
        interval_s = interval_s < most_s ? interval_s : most_s;
    }
    return true;
}

/* Cancels the jobs of this suite that are not over. */
static void cancel_open(const queue_t *queue)
{
    size_t count = 0;
    int64_t *ids = calloc((size_t)queue->count + 1, sizeof(*ids));
    if (ids == NULL)
        return;
    for (int32_t i = 0; i < queue->count; i++)
        if (queue->list[i].end.id != 0 && !queue->list[i].is_over)
            ids[count++] = queue->list[i].end.id;
    (void)cancel(ids, count);
    free(ids);
}

/* Records of all runs that nobody waits for any more. */
static bool leave(queue_t *queue, const char *why, failure_t *failure)
{
    for (int32_t i = 0; i < queue->count; i++) {
        queued_t *queued = &queue->list[i];
        if (queued->is_over)
            continue;
        if (queued->end.id == 0)
            (void)snprintf(queued->why_never, sizeof(queued->why_never),
                           "the suite was stopped before it");
        else
            (void)snprintf(queued->why_never, sizeof(queued->why_never), "job %" PRId64 " %s",
                           queued->end.id, why);
        queued->end.why_left = queued->why_never;
        if (!conclude(queue, queued, failure))
            return false;
    }
    return true;
}

/* A stop signal came. */
static bool stop(queue_t *queue, failure_t *failure)
{
    int number = queue->signal;
    int32_t open_count = count_open(queue);
    bool is_done = true;
    if (open_count > 0 &&
        question_yes("%d job%s not over. Cancel %s?", open_count, open_count == 1 ? " is" : "s are",
                     open_count == 1 ? "it" : "them")) {
        cancel_open(queue);
        is_done = follow(queue, CANCEL_MAX_S, failure) &&
                  leave(queue, "was to be cancelled, and nobody waited for its end", failure);
    } else {
        is_done = leave(queue, "is still Slurm's: nobody waited for its end", failure);
    }
    if (is_done)
        failure_set(failure, 128 + number, "stopped by signal %d (%s)", number, strsignal(number));
    failure->signal = number;
    return false;
}

static bool submit_all(queue_t *queue, failure_t *failure)
{
    for (int32_t i = 0; i < queue->count; i++) {
        queue->signal = wait_for_signal(0);
        if (queue->signal != 0)
            return true;
        if (!submit(queue, &queue->list[i], failure))
            return false;
    }
    return true;
}

static bool plan_all(queue_t *queue, failure_t *failure)
{
    bool is_done = true;
    for (int32_t i = 0; i < queue->count && is_done; i++) {
        json_t *record = NULL;
        is_done = batch_plan(queue->session, queue->list[i].job, &record, failure) &&
                  queue->keep(queue->ctx, record, failure);
        json_decref(record);
    }
    return is_done;
}

static bool run(queue_t *queue, failure_t *failure)
{
    for (int32_t i = 0; i < queue->count; i++)
        if (!batch_prepare(queue->session, queue->list[i].job, failure))
            return false;
    if (queue->session->request->is_dry)
        return plan_all(queue, failure);
    queue->heard_ms = link_now_ms();
    bool is_done = submit_all(queue, failure);
    if (is_done && queue->signal == 0)
        is_done = follow(queue, 0, failure);
    if (is_done)
        return queue->signal == 0 || stop(queue, failure);
    failure_t more = {.exit_code = EXIT_DONE};
    (void)leave(queue, "may go on: the suite could not follow it", &more);
    return false;
}

bool queue_run(const suite_session_t *session, const jobs_t *jobs, queue_keep_t keep, void *ctx,
               failure_t *failure)
{
    queue_t queue = {.session = session,
                     .list = calloc((size_t)jobs->count + 1, sizeof(queued_t)),
                     .count = jobs->count,
                     .keep = keep,
                     .ctx = ctx};
    if (queue.list == NULL)
        return failure_set(failure, EXIT_FAILED, "not enough memory for the queue");
    for (int32_t i = 0; i < jobs->count; i++)
        queue.list[i].job = &jobs->list[i];
    bool is_done = run(&queue, failure);
    for (int32_t i = 0; i < jobs->count; i++)
        slurm_release_job(&queue.list[i].end.slurm);
    free(queue.list);
    return is_done;
}
