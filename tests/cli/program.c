/* SPDX-License-Identifier: Apache-2.0 */
/* Runs build/moxie: its outputs go to files in a folder beside the one it runs in. */
#include "cli/program.h"

#include "support/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENT_COUNT_MAX = 64, ARGUMENT_BYTES = 2048 };

static char program_path[PATH_MAX];
static char folder[] = "/tmp/moxie-test-cli-XXXXXX"; /* holds in/, run/, data/, out and err */
static int entry_count_before;

static int count_entries(const char *path)
{
    int count = 0;
    DIR *entries = opendir(path);
    assert_non_null(entries);
    while (readdir(entries) != NULL)
        count++;
    (void)closedir(entries);
    return count - 2; /* . and .. */
}

void program_setup(const char *path)
{
    assert_non_null(realpath(path, program_path));
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(mkdir("run", 0700), 0);
    assert_int_equal(mkdir("in", 0700), 0);
    char run[sizeof(folder) + 8];
    (void)snprintf(run, sizeof(run), "%s/run", folder);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", run, 1), 0);
    char data[sizeof(folder) + 8]; /* where a tuner keeps what it found */
    (void)snprintf(data, sizeof(data), "%s/data", folder);
    assert_int_equal(setenv("XDG_DATA_HOME", data, 1), 0);
    assert_int_equal(unsetenv("MOXIE_TUNING"), 0);
    assert_int_equal(chdir("in"), 0);
}

void program_teardown(void)
{
    char command[sizeof(folder) + 16];
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): our own folder, no input */
}

void program_write_file(const char *name, const void *bytes, size_t count)
{
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* Splits in place; '' becomes an empty argument. */
static void split(char *text, char *arguments[ARGUMENT_COUNT_MAX])
{
    int count = 0;
    char *rest = NULL;
    arguments[count++] = program_path;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        assert_true(count < ARGUMENT_COUNT_MAX - 1);
        arguments[count++] = strcmp(word, "''") == 0 ? word + 2 : word;
    }
    arguments[count] = NULL;
}

static _Noreturn void be_program(char *arguments[])
{
    int out = open("../out", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = open("../err", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    (void)setpgid(0, 0);
    (void)signal(SIGINT, SIG_DFL);
    (void)dup2(out, STDOUT_FILENO);
    (void)dup2(err, STDERR_FILENO);
    (void)execv(program_path, arguments);
    _exit(126);
}

program_t program_start(const char *text)
{
    char copy[ARGUMENT_BYTES];
    char *arguments[ARGUMENT_COUNT_MAX];
    assert_true(strlen(text) < sizeof(copy));
    (void)snprintf(copy, sizeof(copy), "%s", text);
    split(copy, arguments);
    entry_count_before = count_entries(".");
    program_t program = {.pid = fork()};
    if (program.pid == 0)
        be_program(arguments);
    assert_true(program.pid > 0);
    (void)setpgid(program.pid, program.pid);
    return program;
}

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = NULL;
    size_t room = 0;
    if (getdelim(&text, &room, '\0', file) < 0)
        text[0] = '\0';
    (void)fclose(file);
    return text;
}

void program_finish(program_t *program)
{
    int status = 0;
    while (waitpid(program->pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    program->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    program->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    program->out = read_text("../out");
    program->err = read_text("../err");
}

program_t program_run(const char *arguments)
{
    program_t program = program_start(arguments);
    program_finish(&program);
    return program;
}

static void nap(void)
{
    const struct timespec pause = {0, 5000000};
    (void)nanosleep(&pause, NULL);
}

pid_t program_child(const program_t *program, int index)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", program->pid, program->pid);
    for (int try = 0; try < 2000; try++) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        int child = 0;
        int seen = 0;
        while (seen <= index && fscanf(file, "%d", &child) == 1) /* NOLINT(cert-err34-c): kernel */
            seen++;
        (void)fclose(file);
        if (seen > index)
            return child;
        nap();
    }
    fail_msg("no child number %d", index);
    return 0;
}

json_t *program_json(const program_t *program)
{
    json_error_t error;
    json_t *document = json_loads(program->out, JSON_REJECT_DUPLICATES, &error);
    if (document == NULL)
        fail_msg("line %d: %s in:\n%s\n%s", error.line, error.text, program->out, program->err);
    return document;
}

void program_check_clean(const program_t *program)
{
    for (int try = 0; try < 2000 && kill(-program->pid, 0) == 0; try++)
        nap(); /* killed ranks take a moment to go, on a busy machine some */
    if (kill(-program->pid, 0) == 0)
        fail_msg("a process of the run is still there");
    if (count_entries("../run") != 0)
        fail_msg("something was left in the run-time folder");
    if (count_entries(".") != entry_count_before)
        fail_msg("a file was left behind or taken away");
}

void program_release(program_t *program)
{
    free(program->out);
    free(program->err);
    *program = (program_t){0};
}
