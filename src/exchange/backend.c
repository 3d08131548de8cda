/* SPDX-License-Identifier: Apache-2.0 */
/* The table of backends. */
#include "exchange/backend.h"

#include "core/error.h"
#include "core/options.h"
#include "exchange/shm/shm.h"

#include <stdio.h>
#include <string.h>

/* In the order of moxie_backend_probe(), which older programs know: a new one goes to the end. The
 * later, the better. What memory a call may be given depends on the backend, so a device's is never
 * chosen for a caller that did not name it. */
static const backend_t *const backends[] = {&shm_backend, &cuda_backend};

#define BACKEND_COUNT ((int32_t)(sizeof(backends) / sizeof(backends[0])))

static void probe(const backend_t *backend, moxie_backend_info_t *out)
{
    memset(out, 0, sizeof(*out));
    out->size = sizeof(*out);
    out->capabilities = backend->capabilities;
    snprintf(out->name, sizeof(out->name), "%s", backend->name);
    backend->probe(out);
}

int32_t moxie_backend_count(void)
{
    return BACKEND_COUNT;
}

moxie_status_t moxie_backend_probe(int32_t index, moxie_backend_info_t *out)
{
    if (index < 0 || index >= BACKEND_COUNT) {
        return error_set(MOXIE_ERR_ARGUMENT, "there is no backend %d of %d", index, BACKEND_COUNT);
    }
    moxie_backend_info_t info;
    probe(backends[index], &info);
    return options_write_checked(out, &info, sizeof(info), "backend info");
}

moxie_status_t backend_select(const char *name, const backend_t **out)
{
    const int any = name == NULL || strcmp(name, "auto") == 0;
    moxie_backend_info_t info = MOXIE_BACKEND_INFO_INIT;
    for (int32_t i = BACKEND_COUNT - 1; i >= 0; i--) {
        const int is_device = (backends[i]->capabilities & MOXIE_CAP_STREAM) != 0;
        if (any ? is_device : strcmp(name, backends[i]->name) != 0) {
            continue;
        }
        probe(backends[i], &info);
        if (info.available) {
            *out = backends[i];
            return MOXIE_OK;
        }
        if (!any) {
            return error_set(MOXIE_ERR_UNAVAILABLE, "backend %s: %s", info.name, info.reason);
        }
    }
    return any ? error_set(MOXIE_ERR_UNAVAILABLE,
                           "no backend works here; the last one tried, %s: "
                           "%s",
                           info.name, info.reason)
               : error_set(MOXIE_ERR_UNAVAILABLE, "this libmoxie has no backend '%s'", name);
}
