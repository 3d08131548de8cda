/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what a job wrote on standard error. */
#include "suite/complaint.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What slurmstepd says when a step of a job took too much: by the accounting's samples
 * (JobAcctGatherParams=OverMemoryKill), and by the cgroup, before Slurm 23.02 and since. */
#define MEMORY_PATTERN                                                                             \
    "^StepId=%" PRId64 "\\.[^ ]+ exceeded (virtual )?memory limit \\([0-9]+ > [0-9]+\\), "         \
    "being killed$|"                                                                               \
    "^Detected [0-9]+ oom(-kill event\\(s\\)|_kill events?) in StepId=%" PRId64 "\\."

static bool compile_pattern(int64_t id, regex_t *out)
{
    char text[sizeof(MEMORY_PATTERN) + 64];
    (void)snprintf(text, sizeof(text), MEMORY_PATTERN, id, id);
    return regcomp(out, text, REG_EXTENDED | REG_NOSUB) == 0;
}

/* What is behind "slurmstepd: error: "; NULL: the line is somebody else's. `srun --label` puts
 * "0: " before it, and a Slurm with several nodes on one machine the node, "slurmstepd-n1". */
static const char *find_stepd(const char *line)
{
    static const char name[] = "slurmstepd";
    static const char error[] = ": error: ";
    size_t label = strspn(line, "0123456789");
    if (label > 0 && strncmp(line + label, ": ", 2) == 0)
        line += label + 2;
    if (strncmp(line, name, strlen(name)) != 0)
        return NULL;
    line += strlen(name);
    if (*line == '-')
        line += strcspn(line, ": ");
    return strncmp(line, error, strlen(error)) == 0 ? line + strlen(error) : NULL;
}

/* What Slurm adds to whatever happened: "srun: error: n1: task 0: Exited with exit code 2" … */
static bool is_echo(const char *line)
{
    static const char *const echoes[] = {"srun: Job ", "srun: Step created", "srun: Terminating",
                                         "srun: launch"};
    const char *stepd = find_stepd(line);
    for (size_t i = 0; i < sizeof(echoes) / sizeof(echoes[0]); i++)
        if (strncmp(line, echoes[i], strlen(echoes[i])) == 0)
            return true;
    return (strncmp(line, "srun: error: ", 13) == 0 && strstr(line, ": task") != NULL) ||
           (stepd != NULL && strncmp(stepd, "***", 3) == 0);
}

static void keep(char out[COMPLAINT_LINE_BYTES], const char *line)
{
    (void)snprintf(out, COMPLAINT_LINE_BYTES, "%s", line);
    for (char *c = out; *c != '\0'; c++)
        *c = iscntrl((unsigned char)*c) ? ' ' : *c;
}

/* The last lines of a file, so far. */
typedef struct tail {
    char before[COMPLAINT_LINE_BYTES];
    char last[COMPLAINT_LINE_BYTES];
} tail_t;

static void take_line(tail_t *tail, const char *line)
{
    if (line[0] == '\0' || strncmp(line, tail->last, COMPLAINT_LINE_BYTES - 1) == 0 ||
        (is_echo(line) && tail->last[0] != '\0'))
        return;
    keep(tail->before, is_echo(tail->last) ? "" : tail->last);
    keep(tail->last, line);
}

static void read_lines(FILE *file, const regex_t *pattern, complaint_t *out)
{
    char *line = NULL;
    size_t room = 0;
    tail_t tail = {.last = ""};
    while (getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        take_line(&tail, line);
        const char *stepd = find_stepd(line);
        if (stepd != NULL && out->memory[0] == '\0' && regexec(pattern, stepd, 0, NULL, 0) == 0)
            keep(out->memory, stepd);
    }
    (void)snprintf(out->words, sizeof(out->words), "%s%s%s", tail.before,
                   tail.before[0] == '\0' ? "" : "; ", tail.last);
    free(line);
}

bool complaint_read(const char *folder, int64_t id, complaint_t *out, failure_t *failure)
{
    char path[PATH_MAX];
    regex_t pattern;
    *out = (complaint_t){.words = ""};
    if (!compile_pattern(id, &pattern))
        return failure_set(failure, EXIT_FAILED, "not enough memory to read what a job said");
    (void)snprintf(path, sizeof(path), "%s/stderr.txt", folder);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        read_lines(file, &pattern, out);
        (void)fclose(file);
    }
    regfree(&pattern);
    return true;
}
