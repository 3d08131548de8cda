/* SPDX-License-Identifier: Apache-2.0 */
/* config.yaml of moxie suite exec. */
#include "fuzz/fuzz.h"
#include "suite/config_yaml.h"

#include <sys/mman.h>
#include <unistd.h>

/* A file without a mistake gives every setting one value within its limits. */
static void check_settings(const test_t *test)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        setting_id_t id = (setting_id_t)i;
        const setting_row_t *row = setting_row(id);
        setting_value_t value = setting_value(&test->settings[id], id, 0);
        FUZZ_REQUIRE(test->settings[id].is_sound && test->settings[id].value_count == 1);
        FUZZ_REQUIRE(test->settings[id].node == NULL ||
                     setting_key(id, test->dialect, PLACE_CONFIG) != NULL);
        if (row->type == SETTING_TYPE_NUMBER) {
            int64_t lowest = row->has_option ? option_row(row->option)->value_min : row->value_min;
            int64_t highest = row->has_option ? option_row(row->option)->value_max : row->value_max;
            FUZZ_REQUIRE(value.number >= lowest && value.number <= highest);
        }
        if (row->type == SETTING_TYPE_SWITCH || row->type == SETTING_TYPE_CHOICE)
            FUZZ_REQUIRE(value.number == 0 || value.number == 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static int fd = -1;
    char path[64];
    config_yaml_t config;
    mistakes_t mistakes = {0};
    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        (void)unsetenv("NUM_SMS");
        (void)unsetenv("NUM_QPS_PER_RANK");
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    FUZZ_REQUIRE(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, count, 0) == (ssize_t)count);
    config_yaml_read(path, &config, &mistakes);
    test_check_together(&config.test, &mistakes);
    FUZZ_REQUIRE(mistakes.count <= mistakes.error_count + mistakes.warning_count);
    for (size_t i = 0; i < mistakes.count; i++)
        FUZZ_REQUIRE(mistakes.list[i].text[0] != '\0');
    if (mistakes.error_count == 0)
        check_settings(&config.test);
    config_yaml_release(&config);
    mistakes_release(&mistakes);
    return 0;
}
