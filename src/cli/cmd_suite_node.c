/* SPDX-License-Identifier: Apache-2.0 */
/* moxie suite node: what a task of a Slurm job says of itself and its node. */
#include "bench/machine.h"
#include "cli/cli.h"
#include "cli/gpus.h"
#include "suite/metadata.h"

#include <argp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static error_t take(int key, char *argument, struct argp_state *state)
{
    const char **folder = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (state->arg_num > 0)
            argp_error(state, "'%s' is one argument too many", argument);
        if (argument[0] == '\0')
            argp_error(state, "DIR must not be empty");
        *folder = argument;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "DIR is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* A variable, or what stands for one that is not set. */
static const char *variable(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value == NULL ? otherwise : value;
}

static bool describe_node(const char *host, const char *folder, failure_t *failure)
{
    json_t *machine = machine_json();
    json_t *gpus = gpus_json();
    metadata_node_t node = {.host = host,
                            .machine = machine,
                            .gpus = gpus,
                            .cluster_name = getenv("SLURM_CLUSTER_NAME"),
                            .node_list = getenv("SLURM_JOB_NODELIST"),
                            .num_nodes = getenv("SLURM_JOB_NUM_NODES"),
                            .ntasks_per_node = getenv("SLURM_NTASKS_PER_NODE"),
                            .ntasks = getenv("SLURM_NTASKS"),
                            .job_id = getenv("SLURM_JOB_ID")};
    bool is_written = metadata_write_node(&node, folder, failure);
    json_decref(machine);
    json_decref(gpus);
    return is_written;
}

int cmd_suite_node(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = take,
        .args_doc = "DIR",
        .doc = "Says on standard output which task of a Slurm job this is and where it runs, and "
               "writes what its node is like into DIR/node-HOST.toml, once a node. The scripts of "
               "moxie suite run call it before the benchmark.\v"
               "Exit codes: 0 done; 1 the file could not be written; 2 bad usage."};
    const char *folder = NULL;
    char host[HOST_NAME_MAX + 1] = "localhost";
    failure_t failure = {.exit_code = EXIT_DONE};
    if (argp_parse(&argp, argc, argv, 0, NULL, (void *)&folder) != 0)
        return EXIT_USAGE;
    (void)gethostname(host, sizeof(host) - 1);
    const char *local_task = variable("SLURM_LOCALID", "0");
    (void)printf("task %s node %s local_task %s host %s\n", variable("SLURM_PROCID", "0"),
                 variable("SLURM_NODEID", "0"), local_task, host);
    (void)fflush(stdout);
    if (strcmp(local_task, "0") == 0 && !describe_node(host, folder, &failure))
        return cli_fail(argv[0], &failure);
    return EXIT_DONE;
}
