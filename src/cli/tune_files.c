/* SPDX-License-Identifier: Apache-2.0 */
/* Names, finds and writes the files of a tuner. */
#include "cli/tune_files.h"

#include "bench/output.h"
#include "bench/record.h"
#include "tune/results.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char log_suffix[] = ".jsonl";

static bool make_folder(const char *path, failure_t *failure)
{
    char copy[PATH_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", path);
    for (char *c = copy + 1;; c++) {
        char end = *c;
        if (end != '/' && end != '\0')
            continue;
        *c = '\0';
        int result = mkdir(copy, 0777);
        int error = errno;
        *c = end;
        if (result != 0 && end == '\0' && error != EEXIST)
            return failure_set(failure, EXIT_USAGE, "--output-dir: no folder can be made at %s: %s",
                               path, strerror(error));
        if (end == '\0')
            return true;
    }
}

/* The newest log of the same setup that is not finished; false: there is none. */
static bool find_log(tune_files_t *files, const json_t *setup)
{
    char folder[PATH_MAX];
    char path[PATH_MAX];
    size_t stem_length = strlen(files->stem);
    const struct dirent *entry = NULL;
    (void)snprintf(folder, sizeof(folder), "%s/logs", files->folder);
    DIR *entries = opendir(folder);
    files->stamp[0] = '\0';
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        const char *stamp = entry->d_name + stem_length + 1;
        size_t length = strlen(entry->d_name);
        if (strncmp(entry->d_name, files->stem, stem_length) != 0 ||
            entry->d_name[stem_length] != '_' || length < stem_length + 1 + strlen(log_suffix) ||
            strcmp(entry->d_name + length - strlen(log_suffix), log_suffix) != 0 ||
            length - stem_length - strlen(log_suffix) > sizeof(files->stamp) ||
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >= (int)sizeof(path) ||
            !trial_can_resume(path, setup))
            continue;
        int stamp_length = (int)(length - stem_length - 1 - strlen(log_suffix));
        if (strncmp(stamp, files->stamp, (size_t)stamp_length) <= 0)
            continue;
        (void)snprintf(files->stamp, sizeof(files->stamp), "%.*s", stamp_length, stamp);
        (void)snprintf(files->log_path, sizeof(files->log_path), "%s", path);
    }
    if (entries != NULL)
        (void)closedir(entries);
    return files->stamp[0] != '\0';
}

/* An empty log by a name that no other run has taken, in the same second or before. */
static bool make_log(tune_files_t *files, failure_t *failure)
{
    char second[24] = "";
    struct tm local;
    time_t now = time(NULL);
    if (localtime_r(&now, &local) != NULL)
        (void)strftime(second, sizeof(second), "%Y-%m-%d_%H-%M-%S", &local);
    for (int try = 1;; try++) {
        (void)snprintf(files->stamp, sizeof(files->stamp), try == 1 ? "%s" : "%s_%d", second, try);
        (void)snprintf(files->log_path, sizeof(files->log_path), "%s/logs/%s_%s%s", files->folder,
                       files->stem, files->stamp, log_suffix);
        int fd = open(files->log_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            (void)close(fd);
            return true;
        }
        if (errno != EEXIST)
            return failure_set(failure, EXIT_USAGE, "%s: cannot be written: %s", files->log_path,
                               strerror(errno));
    }
}

bool tune_files_open(tune_files_t *files, const char *folder, const char *stem, const json_t *setup,
                     bool is_resumed, failure_t *failure)
{
    static const char *const parts[] = {"results", "summary", "logs"};
    (void)snprintf(files->stem, sizeof(files->stem), "%s", stem);
    if (snprintf(files->folder, sizeof(files->folder), "%s", folder) >= (int)sizeof(files->folder))
        return failure_set(failure, EXIT_USAGE, "--output-dir: the path is too long");
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof(path), "%s/%s", files->folder, parts[i]);
        if (!make_folder(path, failure))
            return false;
    }
    if (!is_resumed)
        return make_log(files, failure);
    return find_log(files, setup) ||
           failure_set(failure, EXIT_USAGE,
                       "--resume: %s/logs has no unfinished run with this setup", folder);
}

static bool write_json(const char *path, const json_t *document, failure_t *failure)
{
    output_file_t file;
    if (!output_file_open(&file, path, "--output-dir", failure))
        return false;
    (void)record_write(document, file.stream); /* what fails shows when it is committed */
    return output_file_commit(&file, failure);
}

bool tune_files_write(const tune_files_t *files, const json_t *results, failure_t *failure)
{
    char path[PATH_MAX];
    output_file_t markdown;
    (void)snprintf(path, sizeof(path), "%s/results/%s_%s.json", files->folder, files->stem,
                   files->stamp);
    if (!write_json(path, results, failure))
        return false;
    if (json_is_true(json_object_get(results, "stopped")))
        return true;
    (void)snprintf(path, sizeof(path), "%s/summary/%s_%s.json", files->folder, files->stem,
                   files->stamp);
    json_t *summary = results_summary(results);
    bool is_written = write_json(path, summary, failure);
    json_decref(summary);
    (void)snprintf(path, sizeof(path), "%s/OPTIMAL_CONFIGS.md", files->folder);
    if (!is_written || !output_file_open(&markdown, path, "--output-dir", failure))
        return false;
    results_markdown(results, markdown.stream);
    return output_file_commit(&markdown, failure);
}
