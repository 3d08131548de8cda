/* SPDX-License-Identifier: Apache-2.0 */
/* What the CUDA backend is: its probe, its knobs, its groups, and its table of functions. */
#include "core/error.h"
#include "exchange/cuda/cuda.h"
#include "exchange/cuda/kernels.h"
#include "transport/fault.h"
#include "transport/shm/collective.h"
#include "transport/shm/signal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Shared memory of a block that a kernel may ask for beyond the usual 48 KiB. */
#define UPDATE_STATIC_BYTES (4 << 10)

static const knob_t knobs[] = {
    [CUDA_KNOB_SMS] = {"sms", "SMs that dispatch sends with", 16, 1, 132,
                       MOXIE_KNOB_DISPATCH | MOXIE_KNOB_STANDARD | MOXIE_KNOB_SMS},
    [CUDA_KNOB_DUPLICATE_SMS] = {"duplicate_sms",
                                 "further SMs that copy received rows in expert_major dispatch", 32,
                                 0, 132,
                                 MOXIE_KNOB_DISPATCH | MOXIE_KNOB_EXPERT_MAJOR |
                                     MOXIE_KNOB_STANDARD | MOXIE_KNOB_SMS},
    [CUDA_KNOB_COMBINE_SMS] = {"combine_sms",
                               "SMs that combine may use; 0: 40 in rank_major, 48 in expert_major",
                               0, 0, CUDA_BLOCK_COUNT_MAX,
                               MOXIE_KNOB_COMBINE | MOXIE_KNOB_STANDARD | MOXIE_KNOB_SMS |
                                   MOXIE_KNOB_ZERO_CHOOSES},
    [CUDA_KNOB_PUSH_SMS] = {"push_sms",
                            "of these, SMs that send partials home; 0: 4 of 10, 11 of 20 "
                            "in expert_major",
                            0, 0, CUDA_BLOCK_COUNT_MAX,
                            MOXIE_KNOB_COMBINE | MOXIE_KNOB_STANDARD | MOXIE_KNOB_SMS |
                                MOXIE_KNOB_ZERO_CHOOSES},
    [CUDA_KNOB_UPDATE_SMS] = {"update_sms", "SMs that a route update may use", 24, 1,
                              CUDA_UPDATE_BLOCKS_MAX,
                              MOXIE_KNOB_UPDATE | MOXIE_KNOB_ROUTING_EXPERT_MAJOR |
                                  MOXIE_KNOB_STANDARD | MOXIE_KNOB_SMS},
    [CUDA_KNOB_TAGGED_BYTES] = {"tagged_bytes",
                                "low latency in rank_major: bytes of a rank's tokens up to "
                                "which combine sends tagged pieces; 0: never",
                                CUDA_TAGGED_BYTES_MAX, 0, CUDA_TAGGED_BYTES_MAX,
                                MOXIE_KNOB_COMBINE | MOXIE_KNOB_LOW_LATENCY |
                                    MOXIE_KNOB_RANK_MAJOR},
};

static const char *const kernel_names[CUDA_KERNEL_COUNT] = {
    [CUDA_KERNEL_BARRIER] = "moxie_barrier",
    [CUDA_KERNEL_UPDATE] = "moxie_update",
    [CUDA_KERNEL_DISPATCH] = "moxie_dispatch",
    [CUDA_KERNEL_DISPATCH_WEIGHTED] = "moxie_dispatch_weighted",
    [CUDA_KERNEL_DISPATCH_FP8] = "moxie_dispatch_fp8",
    [CUDA_KERNEL_DISPATCH_QUANTISED] = "moxie_dispatch_quantised",
    [CUDA_KERNEL_DISPATCH_ROUTING] = "moxie_dispatch_routing",
    [CUDA_KERNEL_DISPATCH_ROUTING_FP8] = "moxie_dispatch_routing_fp8",
    [CUDA_KERNEL_DISPATCH_ROUTING_QUANTISED] = "moxie_dispatch_routing_quantised",
    [CUDA_KERNEL_COMBINE] = "moxie_combine",
    [CUDA_KERNEL_CEILING] = "moxie_ceiling",
    [CUDA_KERNEL_SLOTS_DISPATCH] = "moxie_slots_dispatch",
    [CUDA_KERNEL_SLOTS_DISPATCH_EXPERT_MAJOR] = "moxie_slots_dispatch_expert_major",
    [CUDA_KERNEL_SLOTS_COMBINE] = "moxie_slots_combine",
    [CUDA_KERNEL_SLOTS_COMBINE_EXPERT_MAJOR] = "moxie_slots_combine_expert_major",
    [CUDA_KERNEL_SLOTS_COMBINE_TAGGED] = "moxie_slots_combine_tagged",
};

/* What a GPU must have; "" when it does. */
static void look_at_device(int ordinal, char *reason, size_t bytes)
{
    CUdevice device;
    int major = 0;
    int vmm = 0;
    int descriptors = 0;
    reason[0] = '\0';
    if (cuda()->cuDeviceGet(&device, ordinal) != CUDA_SUCCESS) {
        snprintf(reason, bytes, "GPU %d cannot be opened", ordinal);
        return;
    }
    cuda()->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    cuda()->cuDeviceGetAttribute(&vmm, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                 device);
    cuda()->cuDeviceGetAttribute(
        &descriptors, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, device);
    if (major < 8) {
        snprintf(reason, bytes, "GPU %d has compute capability %d.x; 8.0 is needed", ordinal,
                 major);
    } else if (!vmm || !descriptors) {
        snprintf(reason, bytes, "GPU %d cannot share memory by POSIX file descriptors", ordinal);
    }
}

static void probe(moxie_backend_info_t *out)
{
    int count = 0;
    if (cuda() == NULL) {
        snprintf(out->reason, sizeof(out->reason), "%s", cuda_missing());
        return;
    }
    cuda()->cuDeviceGetCount(&count);
    for (int ordinal = 0; ordinal < count && out->reason[0] == '\0'; ordinal++) {
        look_at_device(ordinal, out->reason, sizeof(out->reason));
    }
    char name[100] = "";
    CUdevice device;
    if (cuda()->cuDeviceGet(&device, 0) == CUDA_SUCCESS) {
        cuda()->cuDeviceGetName(name, sizeof(name), device);
    }
    out->available = out->reason[0] == '\0';
    snprintf(out->detail, sizeof(out->detail), "%d GPUs, the first is %s", count, name);
}

/* The group's own channel has no counts. */
static uint64_t channel_bytes(int32_t rank_count)
{
    cuda_channel_t channel;
    return cuda_channel_plan(0, rank_count, 0, &channel);
}

static void group_quote(int32_t rank_count, memory_account_t *out)
{
    out->host_bytes += memory_charge(sizeof(cuda_exchange_t)) + memory_charge(sizeof(cuda_tally_t));
    cuda_transport_quote(rank_count, channel_bytes(rank_count), out);
}

/* Lets a kernel have more shared memory than any may have unasked. */
static moxie_status_t allow_bytes(const cuda_exchange_t *exchange, cuda_kernel_t kernel,
                                  uint32_t bytes)
{
    return cuda_check(cuda()->cuFuncSetAttribute(exchange->kernels[kernel],
                                                 CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                                 (int)bytes),
                      "shared memory of a kernel");
}

/* Kernels that want it. */
static moxie_status_t allow_shared_memory(cuda_exchange_t *exchange)
{
    const CUdevice gpu = exchange->transport->device.device;
    int optin = 0;
    int major = 0;
    cuda()->cuDeviceGetAttribute(&optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
                                 gpu);
    cuda()->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, gpu);
    exchange->update_bytes_max = (uint32_t)optin - UPDATE_STATIC_BYTES;
    exchange->bulk_bytes = major >= 9 ? CUDA_BULK_SHARED_BYTES : 0;
    exchange->combine_bytes = major >= 9 ? CUDA_COMBINE_SHARED_BYTES : 0;
    const struct {
        cuda_kernel_t kernel;
        uint32_t bytes;
    } wishes[] = {
        {CUDA_KERNEL_UPDATE, exchange->update_bytes_max},
        {CUDA_KERNEL_DISPATCH, exchange->bulk_bytes},
        {CUDA_KERNEL_DISPATCH_WEIGHTED, exchange->bulk_bytes},
        {CUDA_KERNEL_DISPATCH_FP8, exchange->bulk_bytes},
        {CUDA_KERNEL_DISPATCH_QUANTISED, exchange->bulk_bytes},
        {CUDA_KERNEL_DISPATCH_ROUTING, exchange->bulk_bytes},
        {CUDA_KERNEL_DISPATCH_ROUTING_FP8, exchange->bulk_bytes},
        {CUDA_KERNEL_DISPATCH_ROUTING_QUANTISED, exchange->bulk_bytes},
        {CUDA_KERNEL_COMBINE, exchange->combine_bytes},
        {CUDA_KERNEL_CEILING, exchange->bulk_bytes},
        {CUDA_KERNEL_SLOTS_DISPATCH, CUDA_SLOTS_DYNAMIC_BYTES_MAX},
        {CUDA_KERNEL_SLOTS_DISPATCH_EXPERT_MAJOR, CUDA_SLOTS_DYNAMIC_BYTES_MAX},
    };
    moxie_status_t status = MOXIE_OK;
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]) && status == MOXIE_OK; i++) {
        status = allow_bytes(exchange, wishes[i].kernel, wishes[i].bytes);
    }
    return status;
}

/* All kernels at once: loading one later could wait for a kernel that waits for it. */
static moxie_status_t load_kernels(cuda_exchange_t *exchange)
{
    moxie_status_t status = cuda_check(
        cuda()->cuModuleLoadData(&exchange->module, cuda_kernels_image), "loading the kernels");
    for (int i = 0; i < CUDA_KERNEL_COUNT && status == MOXIE_OK; i++) {
        CUfunction *kernel = &exchange->kernels[i];
        status = cuda_check(cuda()->cuModuleGetFunction(kernel, exchange->module, kernel_names[i]),
                            "a kernel");
        if (status == MOXIE_OK) {
            status = cuda_check(cuda()->cuFuncLoad(*kernel), "loading a kernel");
        }
    }
    int ptx_version = 0; /* times ten, of the code that was loaded */
    cuda()->cuFuncGetAttribute(&ptx_version, CU_FUNC_ATTRIBUTE_PTX_VERSION,
                               exchange->kernels[CUDA_KERNEL_DISPATCH]);
    exchange->overlaps = ptx_version >= 90;
    if (status == MOXIE_OK) {
        status = allow_shared_memory(exchange);
    }
    return status;
}

/* The group's channel: its counters start where no operation was yet. */
static moxie_status_t open_channel(moxie_group_t *group, cuda_exchange_t *exchange)
{
    const cuda_transport_t *transport = exchange->transport;
    const uint64_t base = cuda_transport_channel_offset(group->rank_count);
    void *pinned = NULL;
    const moxie_status_t status =
        cuda_pinned_allocate(&group->account, sizeof(cuda_tally_t), &pinned);
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_channel_plan(base, group->rank_count, 0, &exchange->channel);
    cuda_channel_open(exchange, &transport->memory, &exchange->channel);
    exchange->copied = pinned;
    exchange->channel.counters =
        (cuda_counters_t *)(void *)(transport->memory.parts[group->rank].base +
                                    cuda_channel_counters(base, group->rank_count, 0));
    return MOXIE_OK;
}

static void close_exchange(moxie_group_t *group, cuda_exchange_t *exchange)
{
    if (cuda_device_enter(&exchange->transport->device) == MOXIE_OK) {
        cuda_pinned_release(&group->account, exchange->copied, sizeof(cuda_tally_t));
        if (exchange->module != NULL) {
            cuda()->cuModuleUnload(exchange->module);
        }
        cuda_device_leave();
    }
    cuda_transport_close(exchange->transport);
    memory_release(&group->account, exchange, sizeof(*exchange));
}

static moxie_status_t group_open(moxie_group_t *group, const moxie_group_options_t *options)
{
    void *memory;
    if (group->rank_count > CUDA_RANK_COUNT_MAX) {
        return error_set(MOXIE_ERR_UNSUPPORTED, "backend cuda has at most %d ranks, not %d",
                         CUDA_RANK_COUNT_MAX, group->rank_count);
    }
    moxie_status_t status =
        memory_allocate(&group->account, sizeof(cuda_exchange_t), "a group", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_exchange_t *exchange = memory;
    exchange->delay_seed = fault_delay_seed();
    status = cuda_transport_open(options, &group->account, &group->counters,
                                 channel_bytes(group->rank_count), &exchange->transport);
    if (status != MOXIE_OK) {
        memory_release(&group->account, exchange, sizeof(*exchange));
        return status;
    }
    status = cuda_device_enter(&exchange->transport->device);
    if (status == MOXIE_OK) {
        status = load_kernels(exchange);
        if (status == MOXIE_OK) {
            status = open_channel(group, exchange);
        }
        cuda_device_leave();
    }
    /* No kernel of a peer waits for this rank before its own are loaded. */
    status = shm_agree(exchange->transport->host, status);
    if (status != MOXIE_OK) {
        const moxie_error_t error = *error_detail();
        close_exchange(group, exchange);
        return error_adopt(&error);
    }
    group->implementation = exchange;
    return MOXIE_OK;
}

static void group_close(moxie_group_t *group)
{
    close_exchange(group, cuda_of(group));
}

static moxie_status_t barrier(moxie_group_t *group)
{
    cuda_transport_t *transport = cuda_of(group)->transport;
    const moxie_status_t status = cuda_transport_check(transport, "barrier");
    return status != MOXIE_OK ? status : shm_barrier(transport->host);
}

static moxie_status_t group_status(const moxie_group_t *group)
{
    return cuda_transport_check(cuda_of(group)->transport, "group_status");
}

static int32_t device(const moxie_group_t *group)
{
    return cuda_of(group)->transport->device.ordinal;
}

static int32_t sm_count(const moxie_group_t *group)
{
    return cuda_of(group)->transport->device.sm_count;
}

static moxie_status_t stream_barrier(moxie_group_t *group, moxie_stream_t stream)
{
    cuda_exchange_t *exchange = cuda_of(group);
    moxie_status_t status = cuda_transport_check(exchange->transport, "stream_barrier");
    if (status == MOXIE_OK) {
        status = cuda_device_enter(&exchange->transport->device);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    cuda_barrier_args_t args = {.channel = exchange->channel};
    args.channel.timeout_ns = cuda_timeout_ns(exchange);
    args.offer.fields[CUDA_OFFER_KIND] = CUDA_OP_BARRIER;
    fault_point(group->rank, "stream_barrier", "begin");
    status = cuda_launch(exchange, CUDA_KERNEL_BARRIER, 1, CUDA_BARRIER_THREADS, 0, &args, stream,
                         CUDA_LAUNCH_BEHIND);
    cuda_device_leave();
    return status;
}

static void counters(const moxie_group_t *group, moxie_group_counters_t *out)
{
    const cuda_exchange_t *exchange = cuda_of(group);
    cuda_tally_t sum = exchange->retired;
    *out = group->counters;
    if (cuda_device_enter(&exchange->transport->device) != MOXIE_OK) {
        return;
    }
    cuda_tally_add(exchange, &exchange->channel, &sum);
    for (const cuda_route_t *route = exchange->routes; route != NULL; route = route->next) {
        cuda_tally_add(exchange, &route->channel, &sum);
    }
    cuda_device_leave();
    out->op_count += sum.op_count;
    out->prepare_ns += sum.phase_ns[CUDA_PHASE_PREPARE];
    out->wait_ns += sum.phase_ns[CUDA_PHASE_MEET];
    out->move_ns += sum.phase_ns[CUDA_PHASE_MOVE];
    out->finish_ns += sum.phase_ns[CUDA_PHASE_FINISH];
}

static void peer_counters(const moxie_group_t *group, int32_t rank, moxie_peer_counters_t *out)
{
    *out = cuda_of(group)->transport->host->recorder.peers[rank];
    out->size = sizeof(*out);
}

static void dump(const moxie_group_t *group, int fd)
{
    recorder_dump(&cuda_of(group)->transport->host->recorder, group->rank, group->rank_count, fd);
}

static moxie_status_t allgather(moxie_group_t *group, const void *in, size_t bytes, void *out)
{
    cuda_transport_t *transport = cuda_of(group)->transport;
    const moxie_status_t status = cuda_transport_check(transport, "allgather");
    return status != MOXIE_OK ? status : shm_allgather(transport->host, in, bytes, out);
}

/* Before a call that makes something: the group is well, its context entered. */
static moxie_status_t enter(const moxie_group_t *group, const char *name)
{
    cuda_transport_t *transport = cuda_of(group)->transport;
    const moxie_status_t status = cuda_transport_check(transport, name);
    return status != MOXIE_OK ? status : cuda_device_enter(&transport->device);
}

static moxie_status_t window_allocate(moxie_group_t *group, size_t bytes, moxie_window_t **out)
{
    cuda_transport_t *transport = cuda_of(group)->transport;
    moxie_status_t status = enter(group, "window_allocate");
    if (status == MOXIE_OK) {
        status = cuda_window_allocate(transport, bytes, out);
        cuda_device_leave();
    }
    return status;
}

static moxie_status_t window_register(moxie_group_t *group, const moxie_memory_t *memory,
                                      moxie_window_t **out)
{
    cuda_transport_t *transport = cuda_of(group)->transport;
    moxie_status_t status = enter(group, "window_register");
    if (status == MOXIE_OK) {
        status = cuda_window_register(transport, memory, out);
        cuda_device_leave();
    }
    return status;
}

static moxie_status_t route_open(moxie_route_t *route)
{
    moxie_status_t status = enter(route->group, "route_create");
    if (status == MOXIE_OK) {
        status = cuda_route_open(route);
        cuda_device_leave();
    }
    return status;
}

const backend_t cuda_backend = {
    .name = "cuda",
    .capabilities = MOXIE_CAP_STANDARD | MOXIE_CAP_BACKWARD | MOXIE_CAP_RANK_MAJOR |
                    MOXIE_CAP_EXPERT_MAJOR | MOXIE_CAP_LOW_LATENCY | MOXIE_CAP_FP8 |
                    MOXIE_CAP_STREAM | MOXIE_CAP_REGISTER_MEMORY,
    .knobs = knobs,
    .knob_count = sizeof(knobs) / sizeof(knobs[0]),
    .probe = probe,
    .group_quote = group_quote,
    .window_quote = cuda_window_quote,
    .group_open = group_open,
    .group_close = group_close,
    .barrier = barrier,
    .group_status = group_status,
    .device = device,
    .sm_count = sm_count,
    .stream_barrier = stream_barrier,
    .counters = counters,
    .peer_counters = peer_counters,
    .dump = dump,
    .allgather = allgather,
    .window_allocate = window_allocate,
    .window_register = window_register,
    .window_free = cuda_window_free,
    .route_quote = cuda_route_quote,
    .route_open = route_open,
    .route_close = cuda_route_close,
    .route_settle = cuda_route_settle,
    .route_download = cuda_route_download,
    .route_update = cuda_route_update,
    .dispatch_routing = cuda_dispatch_routing,
    .dispatch = cuda_dispatch,
    .combine = cuda_combine,
    .dispatch_backward = cuda_dispatch_backward,
    .combine_backward = cuda_combine_backward,
    .route_slots = cuda_slots_find,
    .dispatch_send = cuda_slots_dispatch_send,
    .dispatch_receive = cuda_slots_dispatch_receive,
    .combine_send = cuda_slots_combine_send,
    .combine_receive = cuda_slots_combine_receive,
    .ceiling = cuda_ceiling,
};
