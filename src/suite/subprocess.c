/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a program, and waits for it. */
#include "suite/subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What was written into a file; NULL: no memory. */
static char *read_back(int file)
{
    struct stat stat_of;
    size_t count = fstat(file, &stat_of) == 0 ? (size_t)stat_of.st_size : 0;
    char *text = malloc(count + 1);
    ssize_t got = text == NULL ? 0 : pread(file, text, count, 0);
    if (text != NULL)
        text[got < 0 ? 0 : got] = '\0';
    return text;
}

/* Starts it with its output in two files; returns an errno. */
static int start(const char *const arguments[], int out, int err, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    union { /* the texts stay as they are, whatever the type says */
        const char *const *given;
        char *const *to_run;
    } list = {.given = arguments};
    (void)sigemptyset(&none);
    int error = posix_spawn_file_actions_init(&files);
    if (error != 0)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error != 0) {
        (void)posix_spawn_file_actions_destroy(&files);
        return error;
    }
    /* In a group of its own, so that Ctrl-C at the terminal is this process's to answer. */
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    error = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    error = error != 0 ? error : posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    error = error != 0 ? error : posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
    if (error == 0)
        error = posix_spawnp(pid, arguments[0], &files, &attributes, list.to_run, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&files);
    return error;
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool subprocess_run(const char *const arguments[], subprocess_t *out, failure_t *failure)
{
    pid_t pid = 0;
    int files[2] = {memfd_create("out", MFD_CLOEXEC), memfd_create("err", MFD_CLOEXEC)};
    *out = (subprocess_t){.exit_code = 0};
    int error = files[0] < 0 || files[1] < 0 ? errno : start(arguments, files[0], files[1], &pid);
    if (error == 0) {
        out->exit_code = wait_for(pid);
        out->out = read_back(files[0]);
        out->err = read_back(files[1]);
    }
    for (int i = 0; i < 2; i++)
        if (files[i] >= 0)
            (void)close(files[i]);
    if (error == 0 && out->out != NULL && out->err != NULL) {
        for (size_t end = strlen(out->err); end > 0 && out->err[end - 1] == '\n'; end--)
            out->err[end - 1] = '\0';
        return true;
    }
    subprocess_release(out);
    return failure_set(failure, error == ENOENT ? EXIT_UNAVAILABLE : EXIT_FAILED,
                       "%s cannot be run: %s", arguments[0], strerror(error == 0 ? ENOMEM : error));
}

void subprocess_release(subprocess_t *subprocess)
{
    free(subprocess->out);
    free(subprocess->err);
    *subprocess = (subprocess_t){.exit_code = 0};
}
