/* SPDX-License-Identifier: Apache-2.0 */
/* Checks every file that somebody named. */
#include "suite/verify.h"

#include "suite/container.h"
#include "suite/keys.h"
#include "suite/scenario.h"
#include "suite/system.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *verify_kind_name(source_kind_t kind)
{
    static const char *const names[] = {"test", "scenario", "system", "other"};
    return names[kind];
}

void verify_read_neighbours(sources_t *sources, const source_t *scenario, mistakes_t *mistakes)
{
    char *path = strdup(scenario->path);
    if (path != NULL)
        (void)sources_read_folder(sources, dirname(path), false, false, mistakes);
    free(path);
}

static void read_paths(const verify_t *verify, sources_t *sources, mistakes_t *mistakes)
{
    for (size_t i = 0; i < verify->path_count; i++) {
        struct stat stat_of;
        const char *path = verify->paths[i];
        size_t count = sources->count;
        size_t error_count = mistakes->error_count;
        if (stat(path, &stat_of) != 0 || !S_ISDIR(stat_of.st_mode))
            (void)sources_read(sources, path, true, mistakes);
        else if (sources_read_folder(sources, path, true, true, mistakes) &&
                 sources->count == count && mistakes->error_count == error_count)
            mistakes_add_file(mistakes, SEVERITY_ERROR, path, 0, 0, "no file in it ends in .toml");
    }
    size_t named_count = sources->count;
    if (verify->tests_dir != NULL)
        (void)sources_read_folder(sources, verify->tests_dir, false, false, mistakes);
    for (size_t i = 0; i < named_count && verify->tests_dir == NULL; i++)
        if (sources->list[i]->kind == SOURCE_SCENARIO)
            verify_read_neighbours(sources, sources->list[i], mistakes);
}

/* A test of the same name in an earlier file. */
static void check_twice(const sources_t *sources, size_t index, mistakes_t *mistakes)
{
    const source_t *source = sources->list[index];
    const toml_node_t *name = toml_find(toml_root(source->document), "name");
    for (size_t i = 0; i < index && name != NULL && name->kind == TOML_KIND_STRING; i++) {
        const source_t *other = sources->list[i];
        const toml_node_t *others = toml_find(toml_root(other->document), "name");
        if (other->kind == SOURCE_TEST && others != NULL && others->kind == TOML_KIND_STRING &&
            strcmp(others->string, name->string) == 0)
            mistakes_add(mistakes, SEVERITY_ERROR, source, name, NULL,
                         "%s has a test with this name, too", other->path);
    }
}

static void check_test(const source_t *source, bool is_strict, mistakes_t *mistakes)
{
    test_t test;
    layer_t layer = source_layer(source);
    keys_check(&keys_of_test, &layer, NULL, true, mistakes);
    test_read(&layer, 1, is_strict, &test, mistakes);
    test_release(&test);
}

static void check_scenario(const source_t *source, const references_t *references,
                           mistakes_t *mistakes)
{
    scenario_t scenario;
    scenario_read(source, references, &scenario, mistakes);
    scenario_release(&scenario);
}

static void check(const source_t *source, size_t index, const references_t *references,
                  mistakes_t *mistakes)
{
    switch (source->kind) {
    case SOURCE_TEST:
        check_test(source, references->is_strict, mistakes);
        check_twice(references->sources, index, mistakes);
        break;
    case SOURCE_SCENARIO:
        check_scenario(source, references, mistakes);
        break;
    case SOURCE_SYSTEM:
        system_check(source, mistakes);
        break;
    case SOURCE_OTHER:
        mistakes_add_file(mistakes, SEVERITY_ERROR, source->path, 0, 0,
                          "it is no test (test_template_name, cmd_args), no scenario (Tests) and "
                          "no system (scheduler, partitions)");
        break;
    }
}

void verify_files(const verify_t *verify, sources_t *sources, mistakes_t *mistakes)
{
    read_paths(verify, sources, mistakes);
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): a list of pointers */
    const source_t **systems = calloc(sources->count + 1, sizeof(*systems));
    references_t references = {
        .sources = sources, .systems = systems, .is_strict = verify->is_strict};
    for (size_t i = 0; i < sources->count && systems != NULL; i++)
        if (sources->list[i]->kind == SOURCE_SYSTEM && sources->list[i]->is_named) {
            systems[references.system_count++] = sources->list[i];
            references.has_containers |= container_is_asked(sources->list[i]);
        }
    for (size_t i = 0; i < sources->count; i++)
        if (sources->list[i]->is_named)
            check(sources->list[i], i, &references, mistakes);
    free((void *)systems);
}
