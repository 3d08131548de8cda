/* SPDX-License-Identifier: Apache-2.0 */
/* Sets variables and takes them back. */
#include "suite/environment.h"

#include "suite/inputs.h"

#include <stdlib.h>
#include <string.h>

/* Remembers what a variable was. False: no memory. */
static bool remember(environment_t *environment, const char *name)
{
    const char *before = getenv(name);
    environment_change_t *grown =
        realloc(environment->changes, (environment->count + 1) * sizeof(*grown));
    if (grown == NULL)
        return false;
    environment->changes = grown;
    environment_change_t *change = &environment->changes[environment->count];
    *change = (environment_change_t){strdup(name), before == NULL ? NULL : strdup(before)};
    if (change->name != NULL && (before == NULL || change->before != NULL)) {
        environment->count++;
        return true;
    }
    free(change->name);
    free(change->before);
    return false;
}

static void set_variable(void *ctx, const char *name, const char *value)
{
    environment_t *environment = ctx;
    if (!remember(environment, name) || setenv(name, value, 1) != 0)
        environment->is_out_of_memory = true;
}

bool environment_enter(environment_t *environment, const suite_session_t *session, const job_t *job)
{
    *environment = (environment_t){.changes = NULL};
    inputs_each_variable(session, job, set_variable, environment);
    return !environment->is_out_of_memory;
}

bool environment_without(environment_t *environment, const char *const names[], size_t count)
{
    *environment = (environment_t){.changes = NULL};
    for (size_t i = 0; i < count; i++)
        if (getenv(names[i]) != NULL &&
            (!remember(environment, names[i]) || unsetenv(names[i]) != 0))
            return false;
    return true;
}

void environment_leave(environment_t *environment)
{
    while (environment->count > 0) {
        environment_change_t *change = &environment->changes[--environment->count];
        if (change->before == NULL)
            (void)unsetenv(change->name);
        else
            (void)setenv(change->name, change->before, 1);
        free(change->name);
        free(change->before);
    }
    free(environment->changes);
    *environment = (environment_t){.changes = NULL};
}

static void add_variable(void *ctx, const char *name, const char *value)
{
    json_object_set_new(ctx, name, json_string(value));
}

json_t *environment_json(const suite_session_t *session, const job_t *job)
{
    json_t *variables = json_object();
    inputs_each_variable(session, job, add_variable, variables);
    return variables;
}
