/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the folders of groups. */
#include "suite/groups.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char groups_note[] =
    "the ranks of each node are a group of their own: exchange across hosts comes later";

/* How long results are waited for: 10 s. */
enum { WAIT_MS = 500, WAIT_COUNT_MAX = 20 };

static int is_results(const struct dirent *entry)
{
    return strncmp(entry->d_name, "benchmark_", strlen("benchmark_")) == 0;
}

/* A file of a group's folder; NULL: it is not there, or no JSON. */
static json_t *read_file(const char *folder, const char *group, const char *name)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s/%s", folder, group, name);
    return json_load_file(path, 0, NULL);
}

static json_t *read_group(const char *folder, const char *name)
{
    json_t *list = read_file(folder, name, "results.json");
    json_t *bench = read_file(folder, name, "bench.json");
    json_t *record = read_file(folder, name, "record.json");
    json_t *traffic = json_object_get(record, "traffic");
    bool is_verified =
        json_array_size(list) > 0 && json_is_true(json_object_get(bench, "verified"));
    json_t *group = json_is_object(bench)
                        ? json_pack("{s:s,s:b,s:O,s:O?}", "results", name, "verified", is_verified,
                                    "bench", bench, "traffic", traffic)
                        : NULL;
    json_decref(list);
    json_decref(bench);
    json_decref(record);
    return group;
}

static json_t *read_groups(const char *folder)
{
    struct dirent **entries = NULL;
    json_t *groups = json_array();
    int count = scandir(folder, &entries, is_results, alphasort);
    for (int i = 0; i < count; i++) {
        json_t *group = read_group(folder, entries[i]->d_name);
        if (group != NULL)
            json_array_append_new(groups, group);
        free(entries[i]);
    }
    free((void *)entries);
    return groups;
}

json_t *groups_read(const char *folder, int32_t count)
{
    const struct timespec pause = {.tv_nsec = WAIT_MS * 1000000L};
    json_t *groups = read_groups(folder);
    for (int waits = 0; waits < WAIT_COUNT_MAX && (int32_t)json_array_size(groups) < count;
         waits++) {
        (void)nanosleep(&pause, NULL);
        json_decref(groups);
        groups = read_groups(folder);
    }
    return groups;
}

static double dispatch_time(const json_t *group)
{
    const json_t *dispatch = json_object_get(json_object_get(group, "bench"), "dispatch");
    return json_number_value(json_object_get(json_object_get(dispatch, "time_us"), "p50"));
}

const json_t *groups_slowest(const json_t *groups)
{
    size_t index;
    const json_t *group;
    const json_t *slowest = NULL;
    json_array_foreach(groups, index, group)
    {
        if (slowest == NULL || dispatch_time(group) > dispatch_time(slowest))
            slowest = group;
    }
    return slowest;
}
