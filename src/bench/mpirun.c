/* SPDX-License-Identifier: Apache-2.0 */
/* mpirun as a child: what the ranks print passes through here, what mpirun itself has to say of a
 * rank that ended badly becomes a failure, and a deadline bounds it all. */
#include "bench/mpirun.h"

#include "bench/link.h"
#include "bench/pulse.h"
#include "bench/stopping.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long mpirun may take to end its ranks, before it is ended itself. */
enum { END_MS = 5000 };

/* What an overloaded machine may delay a sign of life. */
enum { SILENCE_MARGIN_MS = 10000 };

enum { TICK_MS = 250 };

/* The child's exit code when there is no mpirun. */
enum { NOT_FOUND = 127 };

/* Text that has come so far. */
typedef struct stream {
    int fd; /* -1: closed */
    char *bytes;
    size_t count;
} stream_t;

typedef struct mpirun {
    const plan_t *plan;
    pid_t pid; /* 0: ended and collected */
    int exit_code;
    stream_t out;
    stream_t err;
    bool is_in_notice; /* between the two rules that mpirun draws around a notice */
    bool has_told;     /* something else came on standard error */
    char notice[512];  /* what mpirun said last */
    int32_t lost_rank; /* that mpirun named, or -1 */
    int signal_fd;
    int pulse_fd;
    int64_t started_ms;
    int64_t stopped_ms; /* when mpirun was told to end; 0: not */
    failure_t *failure;
} mpirun_t;

/* A setting that a person may have made otherwise stays. */
static void set_environment(void)
{
    static const char *const settings[][2] = {
        {"OMPI_MCA_pml", "ob1"},
        {"OMPI_MCA_btl", "self,vader"},
        {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
        {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
        {"OMPI_MCA_hwloc_base_binding_policy", "none"},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        (void)setenv(settings[i][0], settings[i][1], 0);
    }
    if (geteuid() == 0) {
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
}

static _Noreturn void be_mpirun(const mpirun_t *run, char **arguments, const int *out,
                                const int *err, pid_t parent)
{
    static char name[] = "mpirun";
    static char count_flag[] = "-n";
    static char command[] = "bench";
    char count[16];
    char program[PATH_MAX] = "";
    sigset_t none;
    size_t argument_count = 0;
    while (arguments[argument_count] != NULL) {
        argument_count++;
    }
    char **all = calloc(argument_count + 6, sizeof(*all));
    if (all == NULL || readlink("/proc/self/exe", program, sizeof(program) - 1) < 0) {
        _exit(EXIT_FAILED);
    }
    (void)snprintf(count, sizeof(count), "%d", run->plan->rank_count);
    char *const first[] = {name, count_flag, count, program, command};
    memcpy(all, first, sizeof(first));
    memcpy(all + 5, arguments, argument_count * sizeof(*all));
    set_environment();
    (void)setpgid(0, 0); /* Ctrl-C at a terminal is for the parent to pass on */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (getppid() != parent || nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 ||
        dup2(out[1], STDOUT_FILENO) < 0 || dup2(err[1], STDERR_FILENO) < 0) {
        _exit(EXIT_FAILED);
    }
    (void)execvp(name, all);
    _exit(NOT_FOUND);
}

static bool start(mpirun_t *run, char **arguments)
{
    int out[2] = {-1, -1};
    int err[2] = {-1, -1};
    pid_t parent = getpid();
    bool is_ready = pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0;
    run->out.fd = out[0];
    run->err.fd = err[0];
    run->pulse_fd = pulse_open();
    (void)fflush(NULL); /* or the child would write it again */
    pid_t pid = is_ready && run->pulse_fd >= 0 ? fork() : -1;
    if (pid == 0) {
        be_mpirun(run, arguments, out, err, parent);
    }
    int error = errno;
    if (out[1] >= 0) {
        (void)close(out[1]);
    }
    if (err[1] >= 0) {
        (void)close(err[1]);
    }
    run->pid = pid > 0 ? pid : 0;
    run->started_ms = link_now_ms();
    return pid > 0 ||
           failure_set(run->failure, EXIT_FAILED, "mpirun cannot be started: %s", strerror(error));
}

static void end(mpirun_t *run)
{
    if (run->stopped_ms == 0 && run->pid != 0) {
        (void)kill(run->pid, SIGTERM);
        run->stopped_ms = link_now_ms();
    }
}

/* One line of standard error. mpirun's own notices stand between two rules; they are kept back. */
static void take_line(mpirun_t *run, const char *line, size_t length)
{
    static const char rule[] = "----------------------------------------";
    if (length > sizeof(rule) && memcmp(line, rule, sizeof(rule) - 1) == 0) {
        run->is_in_notice = !run->is_in_notice;
        return;
    }
    if (!run->is_in_notice) {
        run->has_told = true;
        (void)fwrite(line, 1, length, stderr);
        (void)fputc('\n', stderr);
        return;
    }
    char text[sizeof(run->notice)];
    (void)snprintf(text, sizeof(text), "%.*s", (int)length, line);
    const char *named = strstr(text, "process rank ");
    if (named != NULL) {
        run->lost_rank = (int32_t)strtol(named + strlen("process rank "), NULL, 10);
    }
    if (text[0] != '\0') {
        size_t used = strlen(run->notice);
        (void)snprintf(run->notice + used, sizeof(run->notice) - used, "%s%.400s",
                       used > 0 ? " " : "", text);
    }
}

static void take_lines(mpirun_t *run)
{
    stream_t *err = &run->err;
    size_t start = 0;
    while (start < err->count) {
        const char *newline = memchr(err->bytes + start, '\n', err->count - start);
        if (newline == NULL) {
            break;
        }
        size_t length = (size_t)(newline - err->bytes) - start;
        take_line(run, err->bytes + start, length);
        start += length + 1;
    }
    err->count -= start;
    if (err->count > 0) {
        memmove(err->bytes, err->bytes + start, err->count);
    }
}

static void read_stream(stream_t *stream)
{
    enum { CHUNK_BYTES = 65536 };
    ssize_t got = -1;
    char *bytes = realloc(stream->bytes, stream->count + CHUNK_BYTES);
    if (bytes != NULL) {
        stream->bytes = bytes;
        got = read(stream->fd, bytes + stream->count, CHUNK_BYTES);
    }
    if (got > 0) {
        stream->count += (size_t)got;
    } else if (got == 0 || errno != EINTR) {
        (void)close(stream->fd);
        stream->fd = -1;
    }
}

static void take_signal(mpirun_t *run)
{
    struct signalfd_siginfo info;
    while (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            continue; /* the loop looks anyway */
        }
        failure_set(run->failure, 128 + (int)info.ssi_signo, "stopped by signal %u (%s)",
                    info.ssi_signo, strsignal((int)info.ssi_signo));
        run->failure->signal = (int)info.ssi_signo;
        end(run);
    }
}

/* Ranks have deadlines of their own; this is for when none of them can tell. */
static void look_for_silence(mpirun_t *run)
{
    int64_t timeout_ms = run->plan->options->timeout * 1000;
    for (int32_t rank = 0; rank < run->plan->rank_count && run->stopped_ms == 0; rank++) {
        pulse_t pulse = pulse_of(run->pulse_fd, rank);
        int64_t since_ms = pulse.beat_ms == 0 ? run->started_ms : pulse.beat_ms;
        if (link_now_ms() - since_ms < timeout_ms + SILENCE_MARGIN_MS) {
            continue;
        }
        failure_set(run->failure, EXIT_PEER, "rank %d (process %d) %s", rank, (int)pulse.pid,
                    pulse.beat_ms == 0 ? "was not started by mpirun in time"
                                       : "gave no sign of life");
        run->failure->status = MOXIE_ERR_TIMEOUT;
        failure_blame(run->failure, rank, (pid_t)pulse.pid);
        end(run);
    }
}

static void watch_once(mpirun_t *run)
{
    struct pollfd polled[] = {{.fd = run->out.fd, .events = POLLIN},
                              {.fd = run->err.fd, .events = POLLIN},
                              {.fd = run->signal_fd, .events = POLLIN}};
    (void)poll(polled, sizeof(polled) / sizeof(polled[0]), TICK_MS);
    if (polled[2].revents != 0) {
        take_signal(run);
    }
    if (polled[0].revents != 0 && run->out.fd >= 0) {
        read_stream(&run->out);
    }
    if (polled[1].revents != 0 && run->err.fd >= 0) {
        read_stream(&run->err);
        take_lines(run);
    }
    look_for_silence(run);
    if (run->stopped_ms != 0 && link_now_ms() - run->stopped_ms > END_MS) {
        (void)kill(run->pid, SIGKILL); /* its ranks end with it */
    }
}

static void watch(mpirun_t *run)
{
    int status = 0;
    while (waitpid(run->pid, &status, WNOHANG) == 0) {
        watch_once(run);
    }
    run->pid = 0;
    run->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    struct pollfd left = {.fd = -1, .events = POLLIN};
    while (run->out.fd >= 0 && (left.fd = run->out.fd, poll(&left, 1, TICK_MS) > 0)) {
        read_stream(&run->out);
    }
    while (run->err.fd >= 0 && (left.fd = run->err.fd, poll(&left, 1, TICK_MS) > 0)) {
        read_stream(&run->err);
        take_lines(run);
    }
    if (run->err.count > 0) { /* a last line without an end */
        take_line(run, run->err.bytes, run->err.count);
    }
}

/* How it ended, in the contract's exit codes. */
static bool judge(mpirun_t *run)
{
    failure_t *failure = run->failure;
    if (failure->exit_code != EXIT_DONE) {
        return false; /* this process ended it, and knows why */
    }
    if (run->exit_code == EXIT_DONE) {
        return true;
    }
    if (run->exit_code == NOT_FOUND && run->out.count == 0) {
        return failure_set(failure, EXIT_UNAVAILABLE,
                           "%s: mpirun is not there: install openmpi-bin",
                           run->plan->where[OPTION_BASELINE]);
    }
    bool is_ours = run->exit_code == EXIT_FAILED || run->exit_code == EXIT_USAGE ||
                   run->exit_code == EXIT_PEER || run->exit_code == EXIT_UNAVAILABLE;
    if (is_ours && (run->has_told || run->exit_code == EXIT_PEER)) {
        *failure = (failure_t){.exit_code = run->exit_code};
        if (!run->has_told) { /* mpirun ended the rank that was about to tell */
            failure_set(failure, EXIT_PEER, "a rank was lost or a deadline passed");
        }
        failure->status = run->exit_code == EXIT_PEER ? MOXIE_ERR_PEER_LOST : MOXIE_OK;
        return false;
    }
    if (run->lost_rank < 0) {
        return failure_set(failure, EXIT_FAILED, "mpirun failed (exit code %d)%s%s", run->exit_code,
                           run->notice[0] != '\0' ? ": " : "", run->notice);
    }
    pulse_t pulse = pulse_of(run->pulse_fd, run->lost_rank);
    failure_set(failure, EXIT_PEER, "rank %d (process %d) was lost (exit code %d)", run->lost_rank,
                (int)pulse.pid, run->exit_code);
    failure->status = MOXIE_ERR_PEER_LOST;
    failure_blame(failure, run->lost_rank, (pid_t)pulse.pid);
    return false;
}

static void release(mpirun_t *run, const sigset_t *old_signals)
{
    int *const descriptors[] = {&run->out.fd, &run->err.fd, &run->signal_fd, &run->pulse_fd};
    for (size_t i = 0; i < sizeof(descriptors) / sizeof(descriptors[0]); i++) {
        if (*descriptors[i] >= 0) {
            (void)close(*descriptors[i]);
        }
    }
    free(run->err.bytes);
    (void)sigprocmask(SIG_SETMASK, old_signals, NULL);
}

bool mpirun_run(const plan_t *plan, char **arguments, mpirun_output_t *out, failure_t *failure)
{
    mpirun_t run = {.plan = plan,
                    .lost_rank = -1,
                    .out.fd = -1,
                    .err.fd = -1,
                    .pulse_fd = -1,
                    .failure = failure};
    sigset_t signals;
    sigset_t old_signals;
    stop_signals(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &signals, &old_signals);
    run.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    bool is_done =
        run.signal_fd >= 0 ||
        failure_set(failure, EXIT_FAILED, "mpirun cannot be watched: %s", strerror(errno));
    is_done = is_done && start(&run, arguments);
    if (is_done) {
        watch(&run);
        is_done = judge(&run);
    }
    *out = (mpirun_output_t){run.out.bytes, run.out.count};
    release(&run, &old_signals);
    return is_done;
}
