/* SPDX-License-Identifier: Apache-2.0 */
/* Runs build/moxie as a person would, in a folder of its own, and keeps what it said. */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

#include <jansson.h>
#include <sys/types.h>

/* What a run did. */
typedef struct program {
    pid_t pid;
    int exit_code; /* -1: ended by a signal */
    int signal;    /* that signal, or 0 */
    char *out;     /* standard output */
    char *err;     /* standard error */
} program_t;

/* The program to run; and a new folder that becomes the current one, with "run" in it for what the
 * program keeps while it runs. */
void program_setup(const char *path);

/* Removes the folder. */
void program_teardown(void);

/* Writes a file into the folder. */
void program_write_file(const char *name, const void *bytes, size_t count);

/* Runs it to its end; arguments are separated by spaces, '' is an empty one. */
program_t program_run(const char *arguments);

/* Starts it, in a process group of its own, with SIGINT as a terminal has it. */
program_t program_start(const char *arguments);

/* Waits for the end of a started one. */
void program_finish(program_t *program);

/* A rank of a started one: the process of its n-th child, once it has that many. */
pid_t program_child(const program_t *program, int index);

/* The one JSON document on its standard output; the test fails when there is anything else. */
json_t *program_json(const program_t *program);

/* Fails when a process of the run is still there, or a file in "run" or in the folder that was not
 * there before the run. */
void program_check_clean(const program_t *program);

/* Frees what it said. */
void program_release(program_t *program);

#endif
