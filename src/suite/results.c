/* SPDX-License-Identifier: Apache-2.0 */
/* Writes what other programs read. */
#include "suite/results.h"

#include "bench/record.h"
#include "bench/trace.h"
#include "suite/matrices.h"
#include "suite/tree.h"

bool results_write_json(const char *folder, const char *name, const json_t *document,
                        failure_t *failure)
{
    FILE *out = tree_open(folder, name, failure);
    if (out == NULL)
        return false;
    (void)record_write(document, out);
    return tree_close(out, folder, name, failure);
}

static bool write_trace(const json_t *trace, const char *folder, failure_t *failure)
{
    static const char name[] = "trace.json";
    FILE *out = trace == NULL ? NULL : tree_open(folder, name, failure);
    if (out == NULL)
        return trace == NULL;
    (void)trace_write(trace, out);
    return tree_close(out, folder, name, failure);
}

bool results_write(const plan_t *plan, const json_t *list, const json_t *trace, const char *folder,
                   failure_t *failure)
{
    return results_write_json(folder, "results.json", list, failure) &&
           matrices_write(plan, folder, failure) && write_trace(trace, folder, failure);
}
