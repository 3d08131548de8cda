/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's end of the line to the process that started it, or to its peers. */
#include "bench/link.h"

#include "bench/progress.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* How often a rank says that it is busy. */
enum { ALIVE_PERIOD_MS = 1000 };

int64_t link_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool send_fully(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return false;
        bytes += sent;
        count -= (size_t)sent;
    }
    return true;
}

bool link_send(link_t *link, const char *key, json_t *value)
{
    json_t *message = json_object();
    if (json_object_set_new(message, key, value) != 0) {
        json_decref(message);
        return false;
    }
    char *line = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    if (line == NULL)
        return false;
    size_t length = strlen(line);
    line[length] = '\n'; /* in place of the NUL: the line is sent by its length */
    bool is_sent = send_fully(link->fd, line, length + 1);
    free(line);
    link->told_ms = link_now_ms();
    return is_sent;
}

void link_open(link_t *link, moxie_group_t *group, int64_t timeout_us, run_result_t *result)
{
    int64_t beat_ms = timeout_us / 1000 / 4;
    *link = (link_t){.fd = -1,
                     .rank = moxie_group_rank(group),
                     .told_ms = link_now_ms(),
                     .group = group,
                     .rank_count = moxie_group_rank_count(group),
                     .launcher_pid = getppid(),
                     .beat_ms = beat_ms < ALIVE_PERIOD_MS ? beat_ms : ALIVE_PERIOD_MS,
                     .result = result};
}

/*
 * All ranks tell each other whether they are through with their work; true: all are, or a peer was
 * lost. A rank that works and one that waits call it alternately in step, because every call
 * returns only when every rank has called.
 */
static bool beat(link_t *link, bool is_through)
{
    unsigned char mine = is_through ? 1 : 0;
    unsigned char all[MOXIE_RANK_COUNT_MAX];
    if (moxie_group_allgather(link->group, &mine, sizeof(mine), all) != MOXIE_OK) {
        failure_from_library(&link->lost, link->rank, "waiting for all ranks");
        return true;
    }
    link->told_ms = link_now_ms();
    return memchr(all, 0, (size_t)link->rank_count) == NULL;
}

static void beat_when_due(link_t *link)
{
    if (link_now_ms() - link->told_ms < link->beat_ms) {
        return;
    }
    if (getppid() != link->launcher_pid) {
        (void)kill(getpid(), SIGTERM); /* nobody is left to stop this run, or to read of it */
    }
    link->told_ms = link_now_ms();
    if (link->is_working && link->lost.exit_code == EXIT_DONE) {
        (void)beat(link, false);
    }
}

void link_work(link_t *link)
{
    link->is_working = true;
    if (link->fd < 0) {
        link->told_ms = link_now_ms(); /* of all ranks alike: they come from a collective call */
    }
}

void link_alive(link_t *link)
{
    if (link->fd < 0) {
        beat_when_due(link);
    } else if (link_now_ms() - link->told_ms >= ALIVE_PERIOD_MS) {
        (void)link_send(link, "alive", json_integer(0));
    }
}

void link_progress(link_t *link, const char *what, int64_t done, int64_t count)
{
    if (link->fd < 0) {
        progress_draw(what, done, count);
        link->told_ms = link_now_ms();
        return;
    }
    (void)link_send(link, "progress",
                    json_pack("[s,I,I]", what, (json_int_t)done, (json_int_t)count));
}

bool link_report(link_t *link, json_t *document, json_t *trace, const char *mismatch)
{
    if (link->fd >= 0) {
        return link_send(link, "record",
                         json_pack("{s:o,s:s,s:o*}", "document", document, "mismatch", mismatch,
                                   "trace", trace));
    }
    link->result->trace = trace;
    (void)snprintf(link->result->mismatch, sizeof(link->result->mismatch), "%s", mismatch);
    link->result->record = document;
    return true;
}

static bool gate_of_parent(link_t *link, failure_t *failure)
{
    char go = 0;
    if (!link_send(link, "gate", json_integer(0))) {
        return failure_set(failure, EXIT_FAILED, "rank %d: the starting process is gone",
                           link->rank);
    }
    ssize_t got = 0;
    do {
        got = read(link->fd, &go, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1 ||
           failure_set(failure, EXIT_FAILED, "rank %d: the starting process is gone", link->rank);
}

bool link_gate(link_t *link, failure_t *failure)
{
    link->is_working = false;
    if (link->fd >= 0) {
        return gate_of_parent(link, failure);
    }
    while (link->lost.exit_code == EXIT_DONE && !beat(link, true)) {
    }
    if (link->lost.exit_code != EXIT_DONE) {
        *failure = link->lost;
    }
    return link->lost.exit_code == EXIT_DONE;
}

json_t *link_failure_to_json(const failure_t *failure)
{
    json_t *peers = json_array();
    for (int32_t i = 0; i < failure->peer_count; i++)
        json_array_append_new(peers, json_integer(failure->peers[i].rank));
    return json_pack("{s:i,s:i,s:s,s:s,s:s,s:o}", "exit_code", failure->exit_code, "status",
                     (int)failure->status, "op", failure->op, "phase", failure->phase, "sentence",
                     failure->sentence, "peers", peers);
}

void link_failure_from_json(const json_t *json, failure_t *failure)
{
    int exit_code = EXIT_FAILED;
    int status = MOXIE_OK;
    const char *op = "";
    const char *phase = "";
    const char *sentence = "a rank failed and could not say why";
    const json_t *peers = NULL;
    (void)json_unpack_ex((json_t *)(uintptr_t)json, NULL, 0, "{s:i,s:i,s:s,s:s,s:s,s:o}",
                         "exit_code", &exit_code, "status", &status, "op", &op, "phase", &phase,
                         "sentence", &sentence, "peers", &peers);
    failure_set(failure, exit_code, "%s", sentence);
    failure->status = (moxie_status_t)status;
    (void)strncpy(failure->op, op, sizeof(failure->op) - 1);
    (void)strncpy(failure->phase, phase, sizeof(failure->phase) - 1);
    for (size_t i = 0; i < json_array_size(peers); i++)
        failure_blame(failure, (int32_t)json_integer_value(json_array_get(peers, i)), 0);
}

void run_result_release(run_result_t *result)
{
    json_decref(result->record);
    json_decref(result->trace);
    for (int32_t rank = 0; rank < MOXIE_RANK_COUNT_MAX; rank++) {
        free(result->flight[rank]);
    }
    *result = (run_result_t){.record = NULL};
}
