/* SPDX-License-Identifier: Apache-2.0 */
/* Calls the commands of Slurm and reads what they print. */
#include "suite/slurm.h"

#include "suite/subprocess.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Jobs of one call of scancel at most: its command line has a limit. */
enum { CANCEL_COUNT_MAX = 1000 };

/* What a command complained of last; it names itself. Behind a bad option it says 'Try "sbatch
 * --help" for more information'. */
static bool complain(const char *command, char *err, failure_t *failure)
{
    char *line = strrchr(err, '\n');
    if (line != NULL && strncmp(line, "\nTry ", 5) == 0) {
        *line = '\0';
        line = strrchr(err, '\n');
    }
    if (err[0] == '\0')
        return failure_set(failure, EXIT_FAILED, "%s failed and did not say why", command);
    return failure_set(failure, EXIT_FAILED, "%s", line == NULL ? err : line + 1);
}

/* Runs a command; what it complains of is a failure. */
static bool call(const char *const arguments[], subprocess_t *out, failure_t *failure)
{
    if (!subprocess_run(arguments, out, failure))
        return false;
    if (out->exit_code == 0)
        return true;
    (void)complain(arguments[0], out->err, failure);
    subprocess_release(out);
    return false;
}

bool slurm_submit(const char *folder, const char *dependency, int64_t *id, failure_t *failure)
{
    subprocess_t said;
    char *option = NULL;
    char *script = NULL;
    bool is_read = false;
    if (asprintf(&option, "--dependency=%s", dependency) < 0 ||
        asprintf(&script, "%s/cloudai_sbatch_script.sh", folder) < 0) {
        free(option);
        return failure_set(failure, EXIT_FAILED, "not enough memory for a command");
    }
    const char *const plain[] = {"sbatch", "--parsable", script, NULL};
    const char *const behind[] = {"sbatch", "--parsable", option, script, NULL};
    if (call(dependency[0] == '\0' ? plain : behind, &said, failure)) {
        char *end = NULL;
        *id = strtoll(said.out, &end, 10);
        is_read = *id > 0 && (*end == '\n' || *end == ';' || *end == '\0');
        if (!is_read)
            failure_set(failure, EXIT_FAILED, "sbatch: '%.100s' is no number of a job", said.out);
        subprocess_release(&said);
    }
    free(option);
    free(script);
    return is_read;
}

/* Cuts the first line off a text; returns what is behind it. */
static char *cut_line(char *text)
{
    char *end = text + strcspn(text, "\n");
    if (*end != '\0')
        *end++ = '\0';
    return end;
}

/* Cuts a line at its bars; what is missing is empty, and the last field has all the rest. */
static void split(char *line, char *fields[], int count)
{
    for (int i = 0; i < count; i++) {
        char *end = line + (i + 1 < count ? strcspn(line, "|") : strlen(line));
        fields[i] = line;
        line = *end == '\0' ? end : end + 1;
        *end = '\0';
    }
}

/* What is there; Slurm has several words for what is not. */
static const char *known(const char *text)
{
    static const char *const nothing[] = {"(null)", "None", "Unknown", "N/A", "None assigned"};
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
        if (strcmp(text, nothing[i]) == 0)
            return "";
    return text;
}

static void set_nodes(slurm_job_t *job, const char *text)
{
    free(job->nodes);
    job->nodes = known(text)[0] == '\0' ? NULL : strdup(text);
}

/* "CANCELLED by 1000": the word. */
static void set_state(slurm_job_t *job, const char *text)
{
    (void)snprintf(job->state, sizeof(job->state), "%.*s", (int)strcspn(text, " +"), text);
}

static bool add_row(slurm_queue_t *queue, char *line)
{
    enum { ID, STATE, NODES, REASON, COUNT };
    char *fields[COUNT];
    split(line, fields, COUNT);
    slurm_row_t *grown = realloc(queue->rows, (queue->count + 1) * sizeof(*grown));
    if (grown == NULL)
        return false;
    queue->rows = grown;
    slurm_row_t *row = &queue->rows[queue->count++];
    *row = (slurm_row_t){.id = strtoll(fields[ID], NULL, 10)};
    set_state(&row->job, fields[STATE]);
    set_nodes(&row->job, fields[NODES]);
    (void)snprintf(row->job.reason, sizeof(row->job.reason), "%s", known(fields[REASON]));
    return true;
}

bool slurm_read_queue(slurm_queue_t *out, failure_t *failure)
{
    char user[32];
    subprocess_t said;
    const char *const arguments[] = {
        "squeue", "--noheader", "--states=all", "--user", user, "--format=%A|%T|%N|%r", NULL};
    bool is_read = true;
    *out = (slurm_queue_t){.rows = NULL};
    (void)snprintf(user, sizeof(user), "%u", geteuid());
    if (!call(arguments, &said, failure))
        return false;
    for (char *line = said.out; *line != '\0' && is_read;) {
        char *next = cut_line(line);
        is_read = add_row(out, line);
        line = next;
    }
    subprocess_release(&said);
    return is_read || failure_set(failure, EXIT_FAILED, "not enough memory for the queue");
}

void slurm_release_queue(slurm_queue_t *queue)
{
    for (size_t i = 0; i < queue->count; i++)
        slurm_release_job(&queue->rows[i].job);
    free(queue->rows);
    *queue = (slurm_queue_t){.rows = NULL};
}

/* Where the value of a key is in what `scontrol show job` prints: in the line that begins with
 * `first`, for what persons wrote, names and accounts, is in lines of its own and has no newlines
 * (keys.c, name.c). The value's bytes; 0: it is not there. */
static int find_word(const char *text, const char *first, const char *key, const char **out)
{
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), "\n   %s=", first);
    const char *line = strstr(text, wanted);
    if (line == NULL)
        return 0;
    line++;
    (void)snprintf(wanted, sizeof(wanted), " %s=", key);
    const char *at = strstr(line, wanted);
    if (at == NULL || at > line + strcspn(line, "\n"))
        return 0;
    *out = at + strlen(wanted);
    return (int)strcspn(*out, " \n");
}

static const char *word_of(const char *text, const char *first, const char *key, char *out,
                           size_t size)
{
    const char *at = "";
    int length = find_word(text, first, key, &at);
    (void)snprintf(out, size, "%.*s", length, at);
    return known(out);
}

/* "1-02:03:04" */
static int64_t seconds_of(const char *text)
{
    const char *dash = strchr(text, '-');
    int64_t seconds = 0;
    int64_t part = 0;
    for (const char *c = dash == NULL ? text : dash + 1; *c != '\0'; c++) {
        if (*c == ':') {
            seconds = (seconds + part) * 60;
            part = 0;
        } else if (*c >= '0' && *c <= '9') {
            part = part * 10 + (*c - '0');
        } else {
            break;
        }
    }
    return seconds + part + (dash == NULL ? 0 : 86400 * strtoll(text, NULL, 10));
}

static void set_exit(slurm_job_t *job, const char *text)
{
    char *end = NULL;
    job->exit_code = (int)strtol(text, &end, 10);
    job->signal = *end == ':' ? (int)strtol(end + 1, NULL, 10) : 0;
}

static void read_controller(slurm_job_t *job, const char *text)
{
    char word[128];
    const char *nodes = "";
    set_state(job, word_of(text, "JobState", "JobState", word, sizeof(word)));
    (void)snprintf(job->reason, sizeof(job->reason), "%s",
                   word_of(text, "JobState", "Reason", word, sizeof(word)));
    set_exit(job, word_of(text, "Requeue", "ExitCode", word, sizeof(word)));
    job->elapsed_s = seconds_of(word_of(text, "RunTime", "RunTime", word, sizeof(word)));
    (void)snprintf(job->start_time, sizeof(job->start_time), "%.31s",
                   word_of(text, "StartTime", "StartTime", word, sizeof(word)));
    (void)snprintf(job->end_time, sizeof(job->end_time), "%.31s",
                   word_of(text, "StartTime", "EndTime", word, sizeof(word)));
    int length = find_word(text, "NodeList", "NodeList", &nodes);
    char *list = strndup(nodes, (size_t)length);
    if (list != NULL)
        set_nodes(job, list);
    free(list);
}

/* What sacct is asked for; the name, in which anything can stand, last. */
static const char accounting_format[] =
    "--format=JobID,State,ExitCode,Start,End,Elapsed,NodeList,JobName";

enum {
    FIELD_ID,
    FIELD_STATE,
    FIELD_EXIT,
    FIELD_START,
    FIELD_END,
    FIELD_ELAPSED,
    FIELD_NODES,
    FIELD_NAME,
    FIELD_COUNT
};

static void read_accounting(slurm_job_t *job, char *const fields[FIELD_COUNT])
{
    set_state(job, fields[FIELD_STATE]);
    set_exit(job, fields[FIELD_EXIT]);
    (void)snprintf(job->start_time, sizeof(job->start_time), "%s", known(fields[FIELD_START]));
    (void)snprintf(job->end_time, sizeof(job->end_time), "%s", known(fields[FIELD_END]));
    job->elapsed_s = seconds_of(fields[FIELD_ELAPSED]);
    set_nodes(job, fields[FIELD_NODES]);
}

bool slurm_read_job(int64_t id, slurm_job_t *out, failure_t *failure)
{
    char number[32];
    subprocess_t said;
    const char *const ask[] = {"scontrol", "show", "job", number, NULL};
    const char *const look_up[] = {"sacct",  "--noheader", "--parsable2",     "--allocations",
                                   "--jobs", number,       accounting_format, NULL};
    *out = (slurm_job_t){.exit_code = 0};
    (void)snprintf(number, sizeof(number), "%" PRId64, id);
    if (!subprocess_run(ask, &said, failure))
        return false;
    if (said.exit_code == 0) {
        read_controller(out, said.out);
        subprocess_release(&said);
        return true;
    }
    bool is_forgotten = strstr(said.err, "Invalid job id") != NULL;
    if (!is_forgotten)
        (void)complain("scontrol", said.err, failure);
    subprocess_release(&said);
    if (!is_forgotten || !subprocess_run(look_up, &said, failure))
        return false;
    if (said.exit_code == 0 && said.out[0] != '\0') {
        char *fields[FIELD_COUNT];
        (void)cut_line(said.out);
        split(said.out, fields, FIELD_COUNT);
        read_accounting(out, fields);
    }
    subprocess_release(&said);
    return true;
}

void slurm_release_job(slurm_job_t *job)
{
    free(job->nodes);
    *job = (slurm_job_t){.exit_code = 0};
}

static json_t *step_json(char *const fields[FIELD_COUNT])
{
    slurm_job_t step = {.exit_code = 0};
    read_accounting(&step, fields);
    json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I}", "id", fields[FIELD_ID], "name",
                             fields[FIELD_NAME], "state", step.state, "exit_code",
                             fields[FIELD_EXIT], "start_time", step.start_time, "end_time",
                             step.end_time, "elapsed_time_sec", (json_int_t)step.elapsed_s);
    slurm_release_job(&step);
    return json;
}

json_t *slurm_steps(int64_t id)
{
    char number[32];
    subprocess_t said;
    failure_t none = {.exit_code = EXIT_DONE};
    json_t *steps = json_array();
    const char *const arguments[] = {"sacct", "--noheader",      "--parsable2", "--jobs",
                                     number,  accounting_format, NULL};
    (void)snprintf(number, sizeof(number), "%" PRId64, id);
    if (!subprocess_run(arguments, &said, &none))
        return steps;
    for (char *line = said.out; said.exit_code == 0 && *line != '\0';) {
        char *next = cut_line(line);
        char *fields[FIELD_COUNT];
        split(line, fields, FIELD_COUNT);
        if (strchr(fields[FIELD_ID], '.') != NULL) /* "12.0": a step of job 12 */
            json_array_append_new(steps, step_json(fields));
        line = next;
    }
    subprocess_release(&said);
    return steps;
}

bool slurm_cancel(const int64_t *ids, size_t count, failure_t *failure)
{
    bool is_done = true;
    for (size_t done = 0; done < count;) {
        const char *arguments[CANCEL_COUNT_MAX + 2] = {"scancel"};
        char numbers[CANCEL_COUNT_MAX][24];
        subprocess_t said;
        size_t now = count - done < CANCEL_COUNT_MAX ? count - done : CANCEL_COUNT_MAX;
        for (size_t i = 0; i < now; i++) {
            (void)snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, ids[done + i]);
            arguments[1 + i] = numbers[i];
        }
        if (call(arguments, &said, failure))
            subprocess_release(&said);
        else
            is_done = false;
        done += now;
    }
    return is_done;
}

bool slurm_is_final(const char *state)
{
    static const char *const final[] = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE",
                                        "FAILED",    "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY",
                                        "REVOKED",   "TIMEOUT"};
    for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++)
        if (strcmp(state, final[i]) == 0)
            return true;
    return false;
}

bool slurm_is_hopeless(const char *reason)
{
    static const char *const hopeless[] = {
        "AccountNotAllowed",  "BadConstraints",     "DependencyNeverSatisfied",
        "InvalidAccount",     "InvalidQOS",         "PartitionConfig",
        "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed"};
    for (size_t i = 0; i < sizeof(hopeless) / sizeof(hopeless[0]); i++)
        if (strcmp(reason, hopeless[i]) == 0)
            return true;
    /* "QOSMaxNodePerJobLimit" …: it asks for more than any job may have. */
    return strstr(reason, "PerJob") != NULL;
}

bool slurm_has_gpus(void)
{
    static const char *const arguments[] = {"scontrol", "show", "config", NULL};
    failure_t none = {.exit_code = EXIT_DONE};
    subprocess_t said;
    if (!call(arguments, &said, &none))
        return false;
    const char *line = strstr(said.out, "\nGresTypes");
    const char *found = line == NULL ? NULL : strstr(line, "gpu");
    bool has = found != NULL && found < line + 1 + strcspn(line + 1, "\n");
    subprocess_release(&said);
    return has;
}

bool slurm_list_nodes(char **out, failure_t *failure)
{
    static const char *const arguments[] = {"sinfo", "--noheader", "--Node", "--format=%N|%R|%T",
                                            NULL};
    subprocess_t said;
    *out = NULL;
    if (!call(arguments, &said, failure))
        return false;
    *out = said.out;
    said.out = NULL;
    subprocess_release(&said);
    return true;
}
