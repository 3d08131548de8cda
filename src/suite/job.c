/* SPDX-License-Identifier: Apache-2.0 */
/* Unrolls iterations and sweeps. */
#include "suite/job.h"

#include <stdlib.h>

setting_value_t job_value(const job_t *job, setting_id_t id)
{
    return setting_value(&job->entry->test.settings[id], id, job->value_index[id]);
}

const char *job_variable(const job_t *job, int32_t index)
{
    return variable_value(&job->entry->test.variables.list[index], job->variable_index[index]);
}

/* Takes the digit of a sweep off a number that counts the steps. */
static int32_t take_digit(int64_t *number, int32_t value_count)
{
    int32_t digit = (int32_t)(*number % value_count);
    *number /= value_count;
    return digit;
}

/* Step `number`, counted from 0. */
static bool make_job(const entry_t *entry, int32_t iteration, int64_t number, bool is_sweep,
                     job_t *out)
{
    const variables_t *variables = &entry->test.variables;
    *out = (job_t){.entry = entry,
                   .iteration = iteration,
                   .step = is_sweep ? (int32_t)number + 1 : 0,
                   .variable_index = calloc((size_t)variables->count + 1, sizeof(int32_t))};
    int length = is_sweep ? asprintf(&out->folder, "%s/%d/%d", entry->id, iteration, out->step)
                          : asprintf(&out->folder, "%s/%d", entry->id, iteration);
    out->folder = length < 0 ? NULL : out->folder;
    if (out->variable_index == NULL || out->folder == NULL)
        return false;
    for (int32_t i = variables->count; i-- > 0;)
        out->variable_index[i] = take_digit(&number, variables->list[i].value_count);
    for (int i = SETTING_COUNT; i-- > 0;)
        out->value_index[i] = take_digit(&number, entry->test.settings[i].value_count);
    out->node_count = entry_node_count(entry, (int32_t)number);
    return true;
}

bool jobs_make(const scenario_t *scenario, jobs_t *out)
{
    size_t count = 0;
    bool is_made = true;
    for (int32_t i = 0; i < scenario->entry_count; i++)
        count += (size_t)scenario->entries[i].iterations *
                 (size_t)entry_step_count(&scenario->entries[i]);
    *out = (jobs_t){.list = calloc(count + 1, sizeof(job_t))};
    for (int32_t i = 0; i < scenario->entry_count && out->list != NULL; i++) {
        const entry_t *entry = &scenario->entries[scenario->order[i]];
        int64_t step_count = entry_step_count(entry);
        for (int64_t at = 0; at < entry->iterations * step_count && is_made; at++)
            is_made = make_job(entry, (int32_t)(at / step_count), at % step_count, step_count > 1,
                               &out->list[out->count++]);
    }
    return is_made && out->list != NULL;
}

void jobs_release(jobs_t *jobs)
{
    for (int32_t i = 0; i < jobs->count; i++) {
        free(jobs->list[i].variable_index);
        free(jobs->list[i].folder);
    }
    free(jobs->list);
    *jobs = (jobs_t){0};
}
