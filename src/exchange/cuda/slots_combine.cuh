/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine in low latency: a block makes the partials of some of the rows that this rank was sent,
 * writes them home and tells so; then it sums what comes home of its own tokens.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_COMBINE_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_COMBINE_CUH

#include "exchange/cuda/slots.cuh"

namespace moxie
{

/* Partials of a token that are on their way together. */
constexpr int partial_depth = 4;

struct slots_combine_shared : slots_block {
    int32_t counts[CUDA_RANK_COUNT_MAX]; /* rows that each rank sent here */
    int32_t count_max;
};

/* All threads: what there is to send. */
__device__ inline void read_counts(const cuda_slots_combine_args_t &args,
                                   slots_combine_shared &shared)
{
    const cuda_channel_t &channel = args.call.channel;
    if (threadIdx.x < 32) {
        const int32_t rank = lane_index();
        const int32_t count =
            rank < channel.rank_count
                ? args.call.route.row_counts[rank * channel.rank_count + channel.rank]
                : 0;
        if (rank < CUDA_RANK_COUNT_MAX) {
            shared.counts[rank] = count;
        }
        const int32_t count_max = __reduce_max_sync(all_lanes, count);
        if (rank == 0) {
            shared.count_max = count_max;
        }
    }
    __syncthreads();
}

/* A row that this block sends home: number `row` of those that `home` sent; none: row is -1. */
struct homeward_row {
    int32_t home;
    int32_t row;
};

/* Number i of them. Blocks take one row of each rank in turn. */
__device__ __forceinline__ homeward_row homeward(const cuda_slots_combine_args_t &args,
                                                 const slots_combine_shared &shared, int32_t i)
{
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t unit = turn_of_block() + i * turn_count();
    const int32_t row = unit / rank_count;
    const int32_t home = (unit - row * rank_count + args.call.channel.rank + 1) % rank_count;
    return {home, row < shared.counts[home] ? row : -1};
}

/* Numbers of a partial, from a column on. */
template <int count>
__device__ __forceinline__ void sum_partial(const cuda_slots_combine_args_t &args, int64_t slot,
                                            int64_t column, float (&sum)[count])
{
    const cuda_slots_call_t &call = args.call;
    const int64_t row_bytes = call.route.hidden * (args.source_is_bf16 ? 2 : 4);
    if (call.route.layout == 1) {
        load_numbers<count>(args.source + slot * row_bytes, column, args.source_is_bf16, sum);
        return;
    }
    const int32_t topk = call.route.topk;
    const int32_t *rows = call.slots.rows + slot * topk;
    const float *weights =
        slots_at<float>(call, call.channel.rank, call.slots.weights_offset) + slot * topk;
#pragma unroll
    for (int j = 0; j < count; j++) {
        sum[j] = 0.0f;
    }
    for (int32_t k = 0; k < topk; k++) {
        const int64_t row = rows[k];
        if (row < 0) {
            continue;
        }
        const float weight = args.unweighted ? 1.0f : weights[k];
        float numbers[count];
        load_numbers<count>(args.source + row * row_bytes, column, args.source_is_bf16, numbers);
#pragma unroll
        for (int j = 0; j < count; j++) {
            sum[j] = fmaf(weight, numbers[j], sum[j]);
        }
    }
}

__device__ __forceinline__ char *partial_at(const cuda_slots_combine_args_t &args, int32_t home,
                                            int32_t from, int32_t row)
{
    const cuda_slots_call_t &call = args.call;
    return slots_at<char>(call, home, call.slots.partials_offset) +
           slot_of(call, from, row) * call.slots.partial_bytes;
}

/* All threads: this block's partials, `count` columns a thread at a time. Loads of some go ahead of
 * their stores. */
template <int count>
__device__ __forceinline__ void push_partials(const cuda_slots_combine_args_t &args,
                                              const slots_combine_shared &shared, int32_t row_count)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t piece_count = (int32_t)((call.route.hidden + count - 1) / count);
#pragma unroll 1
    for (int32_t first = (int32_t)threadIdx.x; first < row_count * piece_count;
         first += piece_depth * (int32_t)blockDim.x) {
        float numbers[piece_depth][count];
        char *targets[piece_depth];
        int32_t columns[piece_depth];
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            const int32_t unit = first + i * (int32_t)blockDim.x;
            const int32_t number = unit / piece_count;
            const homeward_row row =
                number < row_count ? homeward(args, shared, number) : homeward_row{0, -1};
            columns[i] = (unit - number * piece_count) * count;
            targets[i] = nullptr;
            if (row.row >= 0) {
                targets[i] = partial_at(args, row.home, call.channel.rank, row.row);
                sum_partial<count>(args, slot_of(call, row.home, row.row), columns[i], numbers[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            if (targets[i] != nullptr) {
                store_numbers<count>(targets[i], columns[i], args.wire_is_bf16, numbers[i]);
            }
        }
    }
}

/* Whether rows and results are such that a thread can take 8 columns at a time. */
__device__ __forceinline__ bool has_wide_rows(const cuda_slots_combine_args_t &args,
                                              const void *rows)
{
    return reinterpret_cast<uint64_t>(rows) % 16 == 0 && args.call.route.hidden % wide_count == 0;
}

/* All threads of a block that moves rows. */
__device__ inline void send_partials(const cuda_slots_combine_args_t &args,
                                     slots_combine_shared &shared)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t unit_count = shared.count_max * call.channel.rank_count;
    const int32_t row_count = unit_count > turn_of_block()
                                  ? (unit_count - turn_of_block() + turn_count() - 1) / turn_count()
                                  : 0;
    await_credit(call, shared.op, shared.memory.partials_epoch);
    if (shared.op.is_lost || shared.op.is_refused) {
        return;
    }
    if (has_wide_rows(args, args.source)) {
        push_partials<wide_count>(args, shared, row_count);
    } else {
        push_partials<1>(args, shared, row_count);
    }
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < row_count; i += (int32_t)blockDim.x) {
        const homeward_row row = homeward(args, shared, i);
        if (i == (int32_t)threadIdx.x) {
            dawdle(call.channel, shared.op.epoch, 16 + (uint32_t)i);
            __threadfence_system();
        }
        if (row.row >= 0) {
            store_flag(slots_at<uint32_t>(call, row.home, call.slots.returned_offset) +
                           slot_of(call, call.channel.rank, row.row),
                       shared.op.epoch);
        }
    }
    if (threadIdx.x == 0) {
        shared.memory.partials_epoch = shared.op.epoch;
    }
}

/* All threads: until the partials of this block's tokens have come. */
__device__ inline void await_partials(const cuda_slots_combine_args_t &args,
                                      slots_combine_shared &shared, int64_t token_count)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    const uint32_t *returned =
        slots_at<uint32_t>(call, call.channel.rank, call.slots.returned_offset);
    const uint32_t epoch = shared.op.epoch;
    for (int32_t i = (int32_t)threadIdx.x;; i += (int32_t)blockDim.x) {
        const int64_t token = turn_of_block() + (int64_t)(i / rank_count) * turn_count();
        const int32_t rank = i % rank_count;
        if (token >= token_count) {
            break;
        }
        const int32_t row = call.route.first_rows[token * rank_count + rank];
        if (row >= 0) {
            const uint32_t *flag = returned + slot_of(call, rank, row);
            slots_await(call, shared.op, rank, [=] { return load_flag(flag) == epoch; });
        }
    }
    __syncthreads();
}

/* `count` columns of a token: the sum of its partials, by rank. */
template <int count>
__device__ __forceinline__ void sum_token(const cuda_slots_combine_args_t &args, int64_t token,
                                          int64_t column)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    const int32_t *rows = call.route.first_rows + token * rank_count;
    float sum[count] = {};
    for (int32_t first = 0; first < rank_count; first += partial_depth) {
        float numbers[partial_depth][count];
        bool is_there[partial_depth];
#pragma unroll
        for (int i = 0; i < partial_depth; i++) {
            const int32_t row = first + i < rank_count ? rows[first + i] : -1;
            is_there[i] = row >= 0;
            if (is_there[i]) {
                load_numbers<count>(partial_at(args, call.channel.rank, first + i, row), column,
                                    args.wire_is_bf16, numbers[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < partial_depth; i++) {
#pragma unroll
            for (int j = 0; j < count; j++) {
                sum[j] = is_there[i] ? fmaf(1.0f, numbers[i][j], sum[j]) : sum[j];
            }
        }
    }
    store_numbers<count>(args.out + token * call.route.hidden * (args.out_is_bf16 ? 2 : 4), column,
                         args.out_is_bf16, sum);
}

/* All threads: the results of this block's tokens. */
template <int count>
__device__ __forceinline__ void sum_tokens(const cuda_slots_combine_args_t &args,
                                           int64_t token_count)
{
    const int32_t piece_count = (int32_t)((args.call.route.hidden + count - 1) / count);
    for (int64_t token = turn_of_block(); token < token_count; token += turn_count()) {
#pragma unroll 1
        for (int32_t piece = (int32_t)threadIdx.x; piece < piece_count;
             piece += (int32_t)blockDim.x) {
            sum_token<count>(args, token, (int64_t)piece * count);
        }
    }
}

__device__ inline void clerk_combine(const cuda_slots_combine_args_t &args,
                                     slots_combine_shared &shared)
{
    const cuda_slots_call_t &call = args.call;
    if ((call.halves & CUDA_HALF_SEND) != 0) {
        say_begun(call, shared.op);
        if (threadIdx.x == 0) {
            clerk_forget(call);
        }
        operation_offer(call.channel, shared.op, call.offer, nullptr);
    }
    if (receives(call)) {
        (void)clerk_judge(call, shared.op, call.slots.report->has_dispatched != 0);
        clerk_report(call, shared.op);
    }
}

extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_combine(const __grid_constant__ cuda_slots_combine_args_t args)
{
    __shared__ slots_combine_shared shared;
    slots_begin(args.call, shared);
    if (shared.op.is_lost) {
        return;
    }
    if (is_clerk()) {
        clerk_combine(args, shared);
        slots_end(args.call, shared);
        return;
    }
    const bool has_dispatched = args.call.slots.report->has_dispatched != 0;
    if (sends(args.call) && has_dispatched) {
        read_counts(args, shared);
        send_partials(args, shared);
    }
    __syncthreads();
    if (receives(args.call) && has_dispatched && !shared.op.is_lost && args.out != nullptr) {
        const int64_t token_count = *args.call.route.token_count;
        await_partials(args, shared, token_count);
        if (shared.op.is_lost || shared.op.is_refused) { /* what has come is of no use */
        } else if (has_wide_rows(args, args.out)) {
            sum_tokens<wide_count>(args, token_count);
        } else {
            sum_tokens<1>(args, token_count);
        }
    }
    slots_end(args.call, shared);
}

} // namespace moxie

#endif
