/* SPDX-License-Identifier: Apache-2.0 */
/* Tests, scenarios and systems of moxie suite: the two halves of the input are two files. */
#include "fuzz/fuzz.h"
#include "suite/job.h"
#include "suite/verify.h"

#include <sys/mman.h>
#include <unistd.h>

enum { FILE_COUNT = 2 };

/* Ends the first file. */
static const char separator[] = "\n#---\n";

static void write_file(int *fd, char path[64], const uint8_t *bytes, size_t count)
{
    if (*fd < 0) {
        *fd = memfd_create("suite", MFD_CLOEXEC);
    }
    (void)snprintf(path, 64, "/proc/self/fd/%d", *fd);
    FUZZ_REQUIRE(ftruncate(*fd, 0) == 0 && pwrite(*fd, bytes, count, 0) == (ssize_t)count);
}

/* What was read without a mistake can be unrolled, and every value be asked for. */
static void unroll(const sources_t *sources, const source_t *source)
{
    scenario_t scenario;
    jobs_t jobs;
    mistakes_t mistakes = {0};
    const source_t *systems[FILE_COUNT];
    references_t references = {.sources = sources, .systems = systems};
    for (size_t i = 0; i < sources->count; i++) {
        if (sources->list[i]->kind == SOURCE_SYSTEM) {
            systems[references.system_count++] = sources->list[i];
        }
    }
    scenario_read(source, &references, &scenario, &mistakes);
    if (mistakes.error_count == 0) {
        FUZZ_REQUIRE(jobs_make(&scenario, &jobs));
        for (int32_t i = 0; i < jobs.count; i++) {
            FUZZ_REQUIRE(jobs.list[i].node_count > 0);
            for (int id = 0; id < SETTING_COUNT; id++) {
                (void)job_value(&jobs.list[i], (setting_id_t)id);
            }
            for (int32_t at = 0; at < jobs.list[i].entry->test.variables.count; at++) {
                FUZZ_REQUIRE(job_variable(&jobs.list[i], at) != NULL);
            }
        }
        jobs_release(&jobs);
    }
    scenario_release(&scenario);
    mistakes_release(&mistakes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static int fds[FILE_COUNT] = {-1, -1};
    char paths[FILE_COUNT][64];
    const char *const names[FILE_COUNT] = {paths[0], paths[1]};
    const uint8_t *end = memmem(bytes, count, separator, sizeof(separator) - 1);
    size_t first_count = end == NULL ? count : (size_t)(end - bytes);
    write_file(&fds[0], paths[0], bytes, first_count);
    write_file(&fds[1], paths[1], bytes + first_count, count - first_count);
    sources_t sources = {0};
    mistakes_t mistakes = {0};
    verify_t verify = {.paths = names, .path_count = FILE_COUNT, .tests_dir = "/proc/self/fdinfo"};
    verify_files(&verify, &sources, &mistakes);
    FUZZ_REQUIRE(mistakes.count <= mistakes.error_count + mistakes.warning_count);
    json_t *list = mistakes_json(&mistakes);
    FUZZ_REQUIRE(json_array_size(list) == mistakes.count);
    json_decref(list);
    for (size_t i = 0; i < sources.count; i++) {
        if (sources.list[i]->kind == SOURCE_SCENARIO) {
            unroll(&sources, sources.list[i]);
        }
    }
    mistakes_release(&mistakes);
    sources_release(&sources);
    return 0;
}
