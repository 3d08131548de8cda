/* SPDX-License-Identifier: Apache-2.0 */
/* Probes in a child. */
#include "support/backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Some knobs ask for what not every processor has: only a group can tell. */
static void try_group(found_backend_t *found)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    options.rank_count = 1;
    options.backend = found->info.name;
    moxie_group_t *group = NULL;
    if (moxie_group_create(&options, &group) == MOXIE_ERR_UNSUPPORTED) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        (void)moxie_last_error(&error);
        memcpy(found->missing, error.message, sizeof(found->missing));
    }
    moxie_group_destroy(group);
}

static int look(int32_t index, found_backend_t *found)
{
    found->info = (moxie_backend_info_t)MOXIE_BACKEND_INFO_INIT;
    if (moxie_backend_probe(index, &found->info) != MOXIE_OK) {
        return 1;
    }
    if (!found->info.available) {
        snprintf(found->missing, sizeof(found->missing), "%s", found->info.reason);
        return 0;
    }
    if ((found->info.capabilities & MOXIE_CAP_STREAM) != 0) {
        found->device_count = device_count();
    }
    try_group(found);
    return 0;
}

bool backends_look(int32_t index, found_backend_t *out)
{
    if (index >= moxie_backend_count()) {
        return false;
    }
    found_backend_t *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        abort();
    }
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        exit(look(index, shared));
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "backend %d could not be looked at\n", index);
        abort();
    }
    *out = *shared;
    munmap(shared, sizeof(*shared));
    return true;
}

bool backends_find(const char *name, found_backend_t *out)
{
    for (int32_t i = 0; backends_look(i, out); i++) {
        if (strcmp(out->info.name, name) == 0) {
            return true;
        }
    }
    return false;
}

const char *backends_wanted(const char *fallback)
{
    const char *name = getenv("MOXIE_TEST_BACKEND");
    return name != NULL && name[0] != '\0' ? name : fallback;
}

const char *backends_lack(const found_backend_t *found, world_mode_t mode, int32_t rank_count,
                          char *text, size_t bytes)
{
    snprintf(text, bytes, "%s", found->missing);
    if (found->missing[0] == '\0' && found->device_count > 0 && mode == WORLD_PROCESSES &&
        rank_count > found->device_count) {
        snprintf(text, bytes, "%d processes need as many GPUs, and there are %d", rank_count,
                 found->device_count);
    }
    return text;
}

int backends_run_modes(const char *mode, int (*run)(world_mode_t mode))
{
    int failed = 0;
    int played = 0;
    for (int as = WORLD_PROCESSES; as <= WORLD_THREADS; as++) {
        if (mode == NULL || (strcmp(mode, "threads") == 0) == (as == WORLD_THREADS)) {
            const int result = run((world_mode_t)as);
            failed += result > 0 ? result : 0;
            played += result >= 0;
        }
    }
    if (played == 0) {
        return EXIT_SKIPPED;
    }
    return failed == 0 ? 0 : 1;
}
