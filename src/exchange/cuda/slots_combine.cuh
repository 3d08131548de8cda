/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine in low latency: a block makes the partials of some of the rows that this rank was sent,
 * writes them home and tells so; then it sums what comes home of its own tokens.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_COMBINE_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_COMBINE_CUH

#include "exchange/cuda/slots_partials_tagged.cuh"

namespace moxie
{

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
template <int count, bool is_plain, bool is_expert_major> struct partial_pieces {
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
                sum_partial<count, is_plain, is_expert_major>(
                    args, slot_of(args.call, rows[i].home, rows[i].row), columns[i], numbers[i]);
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
                    is_plain || args.wire_is_bf16, numbers[i]);
            }
        }
    }
};

/* All threads: this block's partials. The first are on their way before it is known whether they
 * may be stored. False: they may not. */
template <int count, bool is_plain, bool is_expert_major>
__device__ __forceinline__ bool push_partials(const cuda_slots_combine_args_t &args,
                                              slots_combine_shared &shared, int32_t row_count)
{
    partial_pieces<count, is_plain, is_expert_major> pieces;
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

/* The same of partials that are not plain. */
template <bool is_expert_major>
__device__ __noinline__ bool push_any_partials(const cuda_slots_combine_args_t &args,
                                               slots_combine_shared &shared, int32_t row_count)
{
    return has_wide_rows(args, args.source)
               ? push_partials<wide_count, false, is_expert_major>(args, shared, row_count)
               : push_partials<1, false, is_expert_major>(args, shared, row_count);
}

/* All threads: the flags of this block's partials, once these are complete. */
__device__ inline void raise_partials(const cuda_slots_combine_args_t &args,
                                      slots_combine_shared &shared, int32_t row_count)
{
    const cuda_slots_call_t &call = args.call;
    __syncthreads();
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < row_count; i += (int32_t)blockDim.x) {
        const homeward_row row = homeward(args, i);
        if (i == (int32_t)threadIdx.x) {
            slots_dawdle(call, shared.op.epoch, 16 + (uint32_t)i);
            __threadfence_system();
        }
        if (row.row < shared.counts[row.home]) {
            store_flag(slots_at<uint32_t>(call, row.home, call.slots.returned_offset) +
                           slot_of(call, call.channel.rank, row.row),
                       shared.op.epoch);
        }
    }
}

/* All threads of a block that moves rows. */
template <slots_way way>
__device__ inline void send_partials(const cuda_slots_combine_args_t &args,
                                     slots_combine_shared &shared)
{
    const int32_t row_count = homeward_count(args, shared);
    if constexpr (way == SLOTS_TAGGED) {
        slots_mark(shared.op, CUDA_PHASE_PREPARE);
        slots_dawdle(args.call, shared.op.epoch, 16 + threadIdx.x / 32);
        if (has_plain_partials(args)) {
            push_tagged<2, piece_depth, true>(args, shared, row_count);
        } else {
            push_any_tagged(args, shared, row_count);
        }
    } else {
        const bool is_pushed =
            has_plain_partials(args)
                ? push_partials<wide_count, true, way == SLOTS_EXPERT_MAJOR>(args, shared,
                                                                             row_count)
                : push_any_partials<way == SLOTS_EXPERT_MAJOR>(args, shared, row_count);
        if (!is_pushed) {
            return;
        }
        raise_partials(args, shared, row_count);
        if (threadIdx.x == 0) {
            shared.memory.partials_epoch = shared.op.epoch;
        }
    }
    slots_mark(shared.op, CUDA_PHASE_MOVE);
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
template <int count, bool is_plain>
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
                                    is_plain || args.wire_is_bf16, numbers[i]);
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
    const int out_is_bf16 = is_plain || args.out_is_bf16;
    store_numbers<count>(args.out + token * call.route.hidden * (out_is_bf16 ? 2 : 4), column,
                         out_is_bf16, sum);
}

/* All threads: the result of a token. */
template <int count, bool is_plain>
__device__ __forceinline__ void sum_token(const cuda_slots_combine_args_t &args,
                                          const slots_combine_shared &shared, int64_t token)
{
    const int32_t piece_count = (int32_t)((args.call.route.hidden + count - 1) / count);
#pragma unroll 1
    for (int32_t piece = (int32_t)threadIdx.x; piece < piece_count; piece += (int32_t)blockDim.x) {
        sum_columns<count, is_plain>(args, shared, token, (int64_t)piece * count);
    }
}

/* The same of a result that is not plain. */
__device__ __noinline__ void sum_any_token(const cuda_slots_combine_args_t &args,
                                           const slots_combine_shared &shared, int64_t token)
{
    if (has_wide_rows(args, args.out)) {
        sum_token<wide_count, false>(args, shared, token);
    } else {
        sum_token<1, false>(args, shared, token);
    }
}

/* All threads: the result of a token, once its partials have come. False: they will not. */
template <slots_way way>
__device__ __forceinline__ bool receive_token(const cuda_slots_combine_args_t &args,
                                              slots_combine_shared &shared, int64_t token)
{
    const bool is_plain = has_plain_results(args);
    if constexpr (way == SLOTS_TAGGED) {
        if (is_plain) {
            sum_tagged<2, true>(args, shared, token);
        } else {
            sum_any_tagged(args, shared, token);
        }
        __syncthreads();
        return !shared.op.is_lost && !shared.op.is_refused;
    }
    await_partials(args, shared);
    if (shared.op.is_lost || shared.op.is_refused) {
        return false;
    }
    if (is_plain) {
        sum_token<wide_count, true>(args, shared, token);
    } else {
        sum_any_token(args, shared, token);
    }
    return true;
}

/* All threads of a block that moves rows: the results of its tokens; shared.rows is of the first.
 */
template <slots_way way>
__device__ inline void receive_partials(const cuda_slots_combine_args_t &args,
                                        slots_combine_shared &shared)
{
    for (int64_t token = turn_of_block(); token < shared.token_count; token += turn_count()) {
        if (!receive_token<way>(args, shared, token)) {
            return;
        }
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

/* Each way has a kernel of its own, so that none has the code of the others between. */
template <slots_way way>
__device__ __forceinline__ void slots_combine(const cuda_slots_combine_args_t &args)
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
            send_partials<way>(args, shared);
        }
        __syncthreads();
        if (receives(args.call) && !shared.op.is_lost && args.out != nullptr) {
            receive_partials<way>(args, shared);
        }
    }
    slots_end(args.call, shared);
}

extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_combine(const __grid_constant__ cuda_slots_combine_args_t args)
{
    slots_combine<SLOTS_RANK_MAJOR>(args);
}

extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_combine_expert_major(const __grid_constant__ cuda_slots_combine_args_t args)
{
    slots_combine<SLOTS_EXPERT_MAJOR>(args);
}

extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_combine_tagged(const __grid_constant__ cuda_slots_combine_args_t args)
{
    slots_combine<SLOTS_TAGGED>(args);
}

} // namespace moxie

#endif
