/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the options of Pyxis, Slurm's plug-in for containers. */
#include "suite/container.h"

#include "suite/keys.h"
#include "suite/quote.h"
#include "suite/system.h"

#include <stdlib.h>
#include <string.h>

static bool is_on(const source_t *system, const char *key)
{
    int64_t value = 0;
    const toml_node_t *node = system_find(system, key);
    return node != NULL && value_switch(node, &value) && value != 0;
}

bool container_is_wanted(const suite_session_t *session, const job_t *job)
{
    const char *image = job_value(job, SETTING_DOCKER_IMAGE_URL).text;
    return session->is_slurm && image != NULL && image[0] != '\0' &&
           (is_on(session->system, "container_mount_home") ||
            is_on(session->system, "cache_docker_images_locally"));
}

/* The folder that the program is installed in, with its libraries; NULL: it is one of the system's,
 * and those of a container are not to be hidden. The caller's. */
static char *program_folder(const suite_session_t *session)
{
    static const char *const of_system[] = {"/", "/usr", "/usr/local"};
    char *folder = strdup(session->program);
    char *slash = folder == NULL ? NULL : strrchr(folder, '/');
    if (slash == NULL)
        return folder;
    *slash = '\0';
    slash = strrchr(folder, '/');
    if (slash != NULL && strcmp(slash, "/bin") == 0)
        slash[slash == folder ? 1 : 0] = '\0';
    for (size_t i = 0; i < sizeof(of_system) / sizeof(of_system[0]); i++) {
        if (strcmp(folder, of_system[i]) == 0) {
            free(folder);
            return NULL;
        }
    }
    return folder;
}

/* "FROM:TO" of each mount, commas between them: the program with its library, the configuration,
 * the results, and what the test asks for. */
static char *list_mounts(const suite_session_t *session, const job_t *job, const char *folder)
{
    char *text = NULL;
    size_t bytes = 0;
    const layer_t *layer = NULL;
    const toml_node_t *extra = test_find(&job->entry->test, "extra_container_mounts", &layer);
    char *program = program_folder(session);
    FILE *out = open_memstream(&text, &bytes);
    if (out != NULL) {
        if (program != NULL)
            (void)fprintf(out, "%s:%s,", program, program);
        (void)fprintf(out, "%s/config.yaml:%s,%s:%s", folder,
                      job_value(job, SETTING_CONFIG_FILE_PATH).text, folder,
                      job_value(job, SETTING_RESULTS_DIR).text);
        for (int32_t i = 0; i < value_text_count(extra); i++)
            (void)fprintf(out, ",%s", value_text(extra, i));
    }
    bool is_written = out != NULL && fclose(out) == 0;
    free(program);
    return is_written ? text : NULL;
}

void container_write(FILE *out, const suite_session_t *session, const job_t *job,
                     const char *folder)
{
    char *mounts = container_is_wanted(session, job) ? list_mounts(session, job, folder) : NULL;
    if (mounts == NULL)
        return;
    (void)fputs(" --container-image=", out);
    quote_word(out, job_value(job, SETTING_DOCKER_IMAGE_URL).text);
    (void)fputs(" --container-mounts=", out);
    quote_word(out, mounts);
    (void)fputs(is_on(session->system, "container_mount_home") ? " --container-mount-home"
                                                               : " --no-container-mount-home",
                out);
    free(mounts);
}
