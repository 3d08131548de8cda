/* SPDX-License-Identifier: Apache-2.0 */
/* Asks on standard error and reads from standard input. */
#include "suite/question.h"

#include "bench/stopping.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Milliseconds between two looks for a signal. */
enum { LOOK_MS = 200 };

/* Whether somebody is there who can answer. */
static bool has_person(void)
{
    return isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1 &&
           tcgetpgrp(STDIN_FILENO) == getpgrp();
}

static bool take_signal(void)
{
    sigset_t stopping;
    struct timespec now = {0};
    stop_signals(&stopping);
    return sigtimedwait(&stopping, NULL, &now) > 0;
}

bool question_yes(const char *format, ...)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char answer[64];
    va_list values;
    if (!has_person())
        return true;
    va_start(values, format);
    (void)fputc('\n', stderr);
    (void)vfprintf(stderr, format, values);
    (void)fputs(" [Y/n] ", stderr);
    va_end(values);
    while (poll(&input, 1, LOOK_MS) <= 0)
        if (take_signal()) {
            (void)fputc('\n', stderr);
            return true;
        }
    ssize_t count = read(STDIN_FILENO, answer, sizeof(answer));
    return count < 1 || (answer[0] != 'n' && answer[0] != 'N');
}
