/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the options of Pyxis, Slurm's plug-in for containers. */
#include "suite/container.h"

#include "suite/keys.h"
#include "suite/quote.h"
#include "suite/system.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool container_is_asked(const source_t *system)
{
    return system_switch(system, "container_mount_home") ||
           system_switch(system, "cache_docker_images_locally");
}

/* The image of a test; NULL: it names none. */
static const char *image_of(const entry_t *entry)
{
    const setting_t *setting = &entry->test.settings[SETTING_DOCKER_IMAGE_URL];
    const char *image = setting->is_sound && setting->node != NULL ? setting->node->string : "";
    return image[0] == '\0' ? NULL : image;
}

bool container_is_wanted(const suite_session_t *session, const job_t *job)
{
    return session->is_slurm && container_is_asked(session->system) && image_of(job->entry) != NULL;
}

/* Whether an image is a file, and not one of a registry. */
static bool is_file(const char *image)
{
    static const char ending[] = ".sqsh";
    size_t length = strlen(image);
    return image[0] == '/' || image[0] == '.' ||
           (length > strlen(ending) && strcmp(image + length - strlen(ending), ending) == 0);
}

/* What Pyxis does not take in a path; '\0': it takes it. */
static char find_cut(const char *path)
{
    return path[strcspn(path, ",:")];
}

static const char mounted[] = "a container is to mount it, and Pyxis takes no path with";

/* A text of which a path that is mounted is made. */
static void check_part(const source_t *source, const toml_node_t *node, const char *prefix,
                       mistakes_t *mistakes)
{
    if (node != NULL && node->kind == TOML_KIND_STRING && find_cut(node->string) != '\0')
        mistakes_add(mistakes, SEVERITY_ERROR, source, node, prefix, "%s '%c'", mounted,
                     find_cut(node->string));
}

/* Where the container has something. */
static void check_place(const setting_t *setting, mistakes_t *mistakes)
{
    if (setting->node == NULL || !setting->is_sound)
        return;
    if (setting->node->string[0] != '/')
        mistakes_add(mistakes, SEVERITY_ERROR, setting->source, setting->node, setting->prefix,
                     "must be a path from / on: it is a place in the container");
    check_part(setting->source, setting->node, setting->prefix, mistakes);
}

/* "SOURCE:TARGET:FLAGS", "SOURCE:TARGET" or "SOURCE". */
static bool is_mount(const char *text)
{
    size_t source = strcspn(text, ":");
    const char *target = text[source] == '\0' ? text : text + source + 1;
    size_t length = strcspn(target, ":");
    const char *flags = target[length] == '\0' ? "" : target + length + 1;
    return strchr(text, ',') == NULL && source > 0 && length > 0 && strchr(flags, ':') == NULL;
}

static void check_mounts(const entry_t *entry, mistakes_t *mistakes)
{
    const layer_t *layer = NULL;
    const toml_node_t *list = test_find(&entry->test, "extra_container_mounts", &layer);
    for (int32_t i = 0; i < value_text_count(list); i++)
        if (value_text(list, i) != NULL && !is_mount(value_text(list, i)))
            mistakes_add(
                mistakes, SEVERITY_ERROR, layer->source, list, NULL,
                "'%.100s' is no mount SOURCE:TARGET or SOURCE:TARGET:FLAGS; Pyxis takes no "
                "path with ',' or ':'",
                value_text(list, i));
}

static void check_entry(const scenario_t *scenario, const entry_t *entry, mistakes_t *mistakes)
{
    const setting_t *image = &entry->test.settings[SETTING_DOCKER_IMAGE_URL];
    check_part(scenario->source, toml_find(toml_root(scenario->source->document), "name"), NULL,
               mistakes);
    check_part(entry->layer.source, toml_find(entry->layer.table, "id"), "Tests", mistakes);
    check_place(&entry->test.settings[SETTING_CONFIG_FILE_PATH], mistakes);
    check_place(&entry->test.settings[SETTING_RESULTS_DIR], mistakes);
    check_mounts(entry, mistakes);
    if (is_file(image_of(entry)) && access(image_of(entry), F_OK) != 0)
        mistakes_add(mistakes, SEVERITY_WARNING, image->source, image->node, image->prefix,
                     "there is no such file here; the nodes have to see it");
}

void container_check(const scenario_t *scenario, mistakes_t *mistakes)
{
    for (int32_t i = 0; i < scenario->entry_count; i++)
        if (image_of(&scenario->entries[i]) != NULL)
            check_entry(scenario, &scenario->entries[i], mistakes);
}

bool container_check_path(const suite_session_t *session, const char *what, const char *path,
                          failure_t *failure)
{
    bool is_wanted = false;
    for (int32_t i = 0; i < session->scenario.entry_count; i++)
        is_wanted = is_wanted || image_of(&session->scenario.entries[i]) != NULL;
    return !is_wanted || !container_is_asked(session->system) || find_cut(path) == '\0' ||
           failure_set(failure, EXIT_USAGE, "%s: %s: %s '%c'", what, path, mounted, find_cut(path));
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

/* As Pyxis finds it from the folder of the run: a file with its full path. */
static void write_image(FILE *out, const char *image)
{
    char here[PATH_MAX];
    char path[2 * PATH_MAX];
    bool is_relative = is_file(image) && image[0] != '/' && getcwd(here, sizeof(here)) != NULL;
    (void)snprintf(path, sizeof(path), "%s%s%s", is_relative ? here : "", is_relative ? "/" : "",
                   image);
    quote_word(out, path);
}

void container_write(FILE *out, const suite_session_t *session, const job_t *job,
                     const char *folder)
{
    char *mounts = container_is_wanted(session, job) ? list_mounts(session, job, folder) : NULL;
    if (mounts == NULL)
        return;
    (void)fputs(" --container-image=", out);
    write_image(out, image_of(job->entry));
    (void)fputs(" --container-mounts=", out);
    quote_word(out, mounts);
    (void)fputs(system_switch(session->system, "container_mount_home")
                    ? " --container-mount-home"
                    : " --no-container-mount-home",
                out);
    free(mounts);
}
