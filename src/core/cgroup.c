/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a process is in the hierarchies of control groups (/proc/self/cgroup), where those are
 * mounted (/proc/self/mountinfo), and what is left of the limits from there up to the mounted root.
 */
#include "core/cgroup.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the two versions of control groups call the same things. */
typedef struct version {
    const char *type;       /* of the mounted file system */
    const char *controller; /* in /proc/self/cgroup; version 2 has all in one hierarchy, unnamed */
    const char *limit_name; /* files of a group */
    const char *usage_name;
    const char *stat_prefix; /* of what memory.stat counts, groups below included */
} version_t;

static const version_t versions[] = {
    {"cgroup", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"},
    {"cgroup2", "", "memory.max", "memory.current", ""},
};

/* A line of mountinfo. */
typedef struct mount {
    char *root; /* the group that is seen at `point` */
    char *point;
    char *type;
    char *options;
} mount_t;

static FILE *open_in(const char *folder, const char *name)
{
    char path[PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return fopen(path, "re");
}

/* The number in a file; `otherwise` when there is none, as in "max". */
static uint64_t read_number(const char *folder, const char *name, uint64_t otherwise)
{
    FILE *file = open_in(folder, name);
    if (file == NULL) {
        return otherwise;
    }
    char text[32] = "";
    const bool is_number =
        fgets(text, sizeof(text), file) != NULL && isdigit((unsigned char)text[0]);
    (void)fclose(file);
    return is_number ? strtoull(text, NULL, 10) : otherwise; /* the largest for any larger one */
}

/* Page cache, which the kernel takes back before it kills: MemAvailable has it too. */
static uint64_t read_cache(const char *folder, const char *stat_prefix)
{
    FILE *file = open_in(folder, "memory.stat");
    if (file == NULL) {
        return 0;
    }
    const size_t skip = strlen(stat_prefix);
    uint64_t cache = 0;
    char line[128];
    while (fgets(line, sizeof(line), file) != NULL) {
        uint64_t bytes;
        if (strncmp(line, stat_prefix, skip) == 0 &&
            (sscanf(line + skip, "active_file %" SCNu64, &bytes) == 1 ||
             sscanf(line + skip, "inactive_file %" SCNu64, &bytes) == 1)) {
            cache += bytes;
        }
    }
    (void)fclose(file);
    return cache;
}

/* Takes the limit of the group in `folder` when it leaves less than `out` does. */
static void consider(const version_t *version, const char *folder, cgroup_limit_t *out)
{
    const uint64_t limit = read_number(folder, version->limit_name, UINT64_MAX);
    const uint64_t usage = read_number(folder, version->usage_name, 0);
    const uint64_t cache = read_cache(folder, version->stat_prefix);
    const uint64_t taken = usage > cache ? usage - cache : 0;
    const uint64_t left = limit > taken ? limit - taken : 0;
    char path[PATH_MAX];
    const int length = snprintf(path, sizeof(path), "%s/%s", folder, version->limit_name);
    if (limit != UINT64_MAX && left < out->left_bytes && length < PATH_MAX) {
        out->bytes = limit;
        out->left_bytes = left;
        memcpy(out->path, path, (size_t)length + 1);
    }
}

static bool has_word(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (;; list++) {
        const size_t word_length = strcspn(list, ",\n");
        if (word_length == length && strncmp(list, word, length) == 0) {
            return true;
        }
        list += word_length;
        if (*list != ',') {
            return false;
        }
    }
}

/* The path of the process in a hierarchy, from a line such as "4:cpu,memory:/slurm/job_7". */
static bool find_group(const char *process_folder, const char *controller, char path[PATH_MAX])
{
    FILE *file = open_in(process_folder, "cgroup");
    if (file == NULL) {
        return false;
    }
    char *line = NULL;
    size_t size = 0;
    bool is_found = false;
    while (!is_found && getline(&line, &size, file) > 0) {
        char *rest = line;
        (void)strsep(&rest, ":");
        const char *controllers = strsep(&rest, ":");
        const char *group = strsep(&rest, "\n");
        is_found = group != NULL && group[0] == '/' && strlen(group) < PATH_MAX &&
                   has_word(controllers, controller);
        if (is_found) {
            (void)snprintf(path, PATH_MAX, "%s", group);
        }
    }
    free(line);
    (void)fclose(file);
    return is_found;
}

/* In place: mountinfo writes spaces and the like as a backslash and three octal digits. */
static void unescape(char *text)
{
    char *out = text;
    for (; *text != '\0'; text++) {
        if (*text == '\\' && strspn(text + 1, "01234567") >= 3) {
            *out++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 3;
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
}

/* Takes apart "31 23 0:28 ROOT POINT rw,noexec shared:9 - TYPE SOURCE OPTIONS", in place. */
static bool parse_mount(char *line, mount_t *out)
{
    char *tail = strstr(line, " - ");
    if (tail == NULL) {
        return false;
    }
    *tail = '\0';
    tail += strlen(" - ");
    for (int i = 0; i < 3; i++) {
        (void)strsep(&line, " ");
    }
    out->root = strsep(&line, " ");
    out->point = strsep(&line, " ");
    out->type = strsep(&tail, " ");
    (void)strsep(&tail, " ");
    out->options = tail;
    if (out->point == NULL || out->options == NULL) {
        return false;
    }
    unescape(out->root);
    unescape(out->point);
    return true;
}

/*
 * The folder of the group `path`, as the mount shows it. A container may see only a part of the
 * hierarchy: its mount has another root than "/", or its paths begin at the root of its namespace.
 */
static bool find_folder(const mount_t *mount, const char *path, char folder[PATH_MAX])
{
    const size_t root_length = strcmp(mount->root, "/") == 0 ? 0 : strlen(mount->root);
    const char *below = path + root_length;
    if (strncmp(path, mount->root, root_length) != 0 || (*below != '/' && *below != '\0')) {
        if (strncmp(mount->root, "/..", 3) != 0) {
            return false; /* another part of the hierarchy */
        }
        below = ""; /* what is between the mounted root and the namespace's has no name here */
    }
    if (strstr(below, "/..") != NULL) {
        return false; /* outside of what is mounted */
    }
    below = strcmp(below, "/") == 0 ? "" : below;
    return snprintf(folder, PATH_MAX, "%s%s", mount->point, below) < PATH_MAX;
}

static void consider_mount(const mount_t *mount, const char *process_folder, cgroup_limit_t *out)
{
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        const version_t *version = &versions[i];
        char path[PATH_MAX];
        char folder[PATH_MAX];
        if (strcmp(mount->type, version->type) != 0 ||
            (version->controller[0] != '\0' && !has_word(mount->options, version->controller)) ||
            !find_group(process_folder, version->controller, path) ||
            !find_folder(mount, path, folder)) {
            continue;
        }
        char *end = folder + strlen(folder);
        while (end != NULL) {
            *end = '\0';
            consider(version, folder, out);
            end = strrchr(folder + strlen(mount->point), '/');
        }
    }
}

bool cgroup_find_limit(const char *process_folder, cgroup_limit_t *out)
{
    out->bytes = UINT64_MAX;
    out->left_bytes = UINT64_MAX;
    out->path[0] = '\0';
    FILE *mounts = open_in(process_folder, "mountinfo");
    if (mounts == NULL) {
        return false;
    }
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, mounts) > 0) {
        mount_t mount;
        if (parse_mount(line, &mount)) {
            consider_mount(&mount, process_folder, out);
        }
    }
    free(line);
    (void)fclose(mounts);
    return out->path[0] != '\0';
}
