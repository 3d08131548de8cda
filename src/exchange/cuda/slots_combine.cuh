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
    int32_t has_dispatched;
    int64_t token_count;
    int32_t counts[CUDA_RANK_COUNT_MAX]; /* rows that each rank sent here */
    int32_t count_max;
    int32_t rows[CUDA_RANK_COUNT_MAX]; /* those of this rank's token at hand at each rank */
};

/* A lane a rank: where the partials of a token come from; -1: there is none. */
__device__ __forceinline__ int32_t row_of_lane(const cuda_slots_combine_args_t &args, int64_t token)
{
    const int32_t rank_count = args.call.channel.rank_count;
    return lane_index() < rank_count && token >= 0 && token < args.call.route.token_count_max
               ? args.call.route.first_rows[token * rank_count + lane_index()]
               : -1;
}

/* What dispatch has left, asked for by a warp each, so that the loads are on their way together. */
struct dispatch_look {
    int32_t number; /* of the lane's rank: rows sent here, or this block's token's row there */
    int32_t has_dispatched;
    int64_t token_count;
};

__device__ __forceinline__ dispatch_look look_at_dispatch(const cuda_slots_combine_args_t &args)
{
    const cuda_channel_t &channel = args.call.channel;
    const int32_t warp = (int32_t)threadIdx.x / 32;
    dispatch_look look = {};
    if (warp == 0 && lane_index() < channel.rank_count) {
        look.number = args.call.route.row_counts[lane_index() * channel.rank_count + channel.rank];
    } else if (warp == 1) {
        look.number = row_of_lane(args, turn_of_block());
    } else if (threadIdx.x == 64) {
        look.has_dispatched = args.call.slots.report->has_dispatched;
        look.token_count = *args.call.route.token_count;
    }
    return look;
}

/* All threads, before a barrier. */
__device__ __forceinline__ void keep_dispatch(slots_combine_shared &shared,
                                              const dispatch_look &look)
{
    if (threadIdx.x < 32) {
        if (lane_index() < CUDA_RANK_COUNT_MAX) {
            shared.counts[lane_index()] = look.number;
        }
        const int32_t count_max = __reduce_max_sync(all_lanes, look.number);
        if (lane_index() == 0) {
            shared.count_max = count_max;
        }
    } else if (threadIdx.x < 32 + CUDA_RANK_COUNT_MAX) {
        shared.rows[lane_index()] = look.number;
    } else if (threadIdx.x == 64) {
        shared.has_dispatched = look.has_dispatched;
        shared.token_count = look.token_count;
    }
}

/* A row that this block may send home: number `row` of those that `home` sent. */
struct homeward_row {
    int32_t home;
    int32_t row;
};

/* Number i of them. Blocks take one row of each rank in turn. */
__device__ __forceinline__ homeward_row homeward(const cuda_slots_combine_args_t &args, int32_t i)
{
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t unit = turn_of_block() + i * turn_count();
    const int32_t row = unit / rank_count;
    return {(unit - row * rank_count + args.call.channel.rank + 1) % rank_count, row};
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

/* Where a thread is among its block's pieces, `count` columns each: it has the same column of every
 * row, or columns that are as many as the block's threads apart. */
template <int count> struct piece_walk {
    int32_t number; /* of the row, for homeward() */
    int32_t column;

    __device__ __forceinline__ piece_walk() : number(0), column((int32_t)threadIdx.x * count)
    {
    }

    __device__ __forceinline__ void step(int64_t hidden)
    {
        column += (int32_t)blockDim.x * count;
        if (column >= hidden) {
            column = (int32_t)threadIdx.x * count;
            number++;
        }
    }
};

/* Pieces of partials on their way through a thread's registers. */
template <int count> struct partial_pieces {
    piece_walk<count> walk; /* to the piece behind them */
    float numbers[piece_depth][count];
    homeward_row rows[piece_depth]; /* -1: none */
    int32_t columns[piece_depth];

    /* The next pieces of `row_count` rows. */
    __device__ __forceinline__ void load(const cuda_slots_combine_args_t &args,
                                         const slots_combine_shared &shared, int32_t row_count)
    {
        const int64_t hidden = args.call.route.hidden;
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            rows[i] = homeward(args, walk.number);
            columns[i] = walk.column;
            if (walk.number < row_count && walk.column < hidden &&
                rows[i].row < shared.counts[rows[i].home]) {
                sum_partial<count>(args, slot_of(args.call, rows[i].home, rows[i].row), columns[i],
                                   numbers[i]);
            } else {
                rows[i].row = -1;
            }
            walk.step(hidden);
        }
    }

    __device__ __forceinline__ void store(const cuda_slots_combine_args_t &args) const
    {
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            if (rows[i].row >= 0) {
                store_numbers<count>(
                    partial_at(args, rows[i].home, args.call.channel.rank, rows[i].row), columns[i],
                    args.wire_is_bf16, numbers[i]);
            }
        }
    }
};

/* Rows that this block may have to send: some of them were not sent by their rank. */
__device__ __forceinline__ int32_t homeward_count(const cuda_slots_combine_args_t &args,
                                                  const slots_combine_shared &shared)
{
    const int32_t left = shared.count_max * args.call.channel.rank_count - turn_of_block();
    return left > 0 ? (left + turn_count() - 1) / turn_count() : 0;
}

/* All threads: this block's partials. The first are on their way before it is known whether they
 * may be stored. False: they may not. */
template <int count>
__device__ __forceinline__ bool push_partials(const cuda_slots_combine_args_t &args,
                                              slots_combine_shared &shared, int32_t row_count)
{
    partial_pieces<count> pieces;
    pieces.load(args, shared, row_count);
    await_credit(args.call, shared.op, shared.memory.partials_epoch);
    if (shared.op.is_lost || shared.op.is_refused) {
        return false;
    }
    slots_mark(shared.op, CUDA_PHASE_PREPARE);
    pieces.store(args);
#pragma unroll 1
    while (pieces.walk.number < row_count) {
        pieces.load(args, shared, row_count);
        pieces.store(args);
    }
    return true;
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
    const int32_t row_count = homeward_count(args, shared);
    const bool is_pushed = has_wide_rows(args, args.source)
                               ? push_partials<wide_count>(args, shared, row_count)
                               : push_partials<1>(args, shared, row_count);
    if (!is_pushed) {
        return;
    }
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < row_count; i += (int32_t)blockDim.x) {
        const homeward_row row = homeward(args, i);
        if (i == (int32_t)threadIdx.x) {
            dawdle(call.channel, shared.op.epoch, 16 + (uint32_t)i);
            __threadfence_system();
        }
        if (row.row < shared.counts[row.home]) {
            store_flag(slots_at<uint32_t>(call, row.home, call.slots.returned_offset) +
                           slot_of(call, call.channel.rank, row.row),
                       shared.op.epoch);
        }
    }
    slots_mark(shared.op, CUDA_PHASE_MOVE);
    if (threadIdx.x == 0) {
        shared.memory.partials_epoch = shared.op.epoch;
    }
}

/* All threads: until the partials of a token have come. */
__device__ inline void await_partials(const cuda_slots_combine_args_t &args,
                                      slots_combine_shared &shared)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank = (int32_t)threadIdx.x;
    if (rank < call.channel.rank_count && shared.rows[rank] >= 0) {
        const uint32_t *flag =
            slots_at<uint32_t>(call, call.channel.rank, call.slots.returned_offset) +
            slot_of(call, rank, shared.rows[rank]);
        const uint32_t epoch = shared.op.epoch;
        slots_await(call, shared.op, rank, [=] { return load_flag(flag) == epoch; });
    }
    __syncthreads();
}

/* `count` columns of a token: the sum of its partials, by rank. */
template <int count>
__device__ __forceinline__ void sum_columns(const cuda_slots_combine_args_t &args,
                                            const slots_combine_shared &shared, int64_t token,
                                            int64_t column)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    float sum[count] = {};
    for (int32_t first = 0; first < rank_count; first += partial_depth) {
        float numbers[partial_depth][count];
        bool is_there[partial_depth];
#pragma unroll
        for (int i = 0; i < partial_depth; i++) {
            const int32_t row = first + i < rank_count ? shared.rows[first + i] : -1;
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

/* All threads: the result of a token. */
template <int count>
__device__ __forceinline__ void sum_token(const cuda_slots_combine_args_t &args,
                                          const slots_combine_shared &shared, int64_t token)
{
    const int32_t piece_count = (int32_t)((args.call.route.hidden + count - 1) / count);
#pragma unroll 2
    for (int32_t piece = (int32_t)threadIdx.x; piece < piece_count; piece += (int32_t)blockDim.x) {
        sum_columns<count>(args, shared, token, (int64_t)piece * count);
    }
}

/* All threads of a block that moves rows: the results of its tokens; shared.rows is of the first.
 */
__device__ inline void receive_partials(const cuda_slots_combine_args_t &args,
                                        slots_combine_shared &shared)
{
    const bool is_wide = has_wide_rows(args, args.out);
    for (int64_t token = turn_of_block(); token < shared.token_count; token += turn_count()) {
        await_partials(args, shared);
        if (shared.op.is_lost || shared.op.is_refused) {
            return;
        }
        is_wide ? sum_token<wide_count>(args, shared, token) : sum_token<1>(args, shared, token);
        if (token + turn_count() < shared.token_count) {
            __syncthreads();
            if (threadIdx.x < 32) {
                const int32_t row = row_of_lane(args, token + turn_count());
                if (lane_index() < CUDA_RANK_COUNT_MAX) {
                    shared.rows[lane_index()] = row;
                }
            }
            __syncthreads();
        }
    }
}

/* The clerk's speaker, which is all of it. */
__device__ inline void speak_combine(const cuda_slots_combine_args_t &args,
                                     slots_combine_shared &shared)
{
    const cuda_slots_call_t &call = args.call;
    operation &op = shared.op;
    if ((call.halves & CUDA_HALF_SEND) != 0) {
        speaker_offer(call, op);
        if (lane_index() == 0) {
            clerk_forget(call);
        }
    }
    if (!receives(call)) {
        return;
    }
    speaker_judge(call, op);
    if (lane_index() == 0 && !op.is_lost && !op.is_refused && !shared.has_dispatched) {
        op.verdict.kind = kind_of(call.offer);
        refuse(op, CUDA_REFUSED_NO_DISPATCH, 0, -1, -1);
    }
    __syncwarp();
}

extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_combine(const __grid_constant__ cuda_slots_combine_args_t args)
{
    __shared__ slots_combine_shared shared;
    await_previous_kernel();
    let_next_kernel_launch();
    const slots_look first = look_first(args.call);
    const dispatch_look left = look_at_dispatch(args);
    slots_begin(args.call, shared, first);
    keep_dispatch(shared, left);
    __syncthreads();
    if (is_clerk()) {
        if (is_speaker() && !shared.op.is_lost) {
            speak_combine(args, shared);
        }
        __syncthreads();
        slots_mark(shared.op, CUDA_PHASE_MEET);
        clerk_report(args.call, shared.op);
    } else if (shared.has_dispatched && !shared.op.is_lost) {
        if (sends(args.call)) {
            send_partials(args, shared);
        }
        __syncthreads();
        if (receives(args.call) && !shared.op.is_lost && args.out != nullptr) {
            receive_partials(args, shared);
        }
    }
    slots_end(args.call, shared);
}

} // namespace moxie

#endif
