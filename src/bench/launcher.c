/* SPDX-License-Identifier: Apache-2.0 */
/* Recognises launchers by their environment variables. */
#include "bench/launcher.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

typedef struct launcher_row {
    const char *name;
    const char *rank_variable;
    const char *size_variable;
    const char *step_variable; /* must be there too; srun's are also in shells inside a job */
} launcher_row_t;

static const launcher_row_t launchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"},
    {"srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID"},
    {"torchrun", "RANK", "WORLD_SIZE", "WORLD_SIZE"},
};

/* A whole number in [least, most] of an environment variable. */
static bool read_number(const char *variable, long least, long most, int32_t *number,
                        failure_t *failure)
{
    const char *text = getenv(variable);
    char *end = NULL;
    errno = 0;
    long value = isdigit((unsigned char)text[0]) ? strtol(text, &end, 10) : -1;
    if (value < least || value > most || errno != 0 || *end != '\0')
        return failure_set(failure, EXIT_USAGE,
                           "environment variable %s: '%.100s' is not a number from %ld to %ld",
                           variable, text, least, most);
    *number = (int32_t)value;
    return true;
}

bool launcher_find(launcher_t *out, failure_t *failure)
{
    *out = (launcher_t){.rank_count = 1};
    for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
        const launcher_row_t *row = &launchers[i];
        if (getenv(row->rank_variable) == NULL || getenv(row->size_variable) == NULL ||
            getenv(row->step_variable) == NULL)
            continue;
        out->name = row->name;
        out->size_variable = row->size_variable;
        return read_number(row->size_variable, 1, INT32_MAX, &out->rank_count, failure) &&
               read_number(row->rank_variable, 0, out->rank_count - 1L, &out->rank, failure);
    }
    return true;
}
