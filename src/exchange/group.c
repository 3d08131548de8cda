/* SPDX-License-Identifier: Apache-2.0 */
/* Groups: creation, small collectives, counters, knobs, and what a group takes. */
#include "exchange/group.h"

#include "core/error.h"
#include "core/options.h"
#include "store/settings.h"

#include <stdio.h>
#include <string.h>

static moxie_status_t read_options(const moxie_group_options_t *callers,
                                   moxie_group_options_t *options)
{
    *options = (moxie_group_options_t)MOXIE_GROUP_OPTIONS_INIT;
    const moxie_status_t status =
        options_read(options, callers, sizeof(*options), "moxie_group_options_t");
    if (status != MOXIE_OK) {
        return status;
    }
    if (options->rank_count < 1 || options->rank_count > MOXIE_RANK_COUNT_MAX) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank_count is %d, allowed are 1 to %d",
                         options->rank_count, MOXIE_RANK_COUNT_MAX);
    }
    if (options->rank < 0 || options->rank >= options->rank_count) {
        return error_set(MOXIE_ERR_ARGUMENT, "rank is %d of %d ranks", options->rank,
                         options->rank_count);
    }
    if (options->timeout_us <= 0 || options->first_timeout_us <= 0) {
        return error_set(MOXIE_ERR_ARGUMENT, "a timeout must be above 0");
    }
    return MOXIE_OK;
}

/* What only creating a group needs, and a quote does not. */
static moxie_status_t check_meeting(const moxie_group_options_t *options)
{
    if (options->rank_count > 1 && options->rendezvous == NULL && options->allgather == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "several ranks need options.rendezvous or options.allgather to meet");
    }
    for (int32_t rank = 0; options->node_of_rank != NULL && rank < options->rank_count; rank++) {
        if (options->node_of_rank[rank] != options->node_of_rank[0]) {
            error_set(MOXIE_ERR_UNSUPPORTED,
                      "rank %d is on another node than rank 0: this version exchanges within one "
                      "node",
                      rank);
            error_detail()->peer = rank;
            return MOXIE_ERR_UNSUPPORTED;
        }
    }
    return MOXIE_OK;
}

/* What is not known here of the shape does not decide between stored settings: the newest does. */
static moxie_status_t settle_knobs(const backend_t *backend, const moxie_group_options_t *options,
                                   knob_values_t *out)
{
    settings_key_t wanted = {.ranks = options->rank_count};
    settings_entry_t entry = {.knob_count = 0};
    moxie_knob_setting_t settings[SETTINGS_KNOB_COUNT_MAX];
    knob_stored_t stored = {settings, 0, "stored"};
    snprintf(wanted.backend, sizeof(wanted.backend), "%s", backend->name);
    const int is_off = options->tuning != NULL && strcmp(options->tuning, "off") == 0;
    if (options->tuning != NULL && !is_off && !settings_take_shape(options->tuning, &wanted)) {
        return error_set(MOXIE_ERR_ARGUMENT,
                         "tuning is '%s', neither off nor a shape as \"tokens=4096 hidden=2048 "
                         "experts=128 topk=8\"",
                         options->tuning);
    }
    if (!is_off && settings_find(&wanted, &entry)) {
        stored.from = entry.is_proposed ? "model" : "stored";
        for (; stored.count < (size_t)entry.knob_count; stored.count++) {
            const settings_knob_t *knob = &entry.knobs[stored.count];
            settings[stored.count] = (moxie_knob_setting_t){knob->name, knob->value};
        }
    }
    return knob_resolve(backend->knobs, backend->knob_count, &stored, options->knobs,
                        options->knob_count, out);
}

moxie_status_t moxie_group_create(const moxie_group_options_t *callers, moxie_group_t **out)
{
    if (out == NULL) {
        return error_set(MOXIE_ERR_ARGUMENT, "out is NULL");
    }
    moxie_group_options_t options;
    const backend_t *backend;
    moxie_status_t status = read_options(callers, &options);
    if (status == MOXIE_OK) {
        status = check_meeting(&options);
    }
    if (status == MOXIE_OK) {
        status = backend_select(options.backend, &backend);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    memory_account_t account = {0};
    void *memory;
    status = memory_allocate(&account, sizeof(moxie_group_t), "a group", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    moxie_group_t *group = memory;
    group->backend = backend;
    group->rank = options.rank;
    group->rank_count = options.rank_count;
    group->account = account;
    group->counters.size = sizeof(group->counters);
    status = settle_knobs(backend, &options, &group->knobs);
    if (status == MOXIE_OK) {
        status = backend->group_open(group, &options);
    }
    if (status != MOXIE_OK) {
        error_default_phase("group_create", "");
        memory_release(&account, group, sizeof(*group));
        return status;
    }
    *out = group;
    return MOXIE_OK;
}

void moxie_group_destroy(moxie_group_t *group)
{
    if (group != NULL) {
        memory_account_t account = group->account;
        group->backend->group_close(group);
        memory_release(&account, group, sizeof(*group));
    }
}

int32_t moxie_group_rank(const moxie_group_t *group)
{
    return group->rank;
}

int32_t moxie_group_rank_count(const moxie_group_t *group)
{
    return group->rank_count;
}

const char *moxie_group_backend(const moxie_group_t *group)
{
    return group->backend->name;
}

static moxie_status_t check_group(const moxie_group_t *group)
{
    return group != NULL ? MOXIE_OK : error_set(MOXIE_ERR_ARGUMENT, "the group is NULL");
}

moxie_status_t moxie_group_barrier(moxie_group_t *group)
{
    const moxie_status_t status = check_group(group);
    return status != MOXIE_OK ? status : group->backend->barrier(group);
}

int32_t moxie_group_device(const moxie_group_t *group)
{
    return group->backend->device != NULL ? group->backend->device(group) : -1;
}

moxie_status_t moxie_stream_barrier(moxie_group_t *group, moxie_stream_t stream)
{
    const moxie_status_t status = check_group(group);
    if (status != MOXIE_OK) {
        return status;
    }
    return group->backend->stream_barrier != NULL ? group->backend->stream_barrier(group, stream)
                                                  : group->backend->barrier(group);
}

moxie_status_t moxie_group_status(const moxie_group_t *group)
{
    const moxie_status_t status = check_group(group);
    return status != MOXIE_OK ? status : group->backend->group_status(group);
}

moxie_status_t moxie_group_allgather(moxie_group_t *group, const void *in, size_t bytes, void *out)
{
    moxie_status_t status = check_group(group);
    if (status == MOXIE_OK && bytes > 0 && (in == NULL || out == NULL)) {
        status = error_set(MOXIE_ERR_ARGUMENT, "allgather: a buffer is NULL");
    }
    return status != MOXIE_OK ? status : group->backend->allgather(group, in, bytes, out);
}

moxie_status_t moxie_group_counters(const moxie_group_t *group, moxie_group_counters_t *out)
{
    const moxie_status_t status = check_group(group);
    if (status != MOXIE_OK) {
        return status;
    }
    moxie_group_counters_t counters = group->counters;
    if (group->backend->counters != NULL) {
        group->backend->counters(group, &counters);
    }
    return options_write_checked(out, &counters, sizeof(counters), "moxie_group_counters_t");
}

moxie_status_t moxie_group_peer_counters(const moxie_group_t *group, int32_t rank,
                                         moxie_peer_counters_t *out)
{
    moxie_status_t status = check_group(group);
    if (status == MOXIE_OK && (rank < 0 || rank >= group->rank_count)) {
        status =
            error_set(MOXIE_ERR_ARGUMENT, "there is no rank %d among %d", rank, group->rank_count);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    moxie_peer_counters_t counters = MOXIE_PEER_COUNTERS_INIT;
    group->backend->peer_counters(group, rank, &counters);
    return options_write_checked(out, &counters, sizeof(counters), "moxie_peer_counters_t");
}

moxie_status_t moxie_group_dump(const moxie_group_t *group, int fd)
{
    const moxie_status_t status = check_group(group);
    if (status == MOXIE_OK) {
        group->backend->dump(group, fd);
    }
    return status;
}

moxie_status_t moxie_group_operation(const moxie_group_t *group, uint64_t op,
                                     moxie_operation_t *out)
{
    const moxie_status_t status = check_group(group);
    if (status != MOXIE_OK) {
        return status;
    }
    if (group->backend->operation == NULL) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "backend %s remembers no phases of operations",
                         group->backend->name);
    }
    moxie_operation_t operation = MOXIE_OPERATION_INIT;
    if (!group->backend->operation(group, op, &operation)) {
        return error_set(MOXIE_ERR_ARGUMENT, "operation %llu is not remembered",
                         (unsigned long long)op);
    }
    return options_write_checked(out, &operation, sizeof(operation), "moxie_operation_t");
}

moxie_status_t moxie_group_knob(const moxie_group_t *group, size_t index, moxie_knob_info_t *out)
{
    const moxie_status_t status = check_group(group);
    if (status != MOXIE_OK) {
        return status;
    }
    if (index >= group->backend->knob_count) {
        return error_set(MOXIE_ERR_ARGUMENT, "backend %s has %zu knobs", group->backend->name,
                         group->backend->knob_count);
    }
    const knob_t *knob = &group->backend->knobs[index];
    int64_t value_max = knob->value_max;
    if ((knob->use & MOXIE_KNOB_SMS) != 0 && group->backend->sm_count(group) < value_max) {
        value_max = group->backend->sm_count(group);
    }
    const moxie_knob_info_t info = {.size = sizeof(info),
                                    .name = knob->name,
                                    .help = knob->help,
                                    .from = group->knobs.from[index],
                                    .value = group->knobs.value[index],
                                    .value_default = knob->value_default,
                                    .value_min = knob->value_min,
                                    .value_max = value_max,
                                    .use = knob->use};
    return options_write_checked(out, &info, sizeof(info), "moxie_knob_info_t");
}

static moxie_status_t write_account(moxie_memory_bytes_t *out, const memory_account_t *account)
{
    const moxie_memory_bytes_t bytes = {.size = sizeof(bytes),
                                        .host_bytes = account->host_bytes,
                                        .window_bytes = account->window_bytes,
                                        .device_bytes = account->device_bytes};
    return options_write_checked(out, &bytes, sizeof(bytes), "moxie_memory_bytes_t");
}

moxie_status_t moxie_group_memory_quote(const moxie_group_options_t *callers,
                                        moxie_memory_bytes_t *out)
{
    moxie_group_options_t options;
    const backend_t *backend;
    moxie_status_t status = read_options(callers, &options);
    if (status == MOXIE_OK) {
        status = backend_select(options.backend, &backend);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    memory_account_t account = {.host_bytes = memory_charge(sizeof(moxie_group_t))};
    backend->group_quote(options.rank_count, &account);
    return write_account(out, &account);
}

moxie_status_t moxie_window_memory_quote(const moxie_group_options_t *callers, size_t bytes,
                                         moxie_memory_bytes_t *out)
{
    moxie_group_options_t options;
    const backend_t *backend;
    moxie_status_t status = read_options(callers, &options);
    if (status == MOXIE_OK) {
        status = backend_select(options.backend, &backend);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    memory_account_t account = {0};
    backend->window_quote(options.rank_count, bytes, &account);
    return write_account(out, &account);
}

moxie_status_t moxie_group_memory_used(const moxie_group_t *group, moxie_memory_bytes_t *out)
{
    const moxie_status_t status = check_group(group);
    return status != MOXIE_OK ? status : write_account(out, &group->account);
}
