/* SPDX-License-Identifier: Apache-2.0 */
/* moxie info: what works on this machine. */
#include "bench/device.h"
#include "bench/machine.h"
#include "bench/memory_need.h"
#include "bench/record.h"
#include "bench/text_json.h"
#include "cli/cli.h"
#include "cli/gpus.h"
#include "moxie/moxie.h"

#include <argp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* No short form: argp takes keys beyond characters for that. */
enum { KEY_JSON = 256 };

static error_t take(int key, char *argument, struct argp_state *state)
{
    int *is_json = state->input;
    if (key == KEY_JSON)
        *is_json = 1;
    else if (key == ARGP_KEY_ARG)
        argp_error(state, "'%s' is no option", argument);
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static json_t *backends_json(void)
{
    json_t *backends = json_array();
    for (int32_t i = 0; i < moxie_backend_count(); i++) {
        moxie_backend_info_t info = MOXIE_BACKEND_INFO_INIT;
        if (moxie_backend_probe(i, &info) != MOXIE_OK)
            continue;
        json_array_append_new(backends, json_pack("{s:s,s:b,s:s,s:s}", "name", info.name,
                                                  "available", (int)info.available, "reason",
                                                  info.reason, "detail", info.detail));
    }
    return backends;
}

/* The knobs of a backend, as a group of one rank sees them. */
static void append_knobs(const char *backend, json_t *knobs)
{
    moxie_group_options_t options = MOXIE_GROUP_OPTIONS_INIT;
    moxie_knob_info_t knob = MOXIE_KNOB_INFO_INIT;
    moxie_group_t *group = NULL;
    options.rank_count = 1;
    options.backend = backend;
    if (moxie_group_create(&options, &group) != MOXIE_OK) {
        moxie_error_t error = MOXIE_ERROR_INIT;
        (void)moxie_last_error(&error);
        (void)fprintf(stderr, "moxie info: the settings of backend %s: %s\n", backend,
                      error.message);
        return;
    }
    for (size_t i = 0; moxie_group_knob(group, i, &knob) == MOXIE_OK; i++)
        json_array_append_new(knobs,
                              json_pack("{s:s,s:s,s:I,s:s,s:I,s:I,s:I,s:s}", "backend", backend,
                                        "name", knob.name, "value", (json_int_t)knob.value, "from",
                                        knob.from, "default", (json_int_t)knob.value_default, "min",
                                        (json_int_t)knob.value_min, "max",
                                        (json_int_t)knob.value_max, "help", knob.help));
    moxie_group_destroy(group);
}

/* Those of all backends that work here. */
static json_t *knobs_json(const json_t *backends)
{
    size_t index;
    const json_t *backend;
    json_t *knobs = json_array();
    json_array_foreach(backends, index, backend)
    {
        if (json_is_true(json_object_get(backend, "available")))
            append_knobs(json_string_value(json_object_get(backend, "name")), knobs);
    }
    return knobs;
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static long long integer_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_backends(const json_t *backends)
{
    (void)printf("\nbackends\n");
    for (size_t i = 0; i < json_array_size(backends); i++) {
        const json_t *backend = json_array_get(backends, i);
        int is_available = json_is_true(json_object_get(backend, "available"));
        (void)printf("  %-16s %s: %s\n", text_at(backend, "name"),
                     is_available ? "works here" : "does not work here",
                     text_at(backend, is_available ? "detail" : "reason"));
    }
}

static void print_knobs(const json_t *knobs)
{
    const char *backend = "";
    for (size_t i = 0; i < json_array_size(knobs); i++) {
        const json_t *knob = json_array_get(knobs, i);
        if (strcmp(backend, text_at(knob, "backend")) != 0) {
            backend = text_at(knob, "backend");
            (void)printf("\nsettings of %s (name, value, where it came from; environment variable "
                         "MOXIE_<NAME>)\n",
                         backend);
        }
        (void)printf("  %-24s %10lld  %-12s %s; %lld to %lld\n", text_at(knob, "name"),
                     integer_at(knob, "value"), text_at(knob, "from"), text_at(knob, "help"),
                     integer_at(knob, "min"), integer_at(knob, "max"));
    }
}

/* The limit that moxie_memory_available() is bound by, or null. */
static json_t *memory_limit_json(void)
{
    char path[PATH_MAX];
    uint64_t bytes = moxie_memory_limit(path, sizeof(path));
    return path[0] == '\0'
               ? json_null()
               : json_pack("{s:I,s:o}", "bytes", (json_int_t)bytes, "path", text_json(path));
}

static void print_machine(const json_t *machine)
{
    char available_text[32];
    char limit_text[MEMORY_LIMIT_TEXT_BYTES];
    (void)printf("machine\n");
    (void)printf("  %-16s %s\n", "CPU", text_at(machine, "cpu"));
    (void)printf("  %-16s %s\n", "instructions", text_at(machine, "isa"));
    (void)printf("  %-16s %.0f cores, %.0f threads, %.0f sockets, %.0f NUMA nodes\n", "topology",
                 number_at(machine, "cores"), number_at(machine, "threads"),
                 number_at(machine, "packages"), number_at(machine, "numa_nodes"));
    (void)printf("  %-16s %.0f KiB L1, %.0f KiB L2, %.1f MiB L3\n", "caches",
                 number_at(machine, "l1_bytes") / 1024.0, number_at(machine, "l2_bytes") / 1024.0,
                 number_at(machine, "l3_bytes") / 1048576.0);
    (void)printf(
        "  %-16s %.1f GB, %s available%s\n", "memory", number_at(machine, "memory_bytes") / 1e9,
        memory_text(moxie_memory_available(), available_text), memory_limit_text(limit_text));
    (void)printf("  %-16s %s, kernel %s\n", "system", text_at(machine, "os"),
                 text_at(machine, "kernel"));
}

int cmd_info(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"json", KEY_JSON, NULL, 0, "Put one JSON document on standard output", 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = take,
        .doc = "Shows which backends work on this machine and why the others don't, the CPU, its "
               "caches and memory, the GPUs and how they reach each other, and the settings with "
               "their defaults."};
    int is_json = 0;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &is_json) != 0)
        return EXIT_USAGE;
    device_prepare();
    json_t *backends = backends_json();
    json_t *info =
        json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:I,s:o}", "schema", "moxie.info/1", "version",
                  moxie_version_text(), "machine", machine_json(), "gpus", gpus_json(), "backends",
                  backends, "knobs", knobs_json(backends), "memory_available_bytes",
                  (json_int_t)moxie_memory_available(), "memory_limit", memory_limit_json());
    if (is_json) {
        (void)record_write(info, stdout);
    } else {
        (void)printf("moxie %s\n\n", moxie_version_text());
        print_machine(json_object_get(info, "machine"));
        gpus_print(json_object_get(info, "gpus"));
        print_backends(json_object_get(info, "backends"));
        print_knobs(json_object_get(info, "knobs"));
    }
    json_decref(info);
    return EXIT_DONE;
}
