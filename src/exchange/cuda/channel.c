/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: where their parts lie, and launching kernels on them. */
#include "exchange/cuda/cuda.h"

#include <string.h>

/* Parts of a channel begin at multiples of it: a line of the GPU's L2 cache. */
#define PART_BYTES 128u

static uint64_t append(uint64_t *end, uint64_t bytes)
{
    const uint64_t offset = *end;
    *end = memory_round_up(offset + bytes, PART_BYTES);
    return offset;
}

uint64_t cuda_channel_plan(uint64_t base, int32_t rank_count, uint64_t count_words,
                           cuda_channel_t *out)
{
    const uint64_t ranks = (uint64_t)rank_count;
    uint64_t end = base;
    out->count_words = count_words;
    out->offer_offset =
        append(&end, 2 * ranks * (CUDA_OFFER_WORDS + CUDA_ERROR_WORDS) * sizeof(uint64_t));
    out->count_offset = append(&end, 2 * ranks * count_words * sizeof(uint64_t));
    out->flag_offset =
        append(&end, CUDA_FLAG_COUNT * ranks * CUDA_BLOCK_COUNT_MAX * sizeof(uint32_t));
    (void)append(&end, sizeof(cuda_counters_t));
    return end;
}

uint64_t cuda_channel_counters(uint64_t base, int32_t rank_count, uint64_t count_words)
{
    cuda_channel_t channel;
    return cuda_channel_plan(base, rank_count, count_words, &channel) -
           memory_round_up(sizeof(cuda_counters_t), PART_BYTES);
}

void cuda_channel_open(const cuda_exchange_t *exchange, const cuda_sharing_t *memory,
                       cuda_channel_t *channel)
{
    const cuda_transport_t *transport = exchange->transport;
    channel->rank = memory->rank;
    channel->rank_count = memory->rank_count;
    for (int32_t rank = 0; rank < memory->rank_count; rank++) {
        channel->parts[rank] = memory->parts[rank].base;
        channel->controls[rank] = (cuda_control_t *)(void *)transport->memory.parts[rank].base;
    }
    channel->group_report = transport->report;
    channel->windows =
        (const cuda_window_part_t *)(const void *)(transport->memory.parts[memory->rank].base +
                                                   cuda_transport_table_offset());
    channel->delay_seed = exchange->delay_seed;
}

void cuda_tally_add(const cuda_exchange_t *exchange, const cuda_channel_t *channel,
                    cuda_tally_t *sum)
{
    const CUdeviceptr source = (CUdeviceptr)(uintptr_t)&channel->counters->tally;
    CUstream stream = exchange->transport->stream;
    if (cuda()->cuMemcpyAsync((CUdeviceptr)(uintptr_t)exchange->copied, source, sizeof(*sum),
                              stream) != CUDA_SUCCESS ||
        cuda()->cuStreamSynchronize(stream) != CUDA_SUCCESS) {
        return; /* the context is lost, and the next call says so */
    }
    for (int phase = 0; phase < CUDA_PHASE_COUNT; phase++) {
        sum->phase_ns[phase] += exchange->copied->phase_ns[phase];
    }
    sum->op_count += exchange->copied->op_count;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

cuda_blocks_t cuda_share_blocks(const cuda_exchange_t *exchange, int64_t send_sms,
                                int64_t follow_sms, int64_t tokens, int64_t tokens_per_block)
{
    const cuda_transport_t *transport = exchange->transport;
    const int64_t share =
        smaller(transport->device.sm_count / transport->ranks_on_device, CUDA_BLOCK_COUNT_MAX);
    const int64_t useful = (tokens + tokens_per_block - 1) / tokens_per_block;
    int64_t send = smaller(send_sms, useful > 1 ? useful : 1);
    const int64_t wanted = send + smaller(follow_sms, useful);
    const int64_t total = smaller(wanted, share > 1 ? share : 1);
    send = total * send / wanted;
    return (cuda_blocks_t){(uint32_t)(send > 1 ? send : 1), (uint32_t)total};
}

moxie_status_t cuda_launch(const cuda_exchange_t *exchange, cuda_kernel_t kernel, uint32_t blocks,
                           uint32_t threads, uint32_t shared_bytes, const void *args,
                           moxie_stream_t stream, cuda_launch_order_t order)
{
    CUlaunchAttribute overlap = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                 .value.programmaticStreamSerializationAllowed = 1};
    const CUlaunchConfig config = {.gridDimX = blocks,
                                   .gridDimY = 1,
                                   .gridDimZ = 1,
                                   .blockDimX = threads,
                                   .blockDimY = 1,
                                   .blockDimZ = 1,
                                   .sharedMemBytes = shared_bytes,
                                   .hStream = stream,
                                   .attrs = &overlap,
                                   .numAttrs = order == CUDA_LAUNCH_AHEAD && exchange->overlaps};
    void *parameters[] = {(void *)(uintptr_t)args};
    return cuda_check(
        cuda()->cuLaunchKernelEx(&config, exchange->kernels[kernel], parameters, NULL),
        "launching a kernel");
}

int cuda_is_capturing(moxie_stream_t stream)
{
    CUstreamCaptureStatus state = CU_STREAM_CAPTURE_STATUS_NONE;
    return cuda()->cuStreamIsCapturing(stream, &state) != CUDA_SUCCESS ||
           state != CU_STREAM_CAPTURE_STATUS_NONE;
}

uint64_t cuda_timeout_ns(const cuda_exchange_t *exchange)
{
    shm_transport_t *host = exchange->transport->host;
    const int64_t timeout_us =
        host->first_timeout_us > 0 ? host->first_timeout_us : host->timeout_us;
    host->first_timeout_us = 0;
    return (uint64_t)timeout_us * 1000u;
}
